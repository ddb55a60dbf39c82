"""The way back through recurrent layers for the gradients of many words at once, each from where it starts.

A word's score depends on the steps up to its own only, and captions differ in length. Going back from the last step,
gradients join one by one: half the work of pulling every word's gradient through all steps, and none for padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Stage(NamedTuple):
    """One step back. The gradients on their way are those of the first ``targets`` targets of the first ``captions``
    captions, in the order of :class:`Schedule`.

    Attributes:
        number: 0 for the last step of each caption, and so on.
        captions: those that are long enough.
        targets: the most that any of them has on the way.
        joining: which of :attr:`Schedule.vectors` join here.
        at: the captions and targets that these belong to, ``[n]`` each.
    """

    number: int
    captions: int
    targets: int
    joining: slice
    at: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Schedule:
    """When the gradients of K targets of each of B captions join on the way back.

    Captions are aligned at the last step that matters to any target, the longest first; targets are in the order in
    which they join. So the gradients on their way are always a corner of ``[B, K]``.

    Attributes:
        captions: ``[B]``, the numbers of the captions in their new order.
        targets: ``[B, K]``, those of the targets of each.
        steps: ``[B, J]``, the step at which a caption is at each of J stages; 0 when it is through.
        vectors: ``[N, D]``, the gradients that join, in the order of stages.
        stages: J of them.
    """

    captions: Tensor
    targets: Tensor
    steps: Tensor
    vectors: Tensor
    stages: list[Stage]

    @classmethod
    def of(cls, vectors: Tensor, dense: bool | None = None) -> Schedule:
        """Find out which of the gradients ``[B, K, T, D]`` at the decoder's output are not zero; ``dense`` takes none
        to be, as is done on an accelerator, which would have to be waited for."""
        batch, count, length = vectors.shape[:3]
        device = vectors.device
        dense = device.type != "cpu" if dense is None else dense
        matters = torch.ones(batch, count, length, dtype=torch.bool) if dense else (vectors != 0).any(-1)
        last = (matters * torch.arange(1, length + 1)).amax(2)
        lengths, captions = last.amax(1).sort(descending=True, stable=True)
        lag, targets = (lengths[:, None] - last[captions]).sort(dim=1, stable=True)
        steps = lengths[:, None] - 1 - torch.arange(int(lengths[0]))
        there = (
            matters[captions[:, None, None], targets[:, :, None], steps.clamp(min=0)[:, None]] & (steps >= 0)[:, None]
        )
        steps = steps.clamp(min=0)
        stage, row, column = there.permute(2, 0, 1).nonzero().unbind(1)
        ends = there.sum((0, 1)).cumsum(0).tolist()
        stages = []
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            going = int((lengths > number).sum())
            most = int((lag[:going] <= number).sum(1).max())
            joining = slice(start, end)
            stages.append(Stage(number, going, most, joining, (row[joining].to(device), column[joining].to(device))))
        own = captions[row], targets[row, column], steps[row, stage]
        joined = vectors[tuple(index.to(device) for index in own)]
        return cls(captions.to(device), targets.to(device), steps.to(device), joined, stages)

    def aligned(self, values: Tensor) -> Tensor:
        """``[B, T, ...]``, a value for each step → ``[B, J, ...]``, for each stage, in the new order of captions."""
        return values[self.captions[:, None], self.steps]

    def restored(self, values: Tensor) -> Tensor:
        """``[B, K, ...]`` in the new order → in the given order."""
        result = torch.empty_like(values)
        result[self.captions[:, None], self.targets] = values
        return result


class Slopes:
    """Derivatives of an LSTM's step, for the way back through it.

    With the gates i, f, g, o of step t, c_t = f c_(t-1) + i g and h_t = o tanh(c_t), gradients dh and dc of h_t and c_t
    become (σ' = σ(1 - σ), tanh' = 1 - tanh²)::

        dc   += dh o (1 - tanh²(c_t))
        dgates = (dc g i(1 - i), dc c_(t-1) f(1 - f), dc i (1 - g²), dh tanh(c_t) o(1 - o))
        dc_(t-1) = dc f

    dgates times the weights is what goes on to h_(t-1) and to the step's input.

    Args:
        gates: ``[B, T, 4 D]`` before their nonlinearities, in PyTorch's order i, f, g, o.
        cell: ``[B, D]``, before the first step.
    """

    def __init__(self, gates: Tensor, cell: Tensor) -> None:
        i, f, g, o = gates.chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        cells = [cell]
        for forget, new in zip(f.unbind(1), (i * g).unbind(1), strict=True):
            cells.append(torch.addcmul(new, forget, cells[-1]))
        before, squashed = torch.stack(cells[:-1], 1), torch.stack(cells[1:], 1).tanh()
        self.values = torch.stack(
            [
                g * i * (1 - i),
                before * f * (1 - f),
                i * (1 - g.square()),
                squashed * o * (1 - o),
                o * (1 - squashed.square()),
                f,
            ],
            2,
        )
        """``[B, T, 6, D]``, factors of dc, dc, dc, dh (the gates), dh (into dc) and dc (to the step before)."""


def through_cell(slopes: Tensor, dh: Tensor, dc: Tensor) -> Tensor:
    """One step back: ``dc`` becomes that of the step before.

    Args:
        slopes: ``[n, 6, D]``, of :class:`Slopes`, one step for each caption.
        dh: ``[n, k, D]``.
        dc: ``[n, k, D]``, changed in place.

    Returns:
        dgates, ``[n, k, 4 D]``.
    """
    of_cell, of_output, into_cell, kept = slopes[:, None].split([3, 1, 1, 1], 2)
    dc.addcmul_(dh, into_cell.squeeze(2))
    dgates = torch.empty(*dh.shape[:2], 4, dh.shape[2], dtype=dh.dtype, device=dh.device)
    torch.mul(dc.unsqueeze(2), of_cell, out=dgates[:, :, :3])
    torch.mul(dh.unsqueeze(2), of_output, out=dgates[:, :, 3:])
    dc.mul_(kept.squeeze(2))
    return dgates.flatten(2)


def walk(schedule: Schedule, dh: Tensor, dc: Tensor) -> Iterator[tuple[Stage, Tensor, Tensor]]:
    """The stages of a schedule, and the corners of ``dh`` and ``dc`` ``[B, K, D]`` that are on their way."""
    for stage in schedule.stages:
        yield stage, dh[: stage.captions, : stage.targets], dc[: stage.captions, : stage.targets]
