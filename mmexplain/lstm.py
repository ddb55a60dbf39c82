"""An LSTM layer whose gradients, for many targets at once, come of written-out equations instead of vmap over cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mmexplain.products import product, product_back
from mmexplain.recurrent import Schedule, Slopes, through_cell, walk


class Weights(NamedTuple):
    """Of one layer, ``[4 D, E]``, ``[4 D, D]`` and ``[4 D]`` twice, in PyTorch's order of gates."""

    of_input: Tensor
    of_state: Tensor
    bias: Tensor | None = None
    state_bias: Tensor | None = None


class LSTM(Function):
    """One layer in one direction, batch first: steps ``[B, T, E]`` and the states before, ``[B, D]`` each →
    outputs ``[B, T, D]``, the last cell ``[B, D]``, and the gates before their nonlinearities, ``[B, T, 4 D]``.

    The gradients are those of steps and states; nobody asks for the weights'.
    """

    @staticmethod
    def forward(steps: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class; ``weights`` are those of :class:`Weights`."""
        own = Weights(*weights)
        # For a dozen steps of one caption oneDNN's own layer takes three times as long: it packs the weights anew.
        gates = product(steps, own.of_input, own.bias)
        size, outputs = hidden.shape[1], []
        for now in gates.unbind(1):
            now += product(hidden, own.of_state, own.state_bias)
            let_in, forget, _, let_out = now.sigmoid().split(size, 1)
            cell = torch.addcmul(forget * cell, let_in, now[:, 2 * size : 3 * size].tanh())
            hidden = let_out * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1), cell, gates

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keeps the gates, and what they are differentiated with."""
        _, _, cell, *weights = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(output[2], cell, *weights[:2])
        ctx.others = len(weights)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradients: Tensor, of_cell: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the outputs and of the last cell → of steps and states."""
        return *_Back.apply(gradients, of_cell, *ctx.saved_tensors), *(None for _ in range(ctx.others))


class _Back(Function):
    """The way back, of all gradients at once under vmap."""

    @staticmethod
    def forward(gradients: Tensor, of_cell: Tensor, *kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps, hidden, cell = pull_back(gradients[:, None], of_cell[:, None], *kept)
        return steps[:, 0], hidden[:, 0], cell[:, 0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, gradients: Tensor, of_cell: Tensor, *kept: Tensor) -> Any:
        def targets_second(value: Tensor, dim: int | None) -> Tensor:
            value = value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            return value.transpose(0, 1)

        back = pull_back(targets_second(gradients, in_dims[0]), targets_second(of_cell, in_dims[1]), *kept)
        return back, (1, 1, 1)


def pull_back(
    gradients: Tensor, of_cell: Tensor, gates: Tensor, cell: Tensor, of_input: Tensor, of_state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """K gradients of each of B rows through one layer, each from where it starts.

    Args:
        gradients: of the outputs, ``[B, K, T, D]``.
        of_cell: of the last cell, ``[B, K, D]``.
        gates: before their nonlinearities, ``[B, T, 4 D]``.
        cell: before the first step, ``[B, D]``.
        of_input: ``[4 D, E]``.
        of_state: ``[4 D, D]``.

    Returns:
        Gradients of steps ``[B, K, T, E]``, hidden and cell ``[B, K, D]``.
    """
    batch, count, length, size = gradients.shape
    # A gradient of the last cell starts at the last step, whatever the outputs' do.
    schedule = Schedule.of(gradients, dense=True if bool(of_cell.any()) else None)
    slopes = schedule.aligned(Slopes(gates, cell).values)
    dh, dc = gradients.new_zeros(batch, count, size), of_cell[schedule.captions[:, None], schedule.targets].clone()
    dgates = gradients.new_zeros(batch, count, length, 4 * size)
    for stage, h, c in walk(schedule, dh, dc):
        h[stage.at] += schedule.vectors[stage.joining]
        back = through_cell(slopes[: stage.captions, stage.number], h, c)
        dgates[: stage.captions, : stage.targets, stage.number] = back
        h.copy_(product(back, of_state.mT))
    # From stages, the last step first, back to steps; rows that are through at a stage have zeros there.
    dsteps = schedule.restored(product_back(_from_last(dgates, schedule), of_input))
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
