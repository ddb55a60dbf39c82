"""Other backward rules for ReLU, without touching the model: guided backpropagation and the deconvnet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mmexplain.errors import MethodError

ReLURule = Literal["guided", "deconv"]


class NoReLUError(MethodError):
    """A ReLU rule was asked for and the model runs no ReLU that it could be applied to."""


class _RectifiedGradient(torch.autograd.Function):
    """min(max(x, 0), ceiling) whose backward pass lets only positive gradients through."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ceiling: float | None, gated: bool) -> Tensor:
        if gated:
            active = value > 0
            ctx.save_for_backward(active if ceiling is None else active & (value < ceiling))
        ctx.gated = gated
        return value.clamp(min=0, max=ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].clamp(min=0)
        if ctx.gated:
            gradient = gradient * ctx.saved_tensors[0]
        return gradient, None, None


# Every way in which PyTorch code writes a ReLU → names of its arguments, whether it writes in place by name.
_RELUS: dict[Callable[..., Any], tuple[tuple[str, ...], bool]] = {
    functional.relu: (("input", "inplace"), False),
    functional.relu6: (("input", "inplace"), False),
    functional.hardtanh: (("input", "min_val", "max_val", "inplace"), False),
    functional.hardtanh_: (("input", "min_val", "max_val"), True),
    functional.threshold: (("input", "threshold", "value", "inplace"), False),
    torch.threshold: (("input", "threshold", "value"), False),
    torch.threshold_: (("input", "threshold", "value"), True),
    torch.relu: (("input",), False),
    torch.relu_: (("input",), True),
    Tensor.relu: (("input",), False),
    Tensor.relu_: (("input",), True),
    torch.clamp: (("input", "min", "max"), False),
    torch.clamp_: (("input", "min", "max"), True),
    torch.clip: (("input", "min", "max"), False),
    torch.clip_: (("input", "min", "max"), True),
    Tensor.clamp: (("input", "min", "max"), False),
    Tensor.clamp_: (("input", "min", "max"), True),
    Tensor.clip: (("input", "min", "max"), False),
    Tensor.clip_: (("input", "min", "max"), True),
    torch.clamp_min: (("input", "min"), False),
    torch.clamp_min_: (("input", "min"), True),
    Tensor.clamp_min: (("input", "min"), False),
    Tensor.clamp_min_: (("input", "min"), True),
}


class relu_rule(TorchFunctionMode):
    """Within this context, and in this thread only, every ReLU and ReLU6 has another backward rule.

    Functional, in-place and reused ReLUs are caught alike, because the call is intercepted and not a module.
    Graphs built inside keep the rule when they are differentiated later.

    * "guided": g · 1[g > 0] · 1[x > 0] (Springenberg et al., "Striving for Simplicity", ICLR workshop 2015)
    * "deconv": g · 1[g > 0] (Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014)

    Args:
        rule: "guided" or "deconv".

    Attributes:
        seen: how many rectifiers ran, with a graph or without one.
        applied: how many of them got the rule.
    """

    def __init__(self, rule: ReLURule) -> None:
        super().__init__()
        self.seen = 0
        self.applied = 0
        self._gated = rule == "guided"

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        known = _RELUS.get(func)
        if known is None:
            return func(*args, **kwargs)
        names, in_place = known
        given = dict(zip(names, args, strict=False)) | kwargs
        value = given.get("input", given.get("self"))
        ceiling = _ceiling(func, given)
        if ceiling is NotImplemented or not isinstance(value, Tensor) or not value.is_floating_point():
            return func(*args, **kwargs)
        self.seen += 1
        if not torch.is_grad_enabled() or not value.requires_grad:
            return func(*args, **kwargs)
        self.applied += 1
        if in_place or given.get("inplace"):
            # The copy keeps the in-place promise for callers that ignore the return value.
            return value.copy_(_RectifiedGradient.apply(value.clone(), ceiling, self._gated))
        return _RectifiedGradient.apply(value, ceiling, self._gated)


def _ceiling(func: Callable[..., Any], given: dict[str, Any]) -> Any:
    """Upper bound of the rectifier (None: no bound); NotImplemented when the call is not a rectifier."""
    if func is functional.relu6:
        return 6.0
    if func in (functional.hardtanh, functional.hardtanh_):
        return given.get("max_val", 1.0) if given.get("min_val", -1.0) == 0 else NotImplemented
    if func in (functional.threshold, torch.threshold, torch.threshold_):
        return None if given.get("threshold") == 0 and given.get("value") == 0 else NotImplemented
    if "min" in _RELUS[func][0]:
        floor, ceiling = given.get("min"), given.get("max")
        usable = not isinstance(floor, Tensor) and floor == 0 and not isinstance(ceiling, Tensor)
        return ceiling if usable else NotImplemented
    return None
