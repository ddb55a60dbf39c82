"""Whether a map points at an object: numbers of one map, in the pixels of the photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmexplain.evaluate.data.scene import Mask, Scene

TOLERANCE = 15
"""Pixels by which the point may miss the object."""


def hit(mask: Mask, point: tuple[int, ...] | None, tolerance: float = TOLERANCE) -> bool:
    """Whether a pixel ``(x, y)`` lies on the object, or nearer than ``tolerance`` pixels to one of its pixels
    (Zhang et al. 2016, §5.1, as TorchRay computes it). No point (a flat map has none) is no hit."""
    if point is None:
        return False
    x, y = point[:2]
    if tolerance <= 0:
        return bool(mask[y, x])
    reach = int(np.ceil(tolerance))
    top, left = max(0, y - reach), max(0, x - reach)
    rows, columns = np.nonzero(mask[top : y + reach + 1, left : x + reach + 1])
    return bool(((rows + top - y) ** 2 + (columns + left - x) ** 2 < max(tolerance**2, 1)).any())


def is_difficult(scene: Scene, name: str) -> bool:
    """Whether a class of a photo is of the difficult subset: its boxes sum to less than a quarter of the photo, and
    there is another class in it (Zhang et al. 2016, §5.1)."""
    height, width = scene.size
    total = sum(thing.area for thing in scene.of(name))
    return total < 0.25 * height * width and len(scene.names) > 1


def energy_inside(heat: NDArray[np.floating], boxes: Mask) -> float:
    """The share of the map's positive part that lies in the boxes (energy-based pointing game, Wang et al. 2020 §4.3).

    A map with nothing positive in it, or one that is not finite where it is seen, has 0. Unseen pixels (NaN) hold
    nothing.
    """
    energy = np.nan_to_num(np.maximum(heat, 0), nan=0.0, posinf=np.inf)
    total = float(energy.sum(dtype=np.float64))
    if not 0 < total < np.inf:
        return 0.0
    return float(energy[boxes].sum(dtype=np.float64)) / total


def point_or_reject(present: bool, hits: bool, strength: float, strongest: float, share: float) -> bool:
    """Whether one of the five likeliest classes counts as right (Selvaraju et al. 2017, §4.2): its map may be rejected
    because its maximum is low, which is right for a class that is not in the photo and wrong for one that is.

    Args:
        present: whether the class is in the photo.
        hits: whether its map points at it.
        strength: maximum of the map.
        strongest: the largest of the five maxima.
        share: rejects a map whose maximum is below this share of the strongest, or not positive; 0 rejects nothing.
    """
    rejected = share > 0 and (strength <= 0 or strength < share * strongest)
    return not present if rejected else present and hits
