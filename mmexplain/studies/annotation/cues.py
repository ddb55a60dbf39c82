"""Localisation cues for weakly supervised segmentation, after SEC (Kolesnikov & Lampert, ECCV 2016), and their
refinement by GrabCut (Rother, Kolmogorov & Blake, SIGGRAPH 2004).

Label maps are uint8 ``[h, w]``: 0 background, 1 … 254 classes, :data:`IGNORE` for pixels that no cue was given for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmexplain.errors import InputError
from mmexplain.evaluate.masks import Mask
from mmexplain.evaluate.metrics.localisation import Heat, speaks
from mmexplain.geometry import fit

IGNORE = 255
LabelMap = NDArray[np.uint8]
Strengths = Mapping[int, NDArray[np.float32]]
Conflicts = Literal["smallest", "strongest"]

SURE = 0.7
"""Share of a map's maximum from which on GrabCut must keep a pixel; the rest of a cue it may give back."""

ROUNDS = 2
"""In which GrabCut learns the colours of both sides and cuts again; five take twice as long and hardly change more."""

LONGEST = 512
"""Pixels of the longer side that GrabCut works at; its cut is brought back to larger photos pixel by pixel."""


def strength(heat: Heat) -> NDArray[np.float32]:
    """A map ``[h, w]`` as shares of its maximum, float32, NaN where unseen; nowhere anything for a map that says
    nothing."""
    if not speaks(heat):
        return np.zeros(heat.shape, np.float32)
    found: NDArray[np.float32] = (np.maximum(heat, 0) / np.nanmax(heat)).astype(np.float32)
    return found


def foreground(strengths: Strengths, threshold: float) -> dict[int, Mask]:
    """For each class bool ``[h, w]``: where its map has at least ``threshold`` of its maximum (0.2 in SEC, after Zhou
    et al. 2016)."""
    with np.errstate(invalid="ignore"):
        return {number: found >= threshold for number, found in strengths.items()}


def background_of_maps(strengths: Strengths, level: float) -> Mask:
    """Bool ``[h, w]``: what was seen, and where no class's map has more than ``level`` of its maximum. Nothing if no
    map says anything."""
    highest = np.max(list(strengths.values()), axis=0)
    if not np.nanmax(highest, initial=0) > 0:
        return np.zeros(highest.shape, bool)
    with np.errstate(invalid="ignore"):
        found: Mask = highest <= level
    return found


def background_of_saliency(saliency: Strengths, level: float) -> Mask:
    """Bool ``[h, w]``: the share ``level`` of what was seen that is least salient for any of the classes (SEC: 10 %
    of the gradient's magnitude, Simonyan et al. 2014)."""
    highest = np.max(list(saliency.values()), axis=0)
    if not np.nanmax(highest, initial=0) > 0:
        return np.zeros(highest.shape, bool)
    with np.errstate(invalid="ignore"):
        found: Mask = highest <= np.nanquantile(highest, level)
    return found


def label_map(cues: Mapping[int, Mask], background: Mask, strengths: Strengths, conflicts: Conflicts) -> LabelMap:
    """One label for each pixel. Cues of classes go before that of the background.

    Args:
        cues: number of a class → its cue.
        background: the cue of the background.
        strengths: number of a class → its map as shares of its maximum.
        conflicts: where cues of classes overlap, that of the smallest area is taken, as SEC does, or that of the
            strongest map.
    """
    found = np.full(background.shape, IGNORE, np.uint8)
    found[background] = 0
    if conflicts == "smallest":
        for number in sorted(cues, key=lambda one: -int(cues[one].sum())):
            found[cues[number]] = number
        return found
    numbers = np.array(list(cues), np.uint8)
    held = np.stack([np.where(cues[int(number)], strengths[int(number)], -1) for number in numbers])
    marked = held.max(0) >= 0
    found[marked] = numbers[held.argmax(0)][marked]
    return found


def centred(heat: Heat, count: int, threshold: float) -> NDArray[np.float32]:
    """A Gaussian in the middle of the photo, as wide as the photo is high and wide, in place of a map.

    Args:
        heat: the map, whose unseen pixels stay unseen.
        count: of pixels that ``threshold`` of its maximum shall cut out: as many as of the map.
        threshold: share of the maximum.
    """
    seen = ~np.isnan(heat)
    found = np.where(seen, np.float32(0), np.float32(np.nan))
    if not count:
        return found
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in heat.shape)
    squares = y[:, None] ** 2 + x**2
    last = np.partition(squares[seen], count - 1)[count - 1]
    # at the last pixel that belongs to it the Gaussian has just fallen to the threshold
    exponents = squares / last * math.log(threshold) if last else np.where(squares > 0, -np.inf, 0)
    found[seen] = np.exp(exponents[seen]) * (1 + 1e-6)
    return found


def grabcut(photo: NDArray[np.uint8], seeds: LabelMap, strengths: Strengths, seed: int = 0) -> LabelMap:
    """Every pixel labelled, along the edges of colours: GrabCut for each class against all else.

    What the class's map holds for sure (from :data:`SURE` of its maximum) is foreground, the rest of its cue probably;
    the cues of the background and of other classes are background, unmarked pixels probably. Where two classes claim a
    pixel, the one with the stronger map has it.

    Args:
        photo: uint8 RGB ``[h', w', 3]``, the whole photo at any size.
        seeds: ``[h, w]``, from :func:`label_map`.
        strengths: number of a class → its map as shares of its maximum.
        seed: of the first clusters of colours.

    Returns:
        ``[h, w]`` without :data:`IGNORE`.

    Raises:
        InputError: OpenCV is not installed.
    """
    cv2 = opencv()
    size = seeds.shape
    height, width = fit((size[0], size[1]), LONGEST)
    small = cv2.resize(np.ascontiguousarray(photo), (width, height), interpolation=cv2.INTER_AREA)

    def shrunk(values: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = values[_nearest(size[0], height)][:, _nearest(size[1], width)]
        return found

    marks = shrunk(seeds)
    best = np.full((height, width), -1, np.float32)
    found = np.zeros((height, width), np.uint8)
    for number, map_of in strengths.items():
        own = np.nan_to_num(shrunk(map_of))
        held = _cut(cv2, small, marks, number, own, seed)
        won = held & (own > best)
        found[won], best[won] = number, own[won]
    back: LabelMap = found[_nearest(height, size[0])][:, _nearest(width, size[1])]
    return back


def opencv() -> Any:
    """OpenCV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise InputError(
            "GrabCut needs OpenCV: pip install 'mmexplain[studies]', or leave it out with --no-grabcut"
        ) from None
    return cv2


def _cut(cv2: Any, photo: NDArray[np.uint8], marks: LabelMap, number: int, own: NDArray[np.float32], seed: int) -> Mask:
    """Bool: what GrabCut leaves of one class."""
    cue: Mask = marks == number
    trimap = np.full(marks.shape, cv2.GC_PR_BGD, np.uint8)
    trimap[(marks != IGNORE) & ~cue] = cv2.GC_BGD
    trimap[cue] = cv2.GC_PR_FGD
    trimap[cue & (own >= SURE)] = cv2.GC_FGD
    if not cue.any() or cue.all():
        return cue
    # the clusters that it starts from are drawn by OpenCV's own generator
    cv2.setRNGSeed(seed)
    background, foreground_ = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(photo, trimap, None, background, foreground_, ROUNDS, cv2.GC_INIT_WITH_MASK)
    kept: Mask = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    return kept


def _nearest(length: int, others: int) -> NDArray[np.intp]:
    """For each of ``others`` pixels of a side the one of ``length`` under its centre."""
    return ((np.arange(others) + 0.5) * length / others).astype(np.intp)


def on_grid(labels: LabelMap, cells: int) -> LabelMap:
    """A label map at the ``cells × cells`` places of a network's output that has its corners in those of the photo, as
    SEC's 41 × 41 of an input of 321 × 321 pixels has: cell i lies over pixel 8 i of the squashed photo."""
    side = 8 * (cells - 1) + 1
    rows, columns = (_nearest(length, side)[::8] for length in labels.shape)
    found: LabelMap = labels[rows][:, columns]
    return found
