"""Regions of a photo, and taking them out: by inpainting, by a blur or by the mean colour.

Photos are ``[h, w, 3]`` uint8 RGB, regions bool ``[h, w]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmexplain.errors import InputError, did_you_mean
from mmexplain.evaluate.masks import Mask

FILLS = {
    "inpaint": "painted in from its border (Telea 2004)",
    "blur": "blurred",
    "mean": "painted in the photo's mean colour",
}
"""How a region is removed, and what becomes of it then."""

INPAINT_RADIUS = 5
"""Pixels round one that is painted, which its colour is taken from."""

BLUR = 1 / 16
"""Standard deviation of the blur, as a share of the photo's shorter side."""

Pixels = NDArray[np.uint8]


def known_fills(names: Sequence[str]) -> list[str]:
    """The names without repetition.

    Raises:
        InputError: there is none, one is unknown, or OpenCV is wanted and not installed.
    """
    if not names:
        raise InputError(f"name at least one way to fill a removed region: {', '.join(FILLS)}")
    for name in names:
        if name not in FILLS:
            raise InputError(f"unknown fill {name!r}{did_you_mean(name, FILLS)}; there are: {', '.join(FILLS)}")
    if "inpaint" in names and find_spec("cv2") is None:
        raise InputError("inpainting needs OpenCV: pip install 'mmexplain[studies]', or fill with 'blur' or 'mean'")
    return list(dict.fromkeys(names))


def strongest(values: NDArray[np.floating], count: int) -> Mask | None:
    """Bool ``[h, w]``: the ``count`` pixels where a map is largest, of equal ones the first; fewer where fewer are
    positive, for a map that is zero marks nothing. None for a map that marks nothing at all, or is not finite."""
    if not np.isfinite(values).all() or not (values > 0).any():
        return None
    marked = np.zeros(values.shape, dtype=bool)
    marked.flat[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return marked & (values > 0)


def moved(region: Mask, random: np.random.Generator) -> Mask:
    """The same region elsewhere: mirrored or not along each axis, and rolled round the photo's edges by a random
    distance. Its size stays, and its shape where no edge cuts it; every place is as likely as any other."""
    across, down = random.choice((1, -1), 2)
    height, width = region.shape
    found: Mask = np.roll(region[::down, ::across], (random.integers(height), random.integers(width)), (0, 1))
    return found


class Filled:
    """A photo without a region.

    Args:
        photo: ``[h, w, 3]`` uint8.
    """

    def __init__(self, photo: Pixels) -> None:
        self.photo = photo
        self._fills: dict[str, Callable[[Mask], NDArray[np.generic]]] = {
            "inpaint": self._inpainted,
            "blur": lambda region: self._blurred[region],
            "mean": lambda region: self._mean,
        }

    def __call__(self, region: Mask, fill: str) -> Pixels:
        """A copy in which the region ``[h, w]`` is filled by one of :data:`FILLS`."""
        found = self.photo.copy()
        if region.any():
            found[region] = self._fills[fill](region)
        return found

    def _inpainted(self, region: Mask) -> Pixels:
        import cv2

        painted: Any = cv2.inpaint(self.photo, region.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA)
        found: Pixels = painted[region]
        return found

    @cached_property
    def _blurred(self) -> Pixels:
        from skimage.filters import gaussian

        sigma = BLUR * min(self.photo.shape[:2])
        blurred = gaussian(self.photo, sigma, mode="nearest", channel_axis=-1, preserve_range=True)
        found: Pixels = blurred.round().astype(np.uint8)
        return found

    @cached_property
    def _mean(self) -> Pixels:
        found: Pixels = self.photo.reshape(-1, 3).mean(0).round().astype(np.uint8)
        return found
