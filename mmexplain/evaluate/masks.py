"""Things that people marked as bool masks ``[h, w]``: a pixel belongs to what its centre lies in.

Boxes are edges ``(left, top, right, bottom)`` in pixels, where pixel i covers [i, i + 1]. What has an extent but holds
no pixel's centre stands for the pixel under its middle, so that a thing smaller than a pixel is still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmexplain.geometry import Box, Size

Mask = NDArray[np.bool_]


def box_mask(box: Box, size: Size) -> Mask:
    """Bool ``[h, w]``: the pixels of a box, of which what reaches beyond the photo is cut off. One without an extent,
    or whose edges turn inside out, holds none."""
    y, x = (np.arange(n) + 0.5 for n in size)
    left, top, right, bottom = box
    held = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
    return held if held.any() else _middle(box, size)


def polygon_mask(outline: Sequence[float], size: Size) -> Mask:
    """Bool ``[h, w]``: the pixels of a polygon ``(x0, y0, x1, y1, …)``, by the even-odd rule if it crosses itself.

    As in a box, a centre on a left or upper edge belongs to it, one on a right or lower edge does not.
    """
    height, width = size
    corners = np.asarray(outline, dtype=np.float64).reshape(-1, 2)
    crossed = np.zeros((height, width + 1), dtype=np.intp)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = min(y0, y1), max(y0, y1)
        rows = np.arange(*(int(np.clip(np.ceil(y - 0.5), 0, height)) for y in (low, high)))
        if len(rows):
            at = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossed[rows, np.clip(np.ceil(at - 0.5), 0, width).astype(np.intp)] += 1
    held: Mask = crossed.cumsum(1)[:, :width] % 2 == 1
    if held.any():
        return held
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return _middle((float(left), float(top), float(right), float(bottom)), size)


def union(masks: Iterable[Mask], size: Size) -> Mask:
    """Bool ``[h, w]``: what lies in any of the masks."""
    found = np.zeros(size, dtype=bool)
    for mask in masks:
        found |= mask
    return found


def near(mask: Mask, distance: float, spacing: tuple[float, float] = (1.0, 1.0)) -> Mask:
    """Bool ``[h, w]``: the pixels of a mask, and those that are nearer than ``distance`` to one of them, in a circle
    from centre to centre.

    Args:
        mask: ``[h, w]``.
        distance: Euclidean.
        spacing: height and width of a pixel in the unit of the distance.
    """
    if not mask.any():
        return mask
    found: Mask = mask | (ndimage.distance_transform_edt(~mask, sampling=spacing) < distance)
    return found


def _middle(box: Box, size: Size) -> Mask:
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    found = np.zeros(size, dtype=bool)
    if left < right and top < bottom and 0 <= x < size[1] and 0 <= y < size[0]:
        found[int(y), int(x)] = True
    return found
