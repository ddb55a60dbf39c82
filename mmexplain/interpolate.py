"""Linear interpolation along one axis, between the centres of cells."""

from __future__ import annotations

import torch
from torch import Tensor


def grid(count: int, extent: float) -> Tensor:
    """Centres of ``count`` equal pixels over ``[0, extent]``: ``[count]`` float64."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (extent / count)


def centres(count: int, cells: int) -> Tensor:
    """Centres of ``count`` pixels as indices into ``cells`` cells over the same extent: ``[count]`` float64."""
    return grid(count, cells) - 0.5


def interpolate(maps: Tensor, where: Tensor, dim: int) -> Tensor:
    """Values of ``maps`` at fractional indices along one axis; beyond the ends, the end values.

    Bilinear resampling is this along both axes. Unlike ``torch.nn.functional.interpolate`` it can start and end
    anywhere, and unlike ``grid_sample`` it needs no coordinates for every pixel.

    Args:
        maps: floating point.
        where: ``[n]`` float64 on the CPU: positions lose no precision, whatever type and device the maps have.
        dim: the axis, which becomes ``n`` long.

    Returns:
        A new tensor like ``maps``, differentiable in them.
    """
    last = maps.shape[dim] - 1
    where = where.clamp(0, last)
    low = where.floor()
    shape = [1] * maps.ndim
    shape[dim] = -1
    # Tiny, and copied before the call returns: nothing waits for what the device is doing.
    weight = (where - low).to(maps.dtype).to(maps.device, non_blocking=True).view(shape)
    low_index = low.long().to(maps.device, non_blocking=True)
    high_index = (low_index + 1).clamp(max=last)
    return maps.index_select(dim, low_index).lerp_(maps.index_select(dim, high_index), weight)
