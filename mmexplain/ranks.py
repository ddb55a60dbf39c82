"""Rank correlation."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Ranks of a vector ``[n]`` from 1, float64; equal values share the mean of their ranks."""
    _, which, counts = torch.unique(values, return_inverse=True, return_counts=True)
    mean: Tensor = counts.cumsum(0).double() - (counts.double() - 1) / 2
    return mean[which]


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation of two vectors ``[n]``; of their :func:`ranks` it is Spearman's. NaN if one is constant."""
    one, other = one.double() - one.double().mean(), other.double() - other.double().mean()
    scale = float(one.norm() * other.norm())
    # Rounding may carry it past its bounds.
    return max(-1.0, min(1.0, float(one @ other) / scale)) if scale > 0 else math.nan


def spearman(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation of two vectors ``[n]``; NaN if one is constant."""
    return correlation(ranks(one), ranks(other))
