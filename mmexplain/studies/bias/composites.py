"""Composites for a case of bias that is known: objects cut from photos, on grounds cut from other photos."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mmexplain.errors import InputError
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.masks import Mask, box_mask, union
from mmexplain.io import load_image
from mmexplain.tasks.captioning.flickr8k import Photo

Taken = TypeVar("Taken")
SIDE = 224
"""Pixels of a composite's side."""
SMALLEST = 48
"""Pixels of the longer side of a cut-out in its photo, at least; half of that for the shorter side."""
LONGER = (80, 120)
"""Pixels of the longer side of a cut-out in a composite: from, to."""
LEAST_GROUND = 80
"""Pixels of the side of a ground in its photo as it is stored, at least."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object without its photo.

    Attributes:
        source: key of the photo.
        name: of the object's class.
        pixels: uint8 ``[h, w, 4]``, the last the mask, 0 or 255.
    """

    source: str
    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Ground:
    """A square of a photo without things on it.

    Attributes:
        path: of the photo's file, in which ``box`` counts.
        box: ``(left, top, right, bottom)``.
    """

    path: Path
    box: tuple[int, int, int, int]

    def cut(self) -> Image.Image:
        """The square, :data:`SIDE` pixels on each side, RGB."""
        return _decoded(self.path).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=self.box)


@dataclass(frozen=True, eq=False)
class Composite:
    """An object on a ground.

    Attributes:
        image: RGB, :data:`SIDE` pixels on each side.
        mask: bool ``[SIDE, SIDE]`` of the object.
        label: number of the object's class.
        ground: number of the kind of ground.
        source: key of the object's photo.
    """

    image: Image.Image
    mask: Mask
    label: int
    ground: int
    source: str


def cut_out(scene: Scene, names: Collection[str]) -> list[Cutout]:
    """The objects of some classes that are large enough, without crowds.

    Raises:
        InputError: the photo cannot be read, or has another size than the one that it was marked at.
    """
    found = []
    for thing in scene.things:
        if thing.name not in names or thing.crowd:
            continue
        mask = thing.mask(scene.size)
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if len(rows) < SMALLEST / 2 or len(columns) < SMALLEST / 2 or max(len(rows), len(columns)) < SMALLEST:
            continue
        image = _decoded(scene.path)
        if image.size != scene.size[::-1]:
            raise InputError(f"{str(scene.path)!r} is not of the size {scene.size} that it was marked at")
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        pixels = np.dstack([np.asarray(image)[part], mask[part].astype(np.uint8) * 255])
        found.append(Cutout(scene.key, thing.name, pixels))
    return found


def grounds(folder: Path, photos: Sequence[Photo], words: Collection[str], others: Collection[str]) -> list[Ground]:
    """Squares of photos that two of five captions or more tell to be of a kind, and none of another.

    Args:
        folder: in the layout of ``flickr8k``: photos squashed to a square, with the boxes of what captions name.
        photos: of it.
        words: that tell the kind.
        others: that tell the other.
    """
    found = []
    for photo in photos:
        said = [sum(not kind.isdisjoint(one.words) for one in photo.sentences) for kind in (set(words), set(others))]
        box = _free(photo) if said[0] >= 2 and not said[1] else None
        if box is not None:
            found.append(Ground(folder / "images" / photo.file, box))
    return found


def compose(cutout: Cutout, ground: Ground, label: int, kind: int, random: np.random.Generator) -> Composite:
    """Lay an object anywhere on a ground, mirrored or not, scaled to a side of :data:`LONGER`."""
    image, pixels = ground.cut(), Image.fromarray(cutout.pixels, "RGBA")
    scale = random.uniform(*LONGER) / max(pixels.size)
    width, height = (max(1, round(side * scale)) for side in pixels.size)
    pixels = pixels.resize((width, height), Image.Resampling.BICUBIC)
    if random.random() < 0.5:
        pixels = pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left, top = (int(random.integers(0, SIDE - side + 1)) for side in (width, height))
    image.paste(pixels, (left, top), pixels)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + height, left : left + width] = np.asarray(pixels)[..., 3] > 127
    return Composite(image, mask, label, kind, cutout.source)


def draw(
    cutouts: Mapping[int, Sequence[Cutout]],
    kinds: Mapping[int, Sequence[Ground]],
    counts: Mapping[tuple[int, int], int],
    random: np.random.Generator,
) -> list[Composite]:
    """As many composites of each label on each kind of ground as ``counts`` asks for. Photos, objects and grounds are
    each gone through in an order drawn at random before one is taken again."""
    made = []
    for (label, kind), count in counts.items():
        objects, places = _round(cutouts[label], count, random), _round(kinds[kind], count, random)
        made += [compose(one, ground, label, kind, random) for one, ground in zip(objects, places, strict=True)]
    return made


def _round(pool: Sequence[Taken], count: int, random: np.random.Generator) -> list[Taken]:
    order = np.concatenate([random.permutation(len(pool)) for _ in range(-(-count // len(pool)))])
    return [pool[place] for place in order[:count]]


def _free(photo: Photo) -> tuple[int, int, int, int] | None:
    """The largest square, in the photo's own proportions, that no box of a thing reaches into, in pixels of the
    squashed file; None where it is too small."""
    if photo.size is None:
        return None
    width, height = photo.size
    scale = SIDE / min(width, height)
    size = round(height * scale), round(width * scale)
    things = union(
        (
            box_mask((x0 * size[1], y0 * size[0], x1 * size[1], y1 * size[0]), size)
            for sentence in photo.sentences
            for phrase in sentence.phrases
            if phrase.kind != "scene"
            for x0, y0, x1, y1 in phrase.boxes
        ),
        size,
    )
    # Steps to the nearest thing or to the edge, as a king goes, are half the side of the largest square around a pixel.
    steps = ndimage.distance_transform_cdt(np.pad(~things, 1), metric="chessboard")[1:-1, 1:-1]
    row, column = np.unravel_index(int(steps.argmax()), steps.shape)
    reach = int(steps[row, column]) - 1
    if 2 * reach + 1 < LEAST_GROUND:
        return None
    down, across = SIDE / size[0], SIDE / size[1]
    left, right = round((column - reach) * across), round((column + reach + 1) * across)
    top, bottom = round((row - reach) * down), round((row + reach + 1) * down)
    return left, top, right, bottom


@lru_cache(maxsize=1024)
def _decoded(path: Path) -> Image.Image:
    return load_image(path).image
