"""Means with bootstrap confidence intervals; what is drawn again are items, whose rows are not independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000
LEAST = 10
"""Items below which there is no interval, because so few, drawn again, tell too little of others."""


@dataclass(frozen=True)
class Mean:
    """A mean over rows.

    Attributes:
        value: NaN where there is nothing to take the mean of.
        low, high: ends of the interval at :data:`LEVEL`; NaN with fewer than :data:`LEAST` items.
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

    def told(self, scale: float = 1.0, digits: int = 3, sign: str = "") -> str:
        """The mean and its interval, as far as there are any, for people: ``62.3 [60.5, 64.1]``."""
        if math.isnan(self.value):
            return "–"
        value = f"{scale * self.value:{sign}.{digits}f}"
        if math.isnan(self.low):
            return value
        return f"{value} [{scale * self.low:{sign}.{digits}f}, {scale * self.high:{sign}.{digits}f}]"


def mean(
    values: Sequence[float | None],
    items: Sequence[str],
    seed: int = 0,
    within: Sequence[str] | None = None,
    share: bool = False,
) -> Mean:
    """The mean of all defined ``values``, and where it might have been with other items of the same kind.

    The rows of one item (the words of a photo) are drawn together: they share a photo, and taking them for independent
    would make the interval too narrow. The interval is that of the percentile bootstrap.

    Args:
        values: a number a row; None and NaN are undefined.
        items: the key of each row's item.
        seed: of the draws.
        within: the group of each row (its class): the value is the mean of the groups' means. Draws that hold no row
            of a group do without it.
        share: the values are shares, from 0 to 1. Where all are 0, or all are 1, every draw is the same; the interval
            is then Wilson's score interval (1927) of that many items.
    """
    groups = [""] * len(values) if within is None else within
    found = zip(items, values, groups, strict=True)
    defined = [(item, float(v), group) for item, v, group in found if v is not None and not math.isnan(v)]
    undefined = len(values) - len(defined)
    if not defined:
        return Mean(math.nan, math.nan, math.nan, 0, 0, undefined)
    keys, where = np.unique([item for item, _, _ in defined], return_inverse=True)
    numbers = np.array([value for _, value, _ in defined])
    if share and len(keys) >= LEAST and bool((numbers == numbers[0]).all()) and numbers[0] in (0, 1):
        low, high = wilson(len(keys), int(numbers[0]) * len(keys))
        return Mean(float(numbers[0]), low, high, len(defined), len(keys), undefined)
    if within is not None:
        _, group = np.unique([name for _, _, name in defined], return_inverse=True)
        return _balanced(numbers, where, group, len(keys), undefined, seed)
    sums = np.bincount(where, numbers, minlength=len(keys))
    counts = np.bincount(where, minlength=len(keys)).astype(float)
    value = float(sums.sum() / counts.sum())
    if len(keys) < LEAST:
        return Mean(value, math.nan, math.nan, len(defined), len(keys), undefined)
    return Mean(value, *_drawn_again(sums, counts, seed), len(defined), len(keys), undefined)


def ratio(numerators: Sequence[float], denominators: Sequence[float], items: Sequence[str], seed: int = 0) -> Mean:
    """The mean of all numerators over that of all denominators, and where it might have been with other items. Rows
    with a small denominator weigh no more than others, as they do in the mean of the rows' own ratios.

    Args:
        numerators: a number a row; rows where it or the denominator is NaN are left out.
        denominators: as many, 0 or more.
        items: the key of each row's item.
        seed: of the draws.

    Returns:
        Its value is NaN where nothing is left, or only denominators of 0.
    """
    found = zip(numerators, denominators, items, strict=True)
    defined = [row for row in found if not (math.isnan(row[0]) or math.isnan(row[1]))]
    undefined = len(items) - len(defined)
    above, below, names = zip(*defined, strict=True) if defined else ((), (), ())
    keys, where = np.unique(names, return_inverse=True)
    tops, bottoms = (np.bincount(where, values, minlength=len(keys)) for values in (above, below))
    if not bottoms.sum() > 0:
        return Mean(math.nan, math.nan, math.nan, len(defined), len(keys), undefined)
    value = float(tops.sum() / bottoms.sum())
    low, high = _drawn_again(tops, bottoms, seed) if len(keys) >= LEAST else (math.nan, math.nan)
    return Mean(value, low, high, len(defined), len(keys), undefined)


def _drawn_again(tops: NDArray[Any], bottoms: NDArray[Any], seed: int) -> tuple[float, float]:
    """Ends of the percentile bootstrap's interval of Σ tops / Σ bottoms, of which each item has one pair."""
    return bootstrapped(
        (tops, bottoms), lambda top, bottom, axis=-1: top.sum(axis) / bottom.sum(axis), seed, paired=True
    )


def bootstrapped(
    samples: Sequence[NDArray[Any]], statistic: Callable[..., Any], seed: int, *, paired: bool
) -> tuple[float, float]:
    """Ends of the percentile bootstrap's interval at :data:`LEVEL`.

    Args:
        samples: ``[N]`` each.
        statistic: of as many arrays, over ``axis``.
        seed: of the draws.
        paired: samples are drawn together, and not each for itself.
    """
    found = stats.bootstrap(
        samples,
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=200,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def difference(
    values: Sequence[float | None],
    others: Sequence[float | None],
    items: Sequence[str],
    seed: int = 0,
    within: Sequence[str] | None = None,
) -> Mean:
    """The mean of ``values`` less ``others``, pair by pair: where the same things were measured twice, what makes one
    of them hard is in both numbers and cancels, which the intervals of the two means do not know.

    Args:
        values: a number a pair.
        others: as many; where either is undefined, the pair is.
        items: the key of each pair's item.
        seed: of the draws.
        within: see :func:`mean`.
    """
    pairs = zip(values, others, strict=True)
    return mean([None if a is None or b is None else a - b for a, b in pairs], items, seed, within)


def wilson(number: int, successes: int) -> tuple[float, float]:
    """Wilson's score interval of a share of ``successes`` among ``number`` at :data:`LEVEL`."""
    found = stats.binomtest(successes, number).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


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
    if count < LEAST:
        return Mean(value, math.nan, math.nan, len(numbers), count, undefined)
    random = np.random.default_rng(seed)
    drawn = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        times = np.bincount(random.integers(0, count, count), minlength=count).astype(float)
        rows = times @ counts
        drawn[number] = ((times @ sums)[rows > 0] / rows[rows > 0]).mean()
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Mean(value, float(low), float(high), len(numbers), count, undefined)
