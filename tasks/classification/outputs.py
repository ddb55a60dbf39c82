"""Reading logits out of whatever a classifier returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmexplain.errors import ModelError


def find_logits(output: Any, classes: int | None = None) -> Tensor:
    """The logits ``[B, N]`` in a model's output.

    The output is the logits themselves (``[B, N]``, ``[B]``, or ``[B, N, 1, 1]``), or holds them: under the key or
    attribute ``logits`` (Hugging Face, GoogLeNet), or as the one ``[B, N]`` tensor of a tuple or mapping; of several,
    the first that is ``classes`` wide.

    Raises:
        ModelError: no logits are found.
    """
    tensor = output if isinstance(output, Tensor) else _within(output, classes)
    if tensor is not None and tensor.is_floating_point():
        while tensor.ndim > 2 and tensor.shape[-1] == 1:
            tensor = tensor[..., 0]
        if tensor.ndim == 1:
            tensor = tensor[:, None]
        if tensor.ndim == 2 and tensor.shape[1]:
            return tensor
    raise ModelError(f"no class scores [B, N] in the model's output, which is {describe(output)}")


def _within(output: Any, classes: int | None) -> Tensor | None:
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    tables = [item for item in items if isinstance(item, Tensor) and item.ndim == 2]
    fitting = [item for item in tables if item.shape[1] == classes] if classes else []
    return next(iter(fitting or tables), None)


def describe(output: Any) -> str:
    """A model's output in a few words: shapes and keys, no values."""
    if isinstance(output, Tensor):
        return f"a {str(output.dtype).removeprefix('torch.')} tensor {list(output.shape)}"
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with " + ", ".join(f"{k}: {_shape(v)}" for k, v in output.items())
    if isinstance(output, (tuple, list)):
        return f"{type(output).__name__} of " + ", ".join(map(_shape, output))
    return type(output).__name__


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
