"""Means with bootstrap confidence intervals; what is drawn again are items, whose rows are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
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


def mean(
    values: Sequence[float | None], items: Sequence[str], seed: int = 0, within: Sequence[str] | None = None
) -> Mean:
    """The mean of all defined ``values``, and where it might have been with other items of the same kind.

    The rows of one item (the words of a photo) are drawn together: they share a photo, and taking them for independent
    would make the interval too narrow.

    Args:
        values: a number a row; None and NaN are undefined.
        items: the key of each row's item.
        seed: of the draws.
        within: the group of each row (its class): the value is the mean of the groups' means. Draws that hold no row
            of a group do without it.
    """
    groups = [""] * len(values) if within is None else within
    found = zip(items, values, groups, strict=True)
    defined = [(item, float(v), group) for item, v, group in found if v is not None and not math.isnan(v)]
    undefined = len(values) - len(defined)
    if not defined:
        return Mean(math.nan, math.nan, math.nan, 0, 0, undefined)
    keys, where = np.unique([item for item, _, _ in defined], return_inverse=True)
    numbers = np.array([value for _, value, _ in defined])
    if within is not None:
        _, group = np.unique([name for _, _, name in defined], return_inverse=True)
        return _balanced(numbers, where, group, len(keys), undefined, seed)
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


def _balanced(
    numbers: NDArray[np.float64],
    items: NDArray[np.intp],
    groups: NDArray[np.intp],
    count: int,
    undefined: int,
    seed: int,
) -> Mean:
    """The mean of the groups' means; ``items`` and ``groups`` number those of each row."""
    sums = np.zeros((count, int(groups.max()) + 1))
    counts = np.zeros_like(sums)
    np.add.at(sums, (items, groups), numbers)
    np.add.at(counts, (items, groups), 1.0)
    value = float((sums.sum(0) / counts.sum(0)).mean())
    if count < 2:
        return Mean(value, math.nan, math.nan, len(numbers), count, undefined)
    random = np.random.default_rng(seed)
    drawn = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        times = np.bincount(random.integers(0, count, count), minlength=count).astype(float)
        rows = times @ counts
        drawn[number] = ((times @ sums)[rows > 0] / rows[rows > 0]).mean()
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Mean(value, float(low), float(high), len(numbers), count, undefined)
