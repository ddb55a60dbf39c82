"""Insertion and deletion: how fast the score rises or falls as pixels come or go, the most relevant first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SIDE, SIGMA = 11, 5.0
"""Of the Gaussian that blurs the photo before insertion, pixels: as in the authors' released code."""


def order(values: Tensor) -> Tensor:
    """Pixels by falling relevance: ``[n]`` indices into the flattened map ``[*P]``. Equal ones, and so all of a flat
    map, stand in reading order; NaN, where the map says nothing, comes last."""
    return values.flatten().nan_to_num(-torch.inf, torch.inf, -torch.inf).argsort(descending=True, stable=True)


def counts(pixels: int, steps: int) -> list[int]:
    """How many of the pixels are changed at each of ``steps + 1`` points, from none to all of them."""
    return [round(pixels * step / steps) for step in range(steps + 1)]


def exchanged(image: Tensor, other: Tensor, ordered: Tensor, numbers: Sequence[int]) -> Tensor:
    """The photo with its first pixels taken from another one.

    Petsiuk, Das & Saenko, "RISE", BMVC 2018, "causal metric". Deletion: the photo, pixels taken from black. Insertion:
    the blurred photo, pixels taken from the sharp one.

    Args:
        image: ``[C, *P]``.
        other: as large, or broadcast.
        ordered: ``[n]``, see :func:`order`.
        numbers: how many pixels, m times.

    Returns:
        ``[m, C, *P]``.
    """
    place = torch.empty_like(ordered)
    place[ordered] = torch.arange(len(ordered), device=ordered.device)
    place = place.reshape(image.shape[1:])
    return torch.stack([torch.where(place < number, other, image) for number in numbers])


def blurred(image: Tensor) -> Tensor:
    """A photo ``[C, h, w]`` or a clip ``[C, t, h, w]``, each frame blurred by a Gaussian of :data:`SIGMA` pixels that
    is cut to :data:`SIDE`; beyond the border the border's pixels go on."""
    exact = image.float() if image.dtype != torch.float64 else image
    at = torch.arange(SIDE, dtype=exact.dtype, device=image.device) - SIDE // 2
    kernel = (-(at**2) / (2 * SIGMA**2)).exp()
    kernel = kernel / kernel.sum()
    frames = functional.pad(exact.reshape(-1, 1, *image.shape[-2:]), [SIDE // 2] * 4, mode="replicate")
    frames = functional.conv2d(functional.conv2d(frames, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return frames.reshape(image.shape).to(image.dtype)


def area(scores: Sequence[float], shares: Sequence[float]) -> float:
    """Area under the curve of scores over the share of pixels that were changed, by the trapezoid rule.

    Args:
        scores: m of them.
        shares: increasing from 0 to 1, m of them.
    """
    return float(torch.trapezoid(torch.tensor(scores, dtype=torch.float64), torch.tensor(shares, dtype=torch.float64)))
