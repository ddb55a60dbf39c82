"""Rank correlation of two maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from mmexplain.ranks import spearman


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation over the pixels where neither map is NaN; equal values share the mean of their ranks.
    NaN if either is constant there, or nothing is left."""
    one, other = one.flatten(), other.flatten()
    told = ~(one.isnan() | other.isnan())
    return spearman(one[told], other[told]) if int(told.sum()) > 1 else math.nan


def on_grid(values: Tensor, size: Sequence[int]) -> Tensor:
    """A map ``[*P]`` on a grid of ``size``: the mean over each cell; an axis that is shorter than that is repeated."""
    pooled: Any = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool3d
    found: Tensor = pooled(values[None].float(), tuple(size))[0]
    return found
