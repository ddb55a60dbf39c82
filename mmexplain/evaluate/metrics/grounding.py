"""How well a map lies on the thing that a word names, in the pixels of the photo's file.

Maps are ``[..., H, W]`` of any sign, NaN where the model saw nothing; bool masks broadcast with them. Numbers are
float64 ``[...]``, NaN where one is not defined: all are NaN for a map that is infinite anywhere or NaN everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MOST = 100.0
"""Ratio of inside to outside at most."""

LEVELS = 20
"""Level sets that :func:`best_iou` looks at."""


def best_iou(maps: Tensor, masks: Tensor, levels: int = LEVELS) -> Tensor:
    """Intersection over union of a map's level sets with a mask, at the best of some thresholds.

    The map is scaled to 0..1 between its smallest and largest value; level set i of n holds the pixels of i/n and
    more. Level set 0 is all that was seen, so the number is never below the mask's share of it; a flat map has no
    other. Pixels that were not seen are in no level set, but count where the mask holds them.

    Args:
        maps: ``[..., H, W]``, NaN where unseen.
        masks: bool ``[..., H, W]``; the leading axes of the two are broadcast.
        levels: n.

    Returns:
        ``[...]`` float64, 0 to 1; NaN for an empty mask and for a map that is infinite or nowhere seen.
    """
    maps, masks = torch.broadcast_tensors(_precise(maps), masks)
    values, wanted = maps.flatten(-2), masks.flatten(-2)
    seen = ~values.isnan()
    low = values.nan_to_num(torch.inf).amin(-1, keepdim=True)
    span = values.nan_to_num(-torch.inf).amax(-1, keepdim=True) - low
    scaled = (values - low).mul_(levels / span.masked_fill(span <= 0, torch.inf)).nan_to_num_(0.0)
    # Unseen pixels go to a bin of their own, which is in no level set.
    level = scaled.long().clamp_(0, levels - 1).masked_fill_(~seen, levels)
    bins = 2 * (levels + 1)
    first = bins * torch.arange(values[..., 0].numel(), device=values.device)
    places = (2 * level + wanted).reshape(len(first), values.shape[-1]) + first[:, None]
    counts = torch.bincount(places.flatten(), minlength=bins * len(first)).double()
    counts = counts.view(*values.shape[:-1], levels + 1, 2)
    total = counts[..., 1].sum(-1)
    outside, inside = counts[..., :levels, :].flip(-2).cumsum(-2).unbind(-1)
    best = (inside / (outside + total.unsqueeze(-1))).amax(-1)
    return best.masked_fill((total == 0) | ~_usable(maps), torch.nan)


class Sums(NamedTuple):
    """A map's positive part, and how many pixels were seen, inside and outside of a mask.

    Attributes:
        inside: sum of the positive part in the mask, float64 ``[...]``.
        outside: the same outside of it.
        within: how many pixels of the mask were seen, float64 ``[...]``.
        without: how many others were.
    """

    inside: Tensor
    outside: Tensor
    within: Tensor
    without: Tensor

    @classmethod
    def of(cls, maps: Tensor, masks: Tensor) -> Sums:
        """Of maps and masks ``[..., H, W]``."""
        maps, masks = torch.broadcast_tensors(_precise(maps), masks)
        positive, unseen = maps.nan_to_num(0.0).clamp_(min=0), maps.isnan()
        within = (masks & ~unseen).sum((-2, -1), dtype=torch.float64)
        without = maps.shape[-2] * maps.shape[-1] - unseen.sum((-2, -1)) - within
        inside, outside = (
            (positive * part).sum((-2, -1), dtype=torch.float64).masked_fill(~_usable(maps), torch.nan)
            for part in (masks, ~masks)
        )
        return cls(inside, outside, within, without)

    def inside_outside(self) -> Tensor:
        """Mean activation in the boxes over that outside of them (Selvaraju et al. 2020, the comparison with DenseCap);
        1 for a uniform map.

        Of signed maps the positive part counts. At most :data:`MOST`, for a map that is next to nothing outside would
        outweigh all others in a mean. NaN where boxes cover everything (or nothing) that was seen, and for a map that
        is positive nowhere.
        """
        ratio = ((self.inside / self.within) / (self.outside / self.without)).clamp(max=MOST)
        nowhere = self.inside + self.outside <= 0
        return ratio.masked_fill((self.within == 0) | (self.without == 0) | nowhere, torch.nan)

    def energy(self) -> Tensor:
        """The share of the map's positive part that lies in the boxes (the energy-based pointing game of Wang et al.
        2020, "Score-CAM"). NaN for a map that is positive nowhere."""
        total = self.inside + self.outside
        return (self.inside / total).masked_fill(total <= 0, torch.nan)


def _precise(maps: Tensor) -> Tensor:
    return maps if maps.dtype == torch.float64 else maps.float()


def _usable(maps: Tensor) -> Tensor:
    return ~(maps.isinf().any(-1).any(-1) | maps.isnan().all(-1).all(-1))
