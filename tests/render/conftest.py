"""Small explanations with maps that are known cell by cell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.targets import Target

HEIGHT, WIDTH = 60, 90
GRID = 6
FUNCTION = {"a", "on", "the"}

GEOMETRIES = {
    "squashed": Geometry.identity(HEIGHT, WIDTH).resize(48, 48),
    "cropped": Geometry.identity(HEIGHT, WIDTH).resize(48, 72).crop(0, 12, 48, 48),
    "padded": Geometry.identity(HEIGHT, WIDTH).resize(32, 48).pad(0, 8, 0, 8),
}

Maker = Callable[..., Explanation]


def build(
    words: str = "a dog runs on the grass",
    *,
    geometry: str = "cropped",
    keys: tuple[tuple[str, str], ...] = (("encoder.6", "gradcam"), ("encoder.6", "attention")),
    pixels: bool = False,
    spots: dict[int, tuple[int, int]] | None = None,
    extra: tuple[Target, ...] = (),
) -> Explanation:
    """Each word's map is one-hot: at cell ``spots[number]`` (row, column), else on the diagonal."""
    said = words.split()
    targets = [Target(word, "word", (i,), i, word not in FUNCTION) for i, word in enumerate(said)] + list(extra)
    maps = torch.zeros(len(targets), GRID, GRID)
    for number in range(len(targets)):
        row, column = (spots or {}).get(number, (number % GRID, number % GRID))
        maps[number, row, column] = 2.0 + number
    made = {MapKey(*key): maps.clone() for key in keys}
    if pixels:
        generator = torch.Generator().manual_seed(0)
        made[MapKey("input", "guided-backprop")] = torch.randn(len(targets), 3, 48, 48, generator=generator)
    scores = -torch.linspace(0.1, 3, len(targets))
    return Explanation(
        task="caption",
        model="toy-captioner",
        text=words,
        targets=targets,
        scores=scores,
        probabilities=scores.exp(),
        maps=made,
        geometry=GEOMETRIES[geometry],
        picture=Picture(torch.full((HEIGHT, WIDTH, 3), 128, dtype=torch.uint8), "/photos/meadow.jpg"),
        words=said,
        provenance={"seed": 0, "versions": {"torch": "2.15"}},
        seconds=0.25,
        pixel_methods=frozenset({"guided-backprop"}),
    )


@pytest.fixture
def make() -> Maker:
    return build


@pytest.fixture(params=sorted(GEOMETRIES))
def geometry_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
