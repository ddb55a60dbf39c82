"""Whether a map points at an object: numbers of one map, in the pixels of the photo."""

from __future__ import annotations

from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.masks import Mask

TOLERANCE = 15
"""Pixels of the photo by which the maximum may miss, in the tolerant pointing game."""


def hit(point: tuple[int, ...] | None, mask: Mask) -> float:
    """1 where a pixel ``(x, y)`` lies in the mask, else 0; no point (a flat map has none) is no hit.

    The pointing game of Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, §5.1, takes the
    maximum of a map, and for the mask the object with all that is nearer than :data:`TOLERANCE` to one of its pixels
    (:func:`mmexplain.evaluate.masks.near`), a circle, as TorchRay computes it.
    """
    return 0.0 if point is None else float(mask[point[1], point[0]])


def is_difficult(scene: Scene, name: str) -> bool:
    """Whether a class of a photo is of the difficult subset: its boxes sum to less than a quarter of the photo, and
    there is another class in it (Zhang et al. 2016, §5.1)."""
    height, width = scene.size
    total = sum(thing.area for thing in scene.of(name))
    return total < 0.25 * height * width and len(scene.names) > 1


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
