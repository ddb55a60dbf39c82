"""PyTorch's attention layer, for contexts that exchange the functions which it calls."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch.nn import functional


def _unasked() -> Callable[..., Any]:
    """``multi_head_attention_forward`` that does not ask whether a context wants to run in its place: within one it
    would hand itself over for ever."""
    function: Any = functional.multi_head_attention_forward
    copied = types.FunctionType(
        function.__code__, {**vars(functional), "has_torch_function": lambda _: False}, argdefs=function.__defaults__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


multi_head_attention = _unasked()
"""``functional.multi_head_attention_forward``, to be run within a context that was asked about it."""
