"""How well a map agrees with where people looked.

Rank correlation on a coarse grid is the VQA-HAT protocol (Das et al., EMNLP 2016). The others are the saliency
benchmarks', as defined by Bylinskii, Judd, Oliva, Torralba and Durand, "What do different evaluation metrics tell us
about saliency models?", TPAMI 2019, section 4, and in their code (github.com/cvzoya/saliency).

Maps are ``[H, W]``, signed, with NaN in pixels that were not seen; what is NaN in either map is left out. Every number
is a float, NaN where it is not defined: a constant map has no ranks, no deviation and no ROC curve.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.ranks import correlation, spearman

GRID = 14
"""Cells on each side of the grid of VQA-HAT."""

EPSILON = 2.0**-52
"""What the benchmark's code adds within the logarithm and to the denominator (MATLAB's eps)."""


def grid_spearman(one: Tensor, other: Tensor, cells: int = GRID) -> float:
    """Spearman's rank correlation of two maps, each reduced to ``cells × cells`` by the mean over the seen pixels of a
    cell (Das et al. 2016). Ties share their mean rank; cells without a pixel seen in both are left out.

    Args:
        one: ``[H, W]``, NaN where unseen.
        other: ``[H, W]``; it may have another size, as both cover the whole photo.
        cells: on each side.

    Returns:
        -1 to 1; NaN if one is constant where both were seen.
    """
    coarse = [_reduced(values, cells) for values in (one, other)]
    return spearman(*_seen(*coarse))


def auc_judd(values: Tensor, fixated: Tensor) -> float:
    """AUC-Judd: area under the ROC curve of telling fixated pixels from all others by the map.

    The thresholds are the map's values at fixated pixels; at each, the shares of fixated and of other pixels at or
    above it make a point of the curve, with (0, 0) and (1, 1) at its ends, and the area is that of trapezoids. The
    benchmark breaks ties by noise; here all pixels of a tied value pass their threshold together, so that the number
    is the same in every run.

    Args:
        values: the map ``[H, W]``.
        fixated: bool ``[H, W]``; a pixel that was fixated twice counts once, as in the benchmark's fixation maps.

    Returns:
        0 to 1; NaN for a constant map, or where all or none of its pixels were fixated.
    """
    kept = ~values.isnan()
    numbers, hit = values[kept].double(), fixated[kept]
    fixations, others = int(hit.sum()), int((~hit).sum())
    if not fixations or not others or not bool(numbers.max() > numbers.min()):
        return math.nan
    thresholds = numbers[hit].unique()
    at_least = [_count_at_least(group, thresholds) for group in (numbers[hit], numbers[~hit])]
    # From the highest threshold down.
    true = functional.pad((at_least[0] / fixations).flip(0), (1, 1))
    false = functional.pad((at_least[1] / others).flip(0), (1, 1))
    true[-1] = false[-1] = 1
    return float(torch.trapezoid(true, false))


def nss(values: Tensor, fixated: Tensor) -> float:
    """Normalised scanpath saliency: the mean, over the fixated pixels, of the map with mean 0 and deviation 1 (that of
    a sample, n − 1, as MATLAB's). NaN for a constant map or without a fixation."""
    kept = ~values.isnan()
    numbers, hit = values[kept].double(), fixated[kept]
    if not bool(hit.any()) or not bool(numbers.max() > numbers.min()):
        return math.nan
    return float(((numbers - numbers.mean()) / numbers.std()).masked_select(hit).mean())


def cc(values: Tensor, human: Tensor) -> float:
    """Pearson's correlation of two maps of one size, pixel by pixel; NaN if one is constant."""
    one, other = _seen(values, human)
    if not one.numel() or bool(one.max() == one.min()) or bool(other.max() == other.min()):
        return math.nan
    return correlation(one, other)


def kl(values: Tensor, human: Tensor) -> float:
    """Kullback-Leibler divergence of the human map Q from the map P, lower being better: Σ Q · ln(ε + Q / (P + ε)),
    both made to sum to 1 over the pixels seen, ε = :data:`EPSILON`.

    A distribution has no negative parts: those of both maps count as 0. NaN where nothing is left of one. A uniform map
    is a distribution: it has a divergence.
    """
    predicted, wanted = (part.double().clamp(min=0) for part in _seen(values, human))
    if not float(predicted.sum()) > 0 or not float(wanted.sum()) > 0:
        return math.nan
    predicted, wanted = predicted / predicted.sum(), wanted / wanted.sum()
    return float((wanted * (EPSILON + wanted / (predicted + EPSILON)).log()).sum())


def centre_gaussian(height: int, width: int, deviation: float = 0.25) -> Tensor:
    """The centre bias: a Gaussian in the middle of the photo, ``[H, W]`` float64, stretched with its sides.

    Args:
        height: of the photo, in pixels.
        width: of the photo.
        deviation: the Gaussian's, as a share of each side.
    """
    rows, columns = (((torch.arange(n) + 0.5) / n - 0.5).double() / deviation for n in (height, width))
    return torch.exp(-(rows[:, None] ** 2 + columns**2) / 2)


def fixated_pixels(points: Tensor, height: int, width: int) -> Tensor:
    """The pixels of a photo that were looked at.

    Args:
        points: ``[n, 2]``, (x, y) in continuous pixels; those outside the photo are left out.
        height: of the photo, in pixels.
        width: of the photo.

    Returns:
        Bool ``[H, W]``.
    """
    found = torch.zeros(height, width, dtype=torch.bool)
    cells = points.reshape(-1, 2).floor().long()
    x, y = cells[:, 0], cells[:, 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found[y[inside], x[inside]] = True
    return found


def strongest_pixels(human: Tensor, share: float = 0.05) -> Tensor:
    """Stand-in for fixations where only their map was kept: the pixels in the top ``share`` of its values, those that
    tie with the last of them included; bool ``[H, W]``. None of a constant map."""
    count = max(1, round(share * human.numel()))
    least = human.flatten().topk(count).values[-1]
    return (human >= least) & (human > human.min())


def _count_at_least(values: Tensor, thresholds: Tensor) -> Tensor:
    below = torch.searchsorted(values.sort().values, thresholds)
    return (len(values) - below).double()


def _seen(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    kept = ~(one.isnan() | other.isnan())
    return one[kept], other[kept]


def _reduced(values: Tensor, cells: int) -> Tensor:
    """``[cells, cells]`` float64; NaN for cells of which nothing was seen."""
    values = values.double()
    unseen = values.isnan()
    total = functional.adaptive_avg_pool2d(values.nan_to_num(0.0, math.inf, -math.inf)[None], cells)[0]
    share = functional.adaptive_avg_pool2d((~unseen).double()[None], cells)[0]
    means = total / share
    # The mean of equal numbers is rounded otherwise in every cell, which would make ranks of nothing: what differs by
    # less than float32, in which maps are made, can tell apart is equal.
    step = torch.finfo(torch.float32).eps * values.nan_to_num(0.0, math.inf, -math.inf).abs().max()
    if 0 < float(step) < math.inf:
        means = (means / step).round() * step
    return torch.where(share > 0, means, math.nan)
