"""Means over answers that share people and photos: both are drawn again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmexplain.evaluate.intervals import LEAST, LEVEL, RESAMPLES, Mean, wilson


def crossed_mean(
    values: Sequence[float], people: Sequence[str], photos: Sequence[str], seed: int = 0, *, share: bool = False
) -> Mean:
    """The mean of all ``values``, and where it might have been with other people and other photos.

    Answers of one person are alike, and so are answers about one photo. People and photos are drawn with replacement,
    each for themselves, and an answer counts as often as its person times its photo were drawn: the pigeonhole
    bootstrap (Owen, Annals of Applied Statistics 2007), whose interval is rather too wide than too narrow.

    Args:
        values: a number an answer.
        people: who gave it.
        photos: about which photo.
        seed: of the draws.
        share: values are 0 or 1. Where all are the same, every draw is; the interval is then Wilson's of as many
            answers as there are people or photos, whichever are fewer.

    Returns:
        The mean with the ends of the percentile interval, which are NaN with fewer than ten people or ten photos;
        ``items`` are the photos.
    """
    if not values:
        return Mean(math.nan, math.nan, math.nan, 0, 0)
    numbers = np.asarray(values, dtype=np.float64)
    who, person = np.unique(list(people), return_inverse=True)
    which, photo = np.unique(list(photos), return_inverse=True)
    value, count, few = float(numbers.mean()), len(numbers), min(len(who), len(which))
    if few < LEAST:
        return Mean(value, math.nan, math.nan, count, len(which))
    if share and value in (0.0, 1.0):
        return Mean(value, *wilson(few, round(value) * few), count, len(which))
    sums = np.zeros((len(who), len(which)))
    counts = np.zeros_like(sums)
    np.add.at(sums, (person, photo), numbers)
    np.add.at(counts, (person, photo), 1.0)
    random = np.random.default_rng(seed)
    people_drawn = random.multinomial(len(who), np.full(len(who), 1 / len(who)), RESAMPLES)
    photos_drawn = random.multinomial(len(which), np.full(len(which), 1 / len(which)), RESAMPLES)
    rows = np.einsum("dp,pi,di->d", people_drawn, counts, photos_drawn, optimize=True)
    totals = np.einsum("dp,pi,di->d", people_drawn, sums, photos_drawn, optimize=True)
    low, high = np.quantile(totals[rows > 0] / rows[rows > 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Mean(value, float(low), float(high), count, len(which))
