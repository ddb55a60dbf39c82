"""Seeds as files that trainers of segmentation read: PASCAL VOC's layout, and SEC's localisation cues.

::

    SegmentationClass/NAME.png             cues: 0 background, 1 … classes, 255 ignored; indexed, VOC's palette
    SegmentationClassAug/NAME.png          every pixel labelled by GrabCut, as trainers take for true masks
    JPEGImages/NAME.jpg                    the photos, upright, if they are asked for
    ImageSets/Segmentation/train.txt       names, one a line
    labelmap.txt                           class:red,green,blue:: in the order of the numbers, as CVAT and Datumaro do
    localization_cues.safetensors          "0_labels" [n], "0_cues" [3, m] (class, row, column of 41 × 41), uint8
    input_list.txt                         NAME.jpg and the number of its cues, a line each

``safetensors.numpy.load_file("localization_cues.safetensors")`` is the dict of arrays that the published code of SEC
unpickles from ``localization_cues.pickle``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from mmexplain.render.whole import whole
from mmexplain.studies.annotation.cues import IGNORE, LabelMap, on_grid
from mmexplain.studies.annotation.photo_files import copy_upright

GRID = 41
"""Cells of SEC's output along each side."""


def palette() -> list[int]:
    """VOC's 256 colours as 768 numbers: the bits of a label's number, three at a time, from the highest bit of red,
    green and blue downwards."""
    colours = np.zeros((256, 3), np.uint8)
    rest = np.arange(256)
    for bit in range(7, -1, -1):
        for channel in range(3):
            colours[:, channel] |= (((rest >> channel) & 1) << bit).astype(np.uint8)
        rest >>= 3
    return [int(value) for value in colours.ravel()]


def indexed(labels: LabelMap) -> Image.Image:
    """A label map as an indexed picture in VOC's colours."""
    picture = Image.fromarray(labels, "L")
    picture.putpalette(palette())
    return picture


class SeedFiles:
    """Writes them, photo by photo.

    Args:
        folder: to write to.
        numbers: class → its number.
        photos: copy the photos too.

    Attributes:
        names: of the photos so far.
    """

    def __init__(self, folder: Path, numbers: Mapping[str, int], photos: bool) -> None:
        self._folder, self._numbers, self._photos = folder, dict(numbers), photos
        self._cues: dict[str, NDArray[np.uint8]] = {}
        self._folders: dict[Path, None] = {}
        self.names: list[str] = []

    def add(self, name: str, photo: Path, present: Sequence[int], seeds: LabelMap, refined: LabelMap | None) -> None:
        """Write one photo's masks.

        Args:
            name: of its files, without suffix.
            photo: where it lies.
            present: numbers of its classes, whether or not anything is marked as one of them.
            seeds: its cues.
            refined: every pixel labelled, if that was asked for.

        Raises:
            InputError: the system refused.
        """
        for kind, labels in (("SegmentationClass", seeds), ("SegmentationClassAug", refined)):
            if labels is not None:
                path = self._folder / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                self._folders[path.parent] = None
                with whole(path) as partial:
                    indexed(labels).save(partial, "PNG", optimize=True)
        if self._photos:
            copy_upright(photo, self._folder / "JPEGImages" / f"{name}.jpg")
            self._folders[self._folder / "JPEGImages"] = None
        grid, place = on_grid(seeds, GRID), len(self.names)
        marked = np.nonzero(grid != IGNORE)
        self._cues[f"{place}_labels"] = np.array(sorted(present), dtype=np.uint8)
        self._cues[f"{place}_cues"] = np.stack([grid[marked], *marked]).astype(np.uint8)
        self.names.append(name)

    def finish(self) -> list[Path]:
        """Write the lists; what was written, folders as one.

        Raises:
            InputError: the system refused.
        """
        table = np.array(palette()).reshape(-1, 3)
        colours = [("background", 0), *sorted(self._numbers.items(), key=lambda pair: pair[1])]
        lists = {
            "ImageSets/Segmentation/train.txt": self.names,
            "input_list.txt": [f"{name}.jpg {place}" for place, name in enumerate(self.names)],
            "labelmap.txt": [f"{name}:{','.join(map(str, table[number]))}::" for name, number in colours],
        }
        for name, lines in lists.items():
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            with whole(self._folder / name) as partial:
                partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with whole(self._folder / "localization_cues.safetensors") as partial:
            save_file(self._cues, partial)
        return [
            *self._folders,
            *(self._folder / name for name in lists),
            self._folder / "localization_cues.safetensors",
        ]
