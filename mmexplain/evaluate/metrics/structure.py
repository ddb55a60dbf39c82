"""Structural similarity of two maps, and similarity of their edges (Adebayo et al., NeurIPS 2018, section 2.1).

Both see magnitudes as pictures at the resolution of the model's input: a map is upsampled bilinearly, as it is for
display, its magnitude divided by the 99th percentile and cut off at 1. The windows are those of the paper's appendix B:
5 × 5 pixels for SSIM, cells of 16 × 16 pixels for HOG. It feeds HOG maps in −1 .. 1 and does not say what range SSIM
is told; the authors' pictures of pixel gradients add up magnitudes over colours, where this takes the largest.

Maps that have nothing in common are not at 0: the positive parts of two 7 × 7 grids of noise have an SSIM of about .3
at 224 pixels, as both are smooth; noise in every pixel has a HOG similarity of about .25 at 64 pixels and .15 at 224,
as all cells share the grain of the pixels.

Maps are ``[h, w]``, or ``[t, h, w]`` of a clip: the mean over those of its frames in which neither map is flat.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.geometry import Size
from mmexplain.interpolate import centres, interpolate
from mmexplain.means import mean
from mmexplain.ranks import correlation

WINDOW = 5
"""Pixels on each side of the window of SSIM."""

CELL = 16
"""Pixels on each side of a cell of HOG; 3 × 3 cells make a block."""

PERCENTILE = 0.99
"""Of the magnitudes; what is above shows as white."""


def ssim(one: Tensor, other: Tensor, size: Size) -> float:
    """Mean structural similarity (Wang et al., IEEE TIP 2004, eq. 13) with a uniform window, sample covariances and a
    range of 1.

    Args:
        one: ``[h, w]`` or ``[t, h, w]``.
        other: as many axes.
        size: of the model's input, pixels.

    Returns:
        −1 to 1; NaN where the magnitudes of a map are all the same or not finite, or the input is smaller than the
        window.
    """
    return _compared(one, other, size, WINDOW, _ssim)


def hog_similarity(one: Tensor, other: Tensor, size: Size) -> float:
    """Pearson's correlation of the histograms of oriented gradients (Dalal & Triggs, CVPR 2005) of two maps: 9
    orientations, blocks normalised by L2-Hys, as scikit-image does by default.

    Args:
        one: ``[h, w]`` or ``[t, h, w]``.
        other: as many axes.
        size: of the model's input, pixels.

    Returns:
        −1 to 1; NaN where the magnitudes of a map are all the same or not finite, or the input is smaller than a
        block (48 × 48 pixels).
    """
    return _compared(one, other, size, 3 * CELL, _hog_similarity)


def as_picture(values: Tensor, size: Size) -> NDArray[np.float64]:
    """A map as a picture: magnitudes in 0 .. 1, ``[*t, *size]`` float64; a map without any stays 0 throughout."""
    shown = values.detach().cpu().double().abs()
    for axis, count in zip((-2, -1), size, strict=True):
        shown = interpolate(shown, centres(count, shown.shape[axis]), axis)
    # Of a map that is 0 nearly everywhere the percentile is 0.
    white = float(np.quantile(shown.numpy(), PERCENTILE)) or float(shown.max()) or 1.0
    found: NDArray[np.float64] = (shown / white).clamp(max=1).numpy()
    return found


def _compared(
    one: Tensor,
    other: Tensor,
    size: Size,
    least: int,
    measure: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> float:
    if min(size) < least or not all(bool(values.isfinite().all()) for values in (one, other)):
        return math.nan
    frames = [(values[None] if values.ndim == 2 else values).abs() for values in (one, other)]
    pictures = [as_picture(values, size) for values in frames]
    # Upsampling rounds: whether a map is flat is told before it.
    told = [values.flatten(1).amax(1) > values.flatten(1).amin(1) for values in frames]
    which = torch.nonzero(told[0].cpu() & told[1].cpu()).flatten().tolist()
    return mean(measure(pictures[0][frame], pictures[1][frame]) for frame in which)


def _ssim(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    from skimage.metrics import structural_similarity

    return float(structural_similarity(one, other, win_size=WINDOW, data_range=1.0))


def _hog_similarity(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    from skimage.feature import hog

    features: list[Any] = [hog(picture, pixels_per_cell=(CELL, CELL)) for picture in (one, other)]
    return correlation(*(torch.from_numpy(values) for values in features))
