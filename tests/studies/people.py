"""Studies with people about photos and maps that are known."""

from __future__ import annotations

from pathlib import Path

import torch

from mmexplain.explanation import MapKey
from mmexplain.jobs.store import Store
from tests.gallery.stores import KEY, Told, photo, spot, write

OTHER = MapKey("input", "guided-backprop")
PLACES = {"cat": (1, 1), "dog": (4, 4), "eel": (1, 4)}
"""Where the map of each class is, in cells of 6×6."""


def store(folder: Path, count: int = 12, *, model: str = "good", pixels: bool = True, places=PLACES) -> Store:
    """Photos that hold a cat and a dog, and an eel that the model believes in least, by one method or two."""
    inputs = []
    for number in range(count):
        grid = spot(*places.values())
        noise = torch.randn(len(places), 3, 48, 48, generator=torch.Generator().manual_seed(number))
        maps = {KEY: grid, OTHER: noise} if pixels else {KEY: grid}
        source = photo(folder / "photos" / f"{number}.jpg")
        probabilities = [0.6, 0.3, 0.05][: len(places)]
        named = {"kind": "class", "labels": list(places), "source": source}
        methods = frozenset({OTHER.method} if pixels else ())
        inputs.append(Told(f"photo-{number}.jpg", "", maps, probabilities, pixel_methods=methods, **named))
    return write(folder / model, inputs, task="classify", model=model)
