"""How much of a map lies on the regions of its photo, and means of that over photos.

The number that everything is told in is *energy over area*: the share of the map's positive part that lies on a region
(the energy-based pointing game of Wang et al. 2020, "Score-CAM"), over the share that the region has of what the model
saw. A map that knows nothing of the region has 1.0, whatever the region's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.evaluate.intervals import LEAST, LEVEL, RESAMPLES, Mean
from mmexplain.evaluate.masks import Mask
from mmexplain.evaluate.metrics.grounding import Sums
from mmexplain.evaluate.metrics.pointing import hit

Sum = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """How much of one map lies on one region of its photo.

    Attributes:
        area: the region's share of what the model saw, above 0.
        energy: the share of the map's positive part in it.
        hit: 1 where the map's maximum lies in it, else 0.
    """

    area: float
    energy: float
    hit: float = 0.0


def shares(heat: Tensor, peak: tuple[int, ...] | None, regions: Mapping[str, Mask]) -> dict[str, Share]:
    """What of a map lies on each region that the model saw anything of.

    Args:
        heat: ``[H, W]`` in the pixels of the photo, of any sign, NaN where the model saw nothing.
        peak: ``(x, y)`` of its maximum; None for a flat map.
        regions: bool ``[H, W]`` by name; they may overlap.

    Returns:
        Nothing for a map that is positive nowhere, or not finite.
    """
    if not regions:
        return {}
    sums = Sums.of(heat, torch.from_numpy(np.stack(list(regions.values()))))
    areas, energies = (sums.within / (sums.within + sums.without)).tolist(), sums.energy().tolist()
    return {
        name: Share(area, energy, hit(peak, mask))
        for (name, mask), area, energy in zip(regions.items(), areas, energies, strict=True)
        if area > 0 and not math.isnan(energy)
    }


def ratio(energies: Sequence[float], areas: Sequence[float], items: Sequence[str], seed: int = 0) -> Mean:
    """Energy over area of many maps: the sum of the energies over that of the areas, in which a region of a few pixels
    weighs as little as it should.

    With differences of two maps' energies, the paired difference of their two ratios. The interval is that of the
    percentile bootstrap over items.

    Args:
        energies: a number a map.
        areas: as many.
        items: the key of each map's photo; those of one key are drawn together.
        seed: of the draws.
    """
    sums = _sums(energies, areas, items)
    if not len(sums):
        return Mean(math.nan, math.nan, math.nan, 0, 0)
    low, high = _interval(_drawn(sums, np.random.default_rng(seed))) if len(sums) >= LEAST else (math.nan, math.nan)
    return Mean(float(_over(sums)), low, high, len(energies), len(sums))


def difference(first: Sequence[Share], second: Sequence[Share], seed: int = 0) -> tuple[Mean, float]:
    """Energy over area in one group of photos less that in another, a :class:`Share` a photo.

    Returns:
        The difference, whose interval has both groups drawn again, and the two-sided p of a permutation test: how often
        a difference as large comes about when the photos are dealt to the groups at random.
    """
    sums = [np.array([(one.energy, one.area) for one in group]).reshape(-1, 2) for group in (first, second)]
    if not all(map(len, sums)):
        return Mean(math.nan, math.nan, math.nan, 0, 0), math.nan
    random = np.random.default_rng(seed)
    value, count = float(_over(sums[0]) - _over(sums[1])), len(first) + len(second)
    if min(map(len, sums)) < LEAST:
        return Mean(value, math.nan, math.nan, count, count), math.nan
    low, high = _interval(_drawn(sums[0], random) - _drawn(sums[1], random))
    pooled = np.concatenate(sums)
    order = random.permuted(np.tile(np.arange(count), (RESAMPLES, 1)), axis=1)
    dealt = _over(pooled[order[:, : len(first)]]) - _over(pooled[order[:, len(first) :]])
    # A rounding error must not make a draw of the very same groups a smaller difference.
    extreme = int((np.abs(dealt) >= abs(value) - 1e-12).sum())
    return Mean(value, low, high, count, count), (1 + extreme) / (1 + RESAMPLES)


def _sums(energies: Sequence[float], areas: Sequence[float], items: Sequence[str]) -> Sum:
    """``[items, 2]``: sums of the energies and of the areas."""
    keys, where = np.unique(list(items), return_inverse=True)
    return np.stack([np.bincount(where, values, minlength=len(keys)) for values in (energies, areas)], axis=1)


def _over(sums: Sum) -> Sum:
    """``[...]`` of ``[..., items, 2]``: energy over area."""
    energy, area = np.moveaxis(sums.sum(-2), -1, 0)
    found: Sum = energy / area
    return found


def _drawn(sums: Sum, random: np.random.Generator) -> Sum:
    """``[RESAMPLES]``: the ratio of items drawn with replacement."""
    return _over(sums[random.integers(0, len(sums), (RESAMPLES, len(sums)))])


def _interval(drawn: Sum) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
