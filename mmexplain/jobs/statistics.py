"""What can be said of a map in a few numbers, for many maps at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mmexplain.geometry import Geometry
from mmexplain.interpolate import grid


@dataclass(frozen=True)
class Statistics:
    """Of N maps of one input.

    Attributes:
        peak: for each ``(x, y)`` of its maximum in pixels of the original, for a clip ``(x, y, frame)``; None for a
            flat map.
        centroid: ``[N, 2]`` float64, x and y of the mean place, weighted by the positive part, in pixels of the
            original; NaN without a positive part.
        entropy: ``[N]`` float64, Shannon's, of the positive part as shares of a whole, divided by that of an even map:
            0 where all lies in one cell, 1 where all cells are alike; NaN without a positive part.
        area: ``[N]`` float64, share of the cells whose value is at least half of the largest; NaN without a positive
            part.
        minimum: ``[N]`` float32.
        maximum: ``[N]`` float32.
    """

    peak: list[tuple[int, ...] | None]
    centroid: Tensor
    entropy: Tensor
    area: Tensor
    minimum: Tensor
    maximum: Tensor


def statistics(maps: Tensor, geometry: Geometry) -> Statistics:
    """Of maps ``[N, h, w]`` of a photo or ``[N, t, h, w]`` of a clip, float32 on the CPU, raw and signed.

    All but the peak are taken at the map's own resolution, over all that the model saw, padding included.
    """
    flat = maps.flatten(1)
    positive = flat.clamp(min=0).double()
    total = positive.sum(1, keepdim=True)
    share = positive / total  # NaN where nothing is positive
    height, width = maps.shape[-2:]
    x, y = _places(geometry, height, width)
    over_space = share.view(len(maps), -1, height, width).sum(1)
    entropy, cells = torch.special.entr(share).sum(1), flat.shape[1]
    maximum = flat.amax(1)
    half = (flat >= maximum[:, None] / 2).double().mean(1)
    clip = geometry.frames is not None
    return Statistics(
        [geometry.peak_in_clip(values) for values in maps] if clip else [*geometry.peaks(maps)],
        torch.stack([(over_space.sum(1) * x).sum(1), (over_space.sum(2) * y).sum(1)], 1),
        entropy / math.log(cells) if cells > 1 else entropy,
        torch.where(maximum > 0, half, torch.nan),
        flat.amin(1),
        maximum,
    )


@lru_cache(maxsize=256)
def _places(geometry: Geometry, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where the centres of a map's columns and rows lie in the original; many photos have the same few sizes."""
    return geometry.point_to_original(grid(width, geometry.input[1]), grid(height, geometry.input[0]))
