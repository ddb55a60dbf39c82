"""Label maps that people drew, and how well others agree with them: intersection over union of whole data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.intervals import LEAST, LEVEL, RESAMPLES, Mean
from mmexplain.studies.annotation.cues import IGNORE, LabelMap

VOC = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""PASCAL VOC's classes in the order of the numbers that its masks and all its trainers use, from 1 on."""

LARGEST = IGNORE - 1

Counts = NDArray[np.float64]


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Class → its number in label maps: VOC's own if all are classes of VOC, and from 1 on in alphabetical order
    otherwise.

    Raises:
        InputError: more classes than a label map of 8 bits can tell apart.
    """
    if set(names) <= set(VOC):
        return {name: VOC.index(name) + 1 for name in VOC}
    if len(set(names)) > LARGEST:
        raise InputError(f"{len(set(names))} classes: a mask of 8 bits tells {LARGEST} apart; take a part of the data")
    return {name: number for number, name in enumerate(sorted(set(names)), start=1)}


def truth(scene: Scene, numbers: Mapping[str, int]) -> LabelMap | None:
    """What people drew, uint8 ``[h, w]``: 0 for all that is of no class in ``numbers``, :data:`IGNORE` for VOC's
    contours and COCO's crowds. Of COCO's objects that overlap the smaller one is in front. None for a photo of which
    there are no masks.

    Raises:
        InputError: a mask of VOC's layout is damaged.
    """
    path = scene.path.parent.parent / "SegmentationClass" / f"{scene.path.stem}.png"
    if scene.path.parent.name == "JPEGImages" and path.is_file():
        return _voc(path, scene, numbers)
    if not any(thing.polygons or thing.runs for thing in scene.things):
        return None
    found = np.zeros(scene.size, np.uint8)
    masks = [(thing, thing.mask(scene.size)) for thing in scene.things]
    for thing, mask in sorted(masks, key=lambda pair: -int(pair[1].sum())):
        if thing.crowd:
            if thing.name in numbers:
                found[mask & (found == 0)] = IGNORE
        else:
            found[mask] = numbers.get(thing.name, 0)
    return found


def _voc(path: Path, scene: Scene, numbers: Mapping[str, int]) -> LabelMap | None:
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise InputError(f"{str(path)!r} is no mask of class numbers: its pixels are {image.mode}")
            drawn = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as a mask: {error}") from None
    if drawn.shape != scene.size:
        return None
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for number, name in enumerate(VOC, start=1):
        table[number] = numbers.get(name, 0)
    found: LabelMap = table[drawn]
    return found


@dataclass
class Agreement:
    """Pixel counts of label maps against the truth, a row for each photo.

    Args:
        count: of numbers, the background's 0 among them.

    Attributes:
        shared, found, true: pixels of each number in both, in the label map and in the truth, ``[photos][count]``.
    """

    count: int
    shared: list[Counts] = field(default_factory=list)
    found: list[Counts] = field(default_factory=list)
    true: list[Counts] = field(default_factory=list)

    def add(self, labels: LabelMap, truth: LabelMap) -> None:
        """Count a photo. Pixels that the truth ignores are left out; those that ``labels`` ignores are of no class."""
        counted = truth != IGNORE
        one, other = labels[counted], truth[counted]
        self.shared.append(self._per_number(one[one == other]))
        self.found.append(self._per_number(one))
        self.true.append(self._per_number(other))

    def _per_number(self, values: LabelMap) -> Counts:
        return np.bincount(values, minlength=IGNORE + 1)[: self.count].astype(np.float64)

    def iou(self) -> dict[int, float]:
        """Number → intersection over union of all photos together, of the numbers that occur."""
        shared, union = self._iou()
        return {number: float(shared[:, number].sum() / total) for number, total in enumerate(union.sum(0)) if total}

    def _iou(self) -> tuple[Counts, Counts]:
        shared, found, true = (np.array(rows).reshape(-1, self.count) for rows in (self.shared, self.found, self.true))
        return shared, found + true - shared

    def mean_iou(self, seed: int = 0, least: int = 0) -> Mean:
        """The mean of the classes' intersection over union, as VOC has it: counts are first summed over photos.

        Args:
            seed: of the draws of photos.
            least: number of the first class: 0 with the background, 1 without.
        """
        shared, union = self._iou()
        return mean_of_ratios(shared[:, least:], union[:, least:], seed)

    def precision(self, objects: bool, seed: int = 0) -> Mean:
        """Of what is marked as object (or as background), the share that is one, of that class."""
        shared, found, _ = self._side(objects)
        return mean_of_ratios(shared, found, seed)

    def recall(self, objects: bool, seed: int = 0) -> Mean:
        """Of what is object (or background), the share that is marked so, as that class."""
        shared, _, true = self._side(objects)
        return mean_of_ratios(shared, true, seed)

    def _side(self, objects: bool) -> tuple[Counts, Counts, Counts]:
        part = slice(1, None) if objects else slice(0, 1)
        rows = (np.array(rows).reshape(-1, self.count) for rows in (self.shared, self.found, self.true))
        shared, found, true = (values[:, part].sum(1, keepdims=True) for values in rows)
        return shared, found, true


def better(one: Agreement, other: Agreement, seed: int = 0) -> Mean:
    """By how much the mean IoU of ``one`` is above that of ``other`` on the same photos, without the background; both
    are drawn again together."""
    counts = (agreement._iou() for agreement in (one, other))
    values, draws = zip(*(_ratios(shared[:, 1:], union[:, 1:], seed) for shared, union in counts), strict=True)
    return _mean(values[0] - values[1], draws[0] - draws[1], len(one.shared))


def mean_of_ratios(above: Counts, below: Counts, seed: int = 0) -> Mean:
    """The mean over columns of the ratio of sums over photos, with the percentile bootstrap's interval over photos.

    Args:
        above: ``[photos, columns]``.
        below: ``[photos, columns]``; columns where it is 0 throughout have no ratio and are left out, in draws too.
        seed: of the draws.
    """
    return _mean(*_ratios(above, below, seed), len(above))


def _ratios(above: Counts, below: Counts, seed: int) -> tuple[float, Counts]:
    photos = len(above)
    if not photos or not below.any():
        return float("nan"), np.full(RESAMPLES, np.nan)
    times = np.random.default_rng(seed).multinomial(photos, np.full(photos, 1 / photos), RESAMPLES).astype(np.float64)
    times = np.concatenate([np.ones((1, photos)), times])
    sums, totals = times @ above, times @ below
    ratios = np.divide(sums, totals, out=np.full(sums.shape, np.nan), where=totals > 0)
    some = ~np.isnan(ratios).all(1)
    values = np.full(len(ratios), np.nan)
    values[some] = np.nanmean(ratios[some], 1)
    return float(values[0]), values[1:]


def _mean(value: float, draws: Counts, photos: int) -> Mean:
    if photos < LEAST or np.isnan(draws).all():
        return Mean(value, float("nan"), float("nan"), photos, photos)
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Mean(value, float(low), float(high), photos, photos)
