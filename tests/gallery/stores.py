"""Stores whose every map is known, written as a run writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.manifest import Manifest, freeze
from mmexplain.jobs.rows import Rows
from mmexplain.jobs.shards import Shards
from mmexplain.jobs.store import MANIFEST, Store, open_store, save_settings
from mmexplain.picture import Picture
from mmexplain.targets import Target

HEIGHT, WIDTH = 60, 90
SQUASHED = Geometry.identity(HEIGHT, WIDTH).resize(48, 48)
CROPPED = Geometry.identity(HEIGHT, WIDTH).resize(48, 72).crop(0, 12, 48, 48)
"""A sixth of the photo is cut off on its left, and on its right."""

FUNCTION = {"a", "on", "the"}
KEY = MapKey("conv", "gradcam")


@dataclass
class Told:
    """One input: what is said of it, and its maps ``[K, *S]`` by one layer and method, or by several."""

    id: str
    words: str
    maps: torch.Tensor | dict[MapKey, torch.Tensor]
    probabilities: Sequence[float] | None = None
    geometry: Geometry = SQUASHED
    kind: str = "word"
    labels: Sequence[str] | None = None
    source: str = "/nowhere/photo.jpg"
    error: Exception | None = None
    pixel_methods: frozenset[str] = frozenset()
    spans: Sequence[tuple[int, int]] = field(default_factory=list)


def spot(*cells: tuple[int, int], size: int = 6, value: float = 1.0) -> torch.Tensor:
    """A map for each cell (row, column) that is ``value`` there and zero elsewhere: ``[len(cells), size, size]``."""
    maps = torch.zeros(len(cells), size, size)
    for number, (row, column) in enumerate(cells):
        maps[number, row, column] = value
    return maps


def explanation(told: Told, task: str, model: str) -> Explanation:
    words = told.words.split()
    labels = list(told.labels if told.labels is not None else words)
    of_text = told.kind == "word"
    targets = [
        Target(label, told.kind, (number,), number if of_text else None, label not in FUNCTION)
        for number, label in enumerate(labels)
    ]
    known = told.probabilities
    return Explanation(
        task=task,
        model=model,
        text=told.words or None,
        targets=targets,
        scores=torch.arange(len(targets)).float(),
        probabilities=None if known is None else torch.tensor(list(known)),
        maps=told.maps if isinstance(told.maps, dict) else {KEY: told.maps},
        geometry=told.geometry,
        picture=Picture(torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8), told.source),
        words=words,
        pixel_methods=told.pixel_methods,
    )


def write(
    root: Path,
    inputs: Sequence[Told],
    *,
    task: str = "caption",
    model: str = "toy",
    shard: int = 2,
    shards: Sequence[int] | None = None,
) -> Store:
    """A store of these inputs; only the files numbered ``shards`` of it, where they are given."""
    fs, folder = LocalFileSystem(), str(root)
    items = [
        Item(number, told.id, told.source, caption=told.words if task == "caption" else None)
        for number, told in enumerate(inputs)
    ]
    root.mkdir(parents=True)
    count = freeze(items, f"{folder}/{MANIFEST}", fs)
    pixel_methods = tuple(sorted({name for told in inputs for name in told.pixel_methods}))
    job = Job(
        task, model, batch=1, shard=shard, count=count, pixel_methods=pixel_methods,
        manifest=Manifest.open(f"{folder}/{MANIFEST}", fs).digest,
    )  # fmt: skip
    save_settings(fs, folder, job)
    for number in range(job.shards) if shards is None else shards:
        rows = Rows(None)
        start, stop = job.stretch(number)
        for item, told in zip(items[start:stop], inputs[start:stop], strict=True):
            if told.error is not None:
                rows.fail(item, told.error)
            else:
                rows.add(item, explanation(told, task, model))
        Shards(fs, folder).write(number, rows.table())
    return open_store(root)


def photo(path: Path, height: int = HEIGHT, width: int = WIDTH) -> str:
    """A photo on disk, red on its left half and blue on its right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 220
    pixels[:, width // 2 :, 2] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)
    return str(path)
