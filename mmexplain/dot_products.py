"""Attention by scaled dot products on a CPU, with gradients of many targets at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmexplain.batched import of_all
from mmexplain.products import MOST


class DotProducts(Function):
    """``functional.scaled_dot_product_attention`` without dropout.

    PyTorch's fused way back has no rule for vmap, which goes through the targets in turn, and works out all queries,
    though behind a network's last attention only the class token's have gradients. Here those alone are gone through.
    """

    @staticmethod
    def forward(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        """``[..., T, D]``, ``[..., S, D]``, ``[..., S, E]``, ``[..., T, S]`` added or boolean → ``[..., T, E]``."""
        return torch.nn.functional.scaled_dot_product_attention(queries, keys, values, mask, scale=scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps the inputs."""
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        """``[..., T, E]`` → those of queries, keys and values."""
        queries, keys, values, mask = ctx.saved_tensors
        return *of_all(_back, gradients, queries, keys, values, mask, ctx.scale), None, None


def _back(
    gradients: Tensor, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients ``[..., T, E]`` at the output, with or without an axis of targets before the others' own, → at queries,
    keys and values."""
    axes = [axis for axis in range(gradients.ndim) if axis != gradients.ndim - 2]
    (there,) = gradients.count_nonzero(axes).nonzero(as_tuple=True)
    count = queries.shape[-2]
    some = len(there) <= MOST * count
    if some:
        gradients, asked = gradients[..., there, :], queries[..., there, :]
        mask = mask[..., there, :] if mask is not None and mask.shape[-2] == count else mask
    else:
        asked = queries
    logits = (asked @ keys.mT) * scale
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    # A query that may look nowhere gives nothing.
    strengths = logits.softmax(-1).nan_to_num(0.0)
    at_strengths = gradients @ values.mT
    at_values = strengths.mT @ gradients
    at_logits = strengths * (at_strengths - (at_strengths * strengths).sum(-1, keepdim=True)) * scale
    at_keys = at_logits.mT @ asked
    found = at_logits @ keys
    if some:
        found = found.new_zeros(*found.shape[:-2], count, found.shape[-1]).index_copy_(-2, there, found)
    return found, at_keys, at_values
