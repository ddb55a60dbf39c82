"""An LSTM layer whose gradients, for many targets at once, come of written-out equations instead of vmap over cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mmexplain.products import product
from mmexplain.recurrent import Schedule, Slopes, through_cell, walk


class Weights(NamedTuple):
    """Of one layer, ``[4 D, E]``, ``[4 D, D]`` and ``[4 D]`` twice, in PyTorch's order of gates."""

    of_input: Tensor
    of_state: Tensor
    bias: Tensor | None = None
    state_bias: Tensor | None = None


class LSTM(Function):
    """One layer in one direction, batch first: steps ``[B, T, E]`` and the states before, ``[B, D]`` each →
    outputs ``[B, T, D]`` and the last cell ``[B, D]``.

    The gradients are those of steps and states; nobody asks for the weights'.
    """

    @staticmethod
    def forward(steps: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """See the class; ``weights`` are those of :class:`Weights`."""
        found, _, last = torch.lstm(
            steps, (hidden[None], cell[None]), weights, len(weights) > 2, 1, 0.0, False, False, True
        )
        return found, last[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keeps what the gates are worked out of again."""
        ctx.save_for_backward(*inputs, output[0])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradients: Tensor, of_cell: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the outputs and of the last cell → of steps and states."""
        *inputs, found = ctx.saved_tensors
        return *_Back.apply(gradients, of_cell, found, *inputs), *(None for _ in inputs[3:])


class _Back(Function):
    """The way back, of all gradients at once under vmap."""

    @staticmethod
    def forward(gradients: Tensor, of_cell: Tensor, found: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps, hidden, cell = pull_back(gradients[:, None], of_cell[:, None], found, *inputs)
        return steps[:, 0], hidden[:, 0], cell[:, 0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, gradients: Tensor, of_cell: Tensor, found: Tensor, *inputs: Tensor) -> Any:
        def targets_second(value: Tensor, dim: int | None) -> Tensor:
            value = value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            return value.transpose(0, 1)

        back = pull_back(targets_second(gradients, in_dims[0]), targets_second(of_cell, in_dims[1]), found, *inputs)
        return back, (1, 1, 1)


def pull_back(
    gradients: Tensor, of_cell: Tensor, found: Tensor, steps: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """K gradients of each of B rows through one layer, each from where it starts.

    Args:
        gradients: of the outputs, ``[B, K, T, D]``.
        of_cell: of the last cell, ``[B, K, D]``.
        found: the outputs, ``[B, T, D]``.
        steps: ``[B, T, E]``.
        hidden: before the first step, ``[B, D]``.
        cell: before the first step, ``[B, D]``.
        weights: those of :class:`Weights`.

    Returns:
        Gradients of steps ``[B, K, T, E]``, hidden and cell ``[B, K, D]``.
    """
    own = Weights(*weights)
    batch, count, length, size = gradients.shape
    before = torch.cat([hidden[:, None], found[:, :-1]], 1)
    gates = product(steps, own.of_input, own.bias) + product(before, own.of_state, own.state_bias)
    # A gradient of the last cell starts at the last step, whatever the outputs' do.
    schedule = Schedule.of(gradients, dense=True if bool(of_cell.any()) else None)
    slopes = schedule.aligned(Slopes(gates, cell).values)
    dh, dc = gradients.new_zeros(batch, count, size), of_cell[schedule.captions[:, None], schedule.targets].clone()
    dgates = gradients.new_zeros(batch, count, length, 4 * size)
    for stage, h, c in walk(schedule, dh, dc):
        h[stage.at] += schedule.vectors[stage.joining]
        back = through_cell(slopes[: stage.captions, stage.number], h, c)
        dgates[: stage.captions, : stage.targets, stage.number] = back
        h.copy_(product(back, own.of_state.mT))
    # From stages, the last step first, back to steps; rows that are through at a stage have zeros there.
    flipped = _from_last(dgates, schedule)
    dsteps = schedule.restored(product(flipped, own.of_input.mT))
    return dsteps, schedule.restored(dh), schedule.restored(dc)


def _from_last(stages: Tensor, schedule: Schedule) -> Tensor:
    """``[B, K, J, ...]`` by stages → ``[B, K, T, ...]`` by steps."""
    length = stages.shape[2]
    lengths = schedule.steps[:, 0] + 1 if schedule.steps.shape[1] else schedule.steps.new_zeros(len(stages))
    places = lengths[:, None] - 1 - torch.arange(length, device=stages.device)
    padded = functional.pad(stages, (0, 0, 0, 1)).transpose(1, 2)
    rows = torch.arange(len(stages), device=stages.device)[:, None]
    by_step: Tensor = padded[rows, torch.where(places >= 0, places, length)].transpose(1, 2)
    return by_step
