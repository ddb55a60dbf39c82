"""A photo with the objects that people marked in it, whatever the layout that it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmexplain.evaluate.masks import Mask, box_mask, polygon_mask, union
from mmexplain.geometry import Box, Size


@dataclass(frozen=True)
class Runs:
    """COCO's uncompressed run-length mask.

    Attributes:
        size: ``(h, w)`` of the mask, which may be larger or smaller than the photo.
        counts: lengths of runs, column after column, of outside and inside in turn.
    """

    size: Size
    counts: tuple[int, ...]

    def mask(self, size: Size) -> Mask:
        """Bool ``[h, w]`` at another size: of each pixel the mask at its centre."""
        inside = np.arange(len(self.counts)) % 2 == 1
        whole = np.repeat(inside, self.counts).reshape(self.size, order="F")
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1) for n, m in zip(size, self.size, strict=True)
        )
        found: Mask = whole[rows][:, columns]
        return found


@dataclass(frozen=True)
class Thing:
    """One object.

    Attributes:
        name: of its class, as the data has it.
        box: ``(left, top, right, bottom)``: edges in pixels of the photo, where pixel i covers [i, i + 1].
        polygons: its outline, each ``(x0, y0, x1, y1, …)``; none where it is not given.
        runs: its mask, where that is given instead.
        difficult: VOC's flag for what is hardly to be recognised.
        crowd: COCO's flag for a group that was marked as one.
    """

    name: str
    box: Box
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: Runs | None = None
    difficult: bool = False
    crowd: bool = False

    @property
    def area(self) -> float:
        """Of the box, in pixels; 0 for one that is turned inside out."""
        left, top, right, bottom = self.box
        return max(0.0, right - left) * max(0.0, bottom - top)

    def mask(self, size: Size) -> Mask:
        """Bool ``[h, w]``: its outline or its mask, and its box where it has neither."""
        if self.runs is not None:
            return self.runs.mask(size)
        if not self.polygons:
            return box_mask(self.box, size)
        return union((polygon_mask(polygon, size) for polygon in self.polygons), size)


@dataclass(frozen=True)
class Scene:
    """One photo.

    Attributes:
        key: names it among the others of its data.
        path: of the file.
        size: ``(h, w)`` that the marks were made for.
        things: what was marked.
    """

    key: str
    path: Path
    size: Size
    things: tuple[Thing, ...]

    @property
    def names(self) -> list[str]:
        """Classes of the objects, each once, in their order."""
        return list(dict.fromkeys(thing.name for thing in self.things))

    def of(self, name: str) -> list[Thing]:
        """The objects of a class."""
        return [thing for thing in self.things if thing.name == name]

    def mask(self, name: str) -> Mask:
        """Bool ``[h, w]``: the objects of a class, crowds and difficult ones too."""
        return union((thing.mask(self.size) for thing in self.of(name)), self.size)

    def boxes(self, name: str, crowds: bool = True) -> Mask:
        """Bool ``[h, w]``: their boxes, with those of crowds or without."""
        things = [thing for thing in self.of(name) if crowds or not thing.crowd]
        return union((box_mask(thing.box, self.size) for thing in things), self.size)
