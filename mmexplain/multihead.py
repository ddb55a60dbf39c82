"""PyTorch's attention layer, for contexts that exchange the functions which it calls."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional


def _projected(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> list[Tensor]:
    """``functional._in_projection_packed`` of what attends to itself, by three products: one is cheaper forwards, but
    its way back puts the gradients of all three together, which copies each of them several times."""
    if not (query is key is value) or (weight.requires_grad and not weight.is_leaf):
        packed: Any = vars(functional)["_in_projection_packed"]
        found: list[Tensor] = packed(query, key, value, weight, bias)
        return found
    biases = (None,) * 3 if bias is None else bias.detach().chunk(3)
    parts = zip(weight.detach().chunk(3), biases, strict=True)
    return [functional.linear(query, part, shift) for part, shift in parts]


def _unasked() -> Callable[..., Any]:
    """``multi_head_attention_forward`` that does not ask whether a context wants to run in its place: within one it
    would hand itself over for ever."""
    function: Any = functional.multi_head_attention_forward
    names = {**vars(functional), "has_torch_function": lambda _: False, "_in_projection_packed": _projected}
    copied = types.FunctionType(function.__code__, names, argdefs=function.__defaults__)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


multi_head_attention = _unasked()
"""``functional.multi_head_attention_forward``, to be run within a context that was asked about it."""
