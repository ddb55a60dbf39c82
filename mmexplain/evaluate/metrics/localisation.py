"""How well a heatmap draws the box of an object: numbers of one map.

A heatmap is float ``[H, W]`` in the pixels of the photo, NaN where the model saw nothing; boxes are edges
``(left, top, right, bottom)`` in these pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmexplain.evaluate.masks import Mask
from mmexplain.geometry import Box

Heat = NDArray[np.floating]


def segment_box(heat: Heat, share: float = 0.15) -> Box | None:
    """The box around the largest connected segment of pixels with at least ``share`` of the map's maximum
    (Selvaraju et al. 2017 §4.1, after Zhou et al. 2016).

    Pixels that touch at a corner are connected (8-connectivity; the papers do not say). Of segments of one size that
    which comes first in reading order is taken.

    Returns:
        ``(left, top, right, bottom)`` in pixels of ``heat``; None where the map says nothing (it is flat, not positive
        anywhere, infinite, or unseen altogether).
    """
    if not speaks(heat):
        return None
    with np.errstate(invalid="ignore"):
        above = heat >= share * np.nanmax(heat)
    segments, _ = ndimage.label(above, structure=np.ones((3, 3)))
    largest = int(np.bincount(segments.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(segments)[largest]
    return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)


def iou(one: Box, other: Box) -> float:
    """Intersection over union; 0 where both are empty."""
    across, down = (min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1))
    shared = max(0.0, across) * max(0.0, down)
    total = sum(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (one, other)) - shared
    return shared / total if total > 0 else 0.0


def loc(heat: Heat, boxes: Mask, delta: float) -> float:
    """Loc(δ) = inside / (box + outside) (Chattopadhay et al. 2018, §4): the map is min-max normalised and its pixels
    over ``delta`` are counted inside and outside the boxes of the class; "box" is all that these cover.

    Args:
        heat: ``[H, W]``, NaN where unseen.
        boxes: bool ``[H, W]``, the pixels that they cover.
        delta: δ, 0 to 1.

    Returns:
        0 to 1; NaN for a map that says nothing (see :func:`speaks`), and where the boxes cover no pixel.
    """
    covered = int(boxes.sum())
    if not covered or not speaks(heat):
        return math.nan
    low, high = np.nanmin(heat), np.nanmax(heat)
    with np.errstate(invalid="ignore"):
        above = (heat - low) / (high - low) > delta
    return float((above & boxes).sum() / (covered + (above & ~boxes).sum()))


def speaks(heat: Heat) -> bool:
    """Whether a map says anything: it is finite where it was seen, positive somewhere, and not flat."""
    seen = heat[~np.isnan(heat)]
    return bool(seen.size and np.isfinite(seen).all() and seen.max() > max(0.0, float(seen.min())))
