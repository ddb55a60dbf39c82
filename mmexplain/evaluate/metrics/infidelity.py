"""Infidelity and max-sensitivity: does a map foretell what changes do to the score, and does it stay itself?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def infidelity(foretold: Tensor, lost: Tensor) -> float:
    """INFD = E (β Iᵀ Φ − (f(x) − f(x − I)))², with the scale β of the map that makes it least.

    Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, definition 2.1. A Grad-CAM map has
    no scale of its own, so the best is taken, β = E (Iᵀ Φ)(Δf) / E (Iᵀ Φ)², as in the authors' released code.

    Args:
        foretold: ``[n]`` of n perturbations, Iᵀ Φ: the map's sum over what is removed.
        lost: ``[n]``, what the score lost.

    Returns:
        0 or more, in the score's unit squared. A map that foretells nothing, as one of zeros, has E (Δf)².
    """
    foretold, lost = foretold.double(), lost.double()
    square = float(foretold.square().sum())
    scale = float(foretold @ lost) / square if square > 0 else 0.0
    return float((scale * foretold - lost).square().mean())


def squares(sides: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """What is removed: squares at random places (section 2.3 of the paper, "square removal"), through all frames of a
    clip; their side is a quarter of the photo's shorter one.

    Args:
        sides: ``(h, w)``, or ``(t, h, w)``.
        count: n.
        generator: on the CPU.

    Returns:
        ``[n, *sides]`` bool.
    """
    height, width = sides[-2:]
    side = max(1, min(height, width) // 4)
    masks = torch.zeros(count, *sides, dtype=torch.bool)
    tops = torch.randint(height - side + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(width - side + 1, (count,), generator=generator).tolist()
    for mask, top, left in zip(masks, tops, lefts, strict=True):
        mask[..., top : top + side, left : left + side] = True
    return masks


def foretold(values: Tensor, masks: Tensor) -> Tensor:
    """The map's sum over each of n masks: ``[*P]``, ``[n, *P]`` bool → ``[n]`` float64; NaN of the map adds nothing."""
    return masks.flatten(1).to(values.device).double() @ values.flatten().double().nan_to_num(0.0)


def max_sensitivity(values: Tensor, others: Tensor) -> float:
    """SENS_MAX = max ‖Φ(y) − Φ(x)‖ / ‖Φ(x)‖ over inputs y near x.

    Definition 3.1 of the paper, estimated from n random y as there; divided by the map's own norm as in the released
    code, so that the scale of a method's maps does not count. Pixels that are NaN in either are left out.

    Args:
        values: the map Φ(x), ``[*S]``.
        others: those of n inputs y, ``[n, *S]``.

    Returns:
        0 or more. 0 for a map of zeros that stays one, NaN for one that does not.
    """
    values, others = values.flatten().double(), others.flatten(1).double()
    changes = (others - values).nan_to_num(0.0).norm(dim=1)
    largest, own = float(changes.max()), float(values.nan_to_num(0.0).norm())
    if own == 0:
        return 0.0 if largest == 0 else math.nan
    return largest / own
