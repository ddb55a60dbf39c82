"""Matrix products on CPUs by the library that is fast at them, and linear layers that are differentiated with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mmexplain.batched import of_all

WIDE = 256
"""Columns from which on rows are looked at before they are multiplied."""


MOST = 0.8
"""Share of rows that are not zero from which on all are multiplied, instead of being picked."""


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear`` for the large products: on x86 processors that are not Intel's, MKL, which PyTorch
    multiplies by, keeps to older instructions, and oneDNN, which it convolves by, takes half the time, or a third where
    there are a dozen rows.

    Args:
        rows: ``[..., D]``.
        weight: ``[E, D]``, contiguous, or the transpose of a contiguous matrix.
        bias: ``[E]``.
    """
    by_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    plain = rows.device.type != "cpu" or rows.dtype != torch.float32 or not torch.backends.mkldnn.enabled
    if by_onednn is None or plain or not torch.backends.mkldnn.is_available() or not rows.numel():
        return functional.linear(rows, weight, bias)
    found: Tensor = by_onednn(rows, weight, bias, "none", [], "")
    return found


def product_back(gradients: Tensor, weight: Tensor) -> Tensor:
    """Gradients at the output of a linear layer ``[..., E]`` → at its input ``[..., D]``; ``weight [E, D]``.

    On a CPU zeros are left out. The gradient of a single logit is zero but at one place: a row of the weights is all
    that is needed. That of a class is zero at all tokens but the class token's behind a transformer's last attention.
    """
    if gradients.device.type != "cpu" or gradients.shape[-1] < WIDE:
        return product(gradients, weight.mT)
    rows = gradients.reshape(-1, gradients.shape[-1])
    strengths = torch.linalg.vector_norm(rows, torch.inf, 1)
    (there,) = (strengths != 0).nonzero(as_tuple=True)
    if len(there) > MOST * len(rows):
        return _back(rows, weight).view(*gradients.shape[:-1], -1)
    found = rows.new_zeros(len(rows), weight.shape[1])
    found[there] = _back(rows[there], weight)
    return found.view(*gradients.shape[:-1], -1)


def _back(rows: Tensor, weight: Tensor) -> Tensor:
    counts = rows[:1].count_nonzero()
    if len(rows) and counts == 1 and bool((rows.count_nonzero(1) == 1).all()):
        place = (rows != 0).to(torch.uint8).argmax(1, keepdim=True)
        return weight[place[:, 0]] * rows.gather(1, place)
    return product(rows, weight.mT)


class Linear(Function):
    """``functional.linear`` whose gradients are those of the rows alone: nobody asks for the weights'."""

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``[..., D]``, ``[E, D]``, ``[E]`` → ``[..., E]``."""
        return product(rows, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps the weights."""
        ctx.save_for_backward(inputs[1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None, None]:
        """``[..., E]`` → ``[..., D]``."""
        (weight,) = ctx.saved_tensors
        return of_all(product_back, gradients, weight), None, None
