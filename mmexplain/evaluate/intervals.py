"""Means with bootstrap confidence intervals; what is drawn again are items, whose rows are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Mean:
    """A mean over rows.

    Attributes:
        value: NaN where there is nothing to take the mean of.
        low, high: ends of the percentile bootstrap interval at :data:`LEVEL`; NaN with fewer than two items.
        rows: how many defined numbers went in.
        items: how many items they came from.
        undefined: how many rows had no number.
    """

    value: float
    low: float
    high: float
    rows: int
    items: int
    undefined: int = 0


def mean(values: Sequence[float | None], items: Sequence[str], seed: int = 0) -> Mean:
    """The mean of all defined ``values``, and where it might have been with other items of the same kind.

    The rows of one item (the words of a photo) are drawn together: they share a photo, and taking them for independent
    would make the interval too narrow.

    Args:
        values: a number a row; None and NaN are undefined.
        items: the key of each row's item.
        seed: of the draws.
    """
    defined = [(item, float(v)) for item, v in zip(items, values, strict=True) if v is not None and not math.isnan(v)]
    undefined = len(values) - len(defined)
    if not defined:
        return Mean(math.nan, math.nan, math.nan, 0, 0, undefined)
    keys, where = np.unique([item for item, _ in defined], return_inverse=True)
    numbers = np.array([value for _, value in defined])
    sums = np.bincount(where, numbers, minlength=len(keys))
    counts = np.bincount(where, minlength=len(keys)).astype(float)
    value = float(sums.sum() / counts.sum())
    if len(keys) < 2:
        return Mean(value, math.nan, math.nan, len(defined), len(keys), undefined)
    drawn = stats.bootstrap(
        (sums, counts),
        lambda total, count, axis=-1: total.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=200,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Mean(value, float(drawn.low), float(drawn.high), len(defined), len(keys), undefined)
