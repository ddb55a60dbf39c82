"""Insertion and deletion: how fast the score rises or falls as pixels come or go, the most relevant first.

The causal metrics of Petsiuk, Das & Saenko, "RISE", BMVC 2018. Departures from the authors' released code
(github.com/eclique/RISE, ``evaluation.py``):

* Ties: there a reversed argsort puts equal pixels in an order that says where they are in the photo; here they are
  shuffled. A flat map has no order: its areas are undefined.
* Blur: both cut the Gaussian of 5 pixels to 11 × 11. There the convolution goes on with zeros beyond the border, here
  with the border's own pixels, so that the start of insertion has no dark frame.
* Deletion there goes to zeros of the normalised input, which is the mean grey; here to black, as the paper words it.
* Steps: there 224 pixels at a time (of 224 × 224: 224 steps); here their number is chosen, and a step holds as many
  pixels as that takes.
* Area: the trapezoid rule over the share of pixels, as there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SIDE, SIGMA = 11, 5.0
"""Of the Gaussian that blurs the photo before insertion, pixels, as in the authors' released code."""


def orders(values: Tensor) -> bool:
    """Whether a map ``[*P]`` puts pixels in an order at all: it is finite where it is not NaN, and not flat there."""
    seen = values[~values.isnan()]
    return bool(seen.numel() and seen.isfinite().all() and seen.max() > seen.min())


def order(values: Tensor, shuffle: Tensor) -> Tensor:
    """Pixels by falling relevance. Equal ones, such as all that a ReLU made zero, stand as they do in ``shuffle``: any
    order of their places, such as the reading order, would be a map of its own. NaN, where the map says nothing, comes
    last.

    Args:
        values: the map ``[*P]``, n pixels.
        shuffle: ``[n]``, a permutation; the same for all maps that are compared.

    Returns:
        ``[n]`` indices into the flattened map.
    """
    flat = values.flatten().nan_to_num(-torch.inf, torch.inf, -torch.inf)
    shuffle = shuffle.to(flat.device)
    return shuffle[flat[shuffle].argsort(descending=True, stable=True)]


def counts(pixels: int, steps: int) -> list[int]:
    """How many of the pixels are changed at each of ``steps + 1`` points, from none to all of them."""
    return [round(pixels * step / steps) for step in range(steps + 1)]


def exchanged(image: Tensor, other: Tensor, ordered: Tensor, numbers: Sequence[int]) -> Tensor:
    """The photo with its first pixels taken from another one.

    Deletion: the photo, pixels taken from black. Insertion: the blurred photo, pixels taken from the sharp one.

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
