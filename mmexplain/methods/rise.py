"""RISE: what the score is where a pixel is kept, over random masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.errors import MethodError
from mmexplain.taps import INPUT

if TYPE_CHECKING:
    from mmexplain.probe import Probe


def rise(
    probe: Probe, *, masks: int = 1000, grid: int = 7, keep: float = 0.5, steps: int = 4, centre: bool = True
) -> dict[str, Tensor]:
    """RISE: M(λ) = 1 / (N p) · Σ_i S(x ∘ m_i) m_i(λ) over N random masks, less the mean score.

    Petsiuk, Das & Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, eq. 6 and
    section 3.2: cells of a small grid are 1 with probability p, upsampled bilinearly to one cell more than the input,
    and cut out at a random shift of up to one cell. The photo itself is multiplied, so that what is masked is black.
    E m(λ) = p at every pixel, so the sum over N p is an unbiased estimate of the mean score where λ is kept. The paper
    takes 4,000 masks (VGG-16) and 8,000 (ResNet-50), a grid of 7 and p = 0.5.

    With ``centre`` the mean score is taken off, 1 / ((N − 1) p) · Σ_i (S_i − S̄) m_i(λ), an unbiased estimate of
    the same but for one number for the whole map: positive where keeping a pixel raises the score, negative where it
    lowers it. The paper's own sum, ``centre=False``, has no such zero; and what is added to all scores (a logit may
    have any offset, a probability has none) becomes noise in it. It assumes nothing of the model.

    Cost: one forward pass for each mask; none for further targets.

    Args:
        probe: the model.
        masks: N.
        grid: cells along each side of the photo.
        keep: p.
        steps: cells along the time of a clip.
        centre: see above.

    Returns:
        ``"input"`` → ``[B, K, *P]`` float32.

    Raises:
        MethodError: fewer than two masks, no cell, or p not between 0 and 1.
    """
    if masks < 2 or grid < 1 or steps < 1 or not 0 < keep < 1:
        raise MethodError(
            "RISE takes 2 masks or more, a grid of 1 or more and keeps a share between 0 and 1, not "
            f"masks={masks}, grid={grid}, steps={steps}, keep={keep}"
        )
    inputs = probe.inputs
    sides = list(inputs.shape[2:])
    cells = [steps, grid, grid][-len(sides) :]
    ramps = [_ramp(side, count).to(inputs.device) for side, count in zip(sides, cells, strict=True)]
    # All inputs see the same masks: what is explained beside an input does not change its map.
    kept = (torch.rand(masks, *cells, generator=probe.generator) < keep).float()
    shifts = (torch.rand(masks, len(sides), generator=probe.generator) * torch.tensor([len(r) for r in ramps])).long()

    # Scores are summed up less that of the whole photo: an offset of all of them would cost digits.
    weighted = torch.zeros(probe.batch, probe.count, *sides, device=inputs.device)
    coverage = torch.zeros(probe.batch, *sides, device=inputs.device)
    total = torch.zeros(probe.batch, probe.count, device=inputs.device)
    for part in probe.parts(masks * probe.batch):
        owner, numbers = probe.rows(masks, part)
        mask = _masks(kept, shifts, ramps, numbers)
        scores = probe.score(probe.black + mask[:, None].to(inputs.dtype) * (inputs[owner] - probe.black), owner)
        scores = scores - probe.scores[owner]
        for number in owner.unique().tolist():
            own = owner == number
            weighted[number] += torch.tensordot(scores[own], mask[own], dims=([0], [0]))
            coverage[number] += mask[own].sum(0)
            total[number] += scores[own].sum(0)
    wide = (..., *[None] * len(sides))
    if centre:
        return {INPUT: (weighted - (total / masks)[wide] * coverage[:, None]) / ((masks - 1) * keep)}
    return {INPUT: (weighted + probe.scores[wide] * coverage[:, None]) / (masks * keep)}


def _ramp(side: int, cells: int) -> Tensor:
    """``[cell, side, cells]``: for each shift of up to one cell what each of the cells adds to each pixel."""
    cell = -(-side // cells)
    whole = functional.interpolate(torch.eye(cells)[None], size=(cells + 1) * cell, mode="linear")[0]
    return whole.unfold(1, side, 1)[:, :cell].permute(1, 2, 0)


def _masks(kept: Tensor, shifts: Tensor, ramps: list[Tensor], numbers: Tensor) -> Tensor:
    """The masks of those numbers, ``[r, *P]``."""
    numbers = numbers.cpu()
    masks = kept[numbers].to(ramps[0].device)
    for axis, ramp in enumerate(ramps):
        # The axis is interpolated as a matrix product and goes to the end; after the last one all are in order again.
        masks = torch.einsum("rc...,rpc->r...p", masks, ramp[shifts[numbers, axis].to(ramp.device)])
    return masks
