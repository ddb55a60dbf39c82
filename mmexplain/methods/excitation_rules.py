"""The backward rule of excitation backprop, without touching the model: probability goes to what excited a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmexplain.errors import MethodError

_LINEAR = {"conv1d", "conv2d", "conv3d", "linear"}
# Layers whose weights are all alike and positive.
_POOLING = {"mean", "sum"} | {f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)}
_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
# ReLUs and maxima, whose ordinary backward rule is the paper's; dropout, which is off; and what moves values about.
_AS_USUAL = {"relu", "relu_", "max", "amax", "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d"}
_AS_USUAL |= {"feature_dropout", "alpha_dropout", "flatten", "unflatten", "reshape", "view", "squeeze", "unsqueeze"}
_AS_USUAL |= {"permute", "transpose", "movedim", "contiguous", "clone", "to", "float", "double", "half", "type_as"}
_AS_USUAL |= {"cat", "concat", "stack", "split", "chunk", "unbind", "select", "narrow", "__getitem__", "__get__"}
_AS_USUAL |= {"gather", "index_select", "expand", "repeat_interleave", "pad"}
_AS_USUAL |= {
    f"{kind}max_pool{n}d{end}" for kind in ("", "adaptive_") for n in (1, 2, 3) for end in ("", "_with_indices")
}


class _Rule:
    """What one layer puts out, and what its positive weights alone would: of −W in place of W where that is asked."""

    def __init__(
        self, mode: excitation, output: Callable[[Tensor], Tensor], excited: Callable[[Tensor, bool], Tensor]
    ) -> None:
        self.mode = mode
        self.output = output
        self.excited = excited

    @property
    def negated(self) -> bool:
        """Whether the layer is the one of the dual unit."""
        return self.mode.negate and self.mode.last is self


class _Redistributed(torch.autograd.Function):
    """A linear layer whose backward pass is P_in = x ⊙ W⁺ᵀ(P_out ⊘ W⁺x)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rule: _Rule) -> Tensor:
        ctx.save_for_backward(value)
        ctx.rule = rule
        return rule.output(value)

    @staticmethod
    def backward(ctx: Any, *probabilities: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        (given,) = probabilities
        exact = torch.promote_types(value.dtype, torch.float32)
        with torch.enable_grad(), torch.autocast(value.device.type, enabled=False):
            value = value.detach().to(exact).requires_grad_()
            excited = ctx.rule.excited(value, ctx.rule.negated)
        # A unit that nothing excites hands nothing down.
        share = torch.where(excited > 0, given.to(exact) / torch.where(excited > 0, excited, 1.0), 0.0)
        (pulled,) = torch.autograd.grad(excited, value, share)
        return (value.detach() * pulled).to(given.dtype), None


class _SharedSum(torch.autograd.Function):
    """a + b whose backward pass shares P out by the positive parts of a and b."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first.clamp(min=0), second.clamp(min=0))
        return first + second

    @staticmethod
    def backward(ctx: Any, *probabilities: Tensor) -> tuple[Tensor, Tensor]:
        (given,) = probabilities
        exact = torch.promote_types(given.dtype, torch.float32)
        first, second = (value.to(exact) for value in ctx.saved_tensors)
        total = first + second
        share = torch.where(total > 0, given.to(exact) / torch.where(total > 0, total, 1.0), 0.0)
        return (share * first).to(given.dtype), (share * second).to(given.dtype)


class _Linear:
    """A call of a convolution or linear layer, to be made again with other weights and no bias."""

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        self.value: Tensor = given.pop("input")
        self.weight: Tensor = given.pop("weight").detach()
        self.bias: Tensor | None = given.pop("bias", None)
        self._call = partial(_call, func, args[3:], given)

    def output(self, value: Tensor) -> Tensor:
        """What it puts out."""
        return self._call(value, self.weight, self.bias)

    def excited(self, value: Tensor, negated: bool, scale: Tensor | None = None) -> Tensor:
        """What its positive weights put out, after they were multiplied by ``scale`` for each output channel."""
        weight = self.weight.to(value.dtype)
        if scale is not None:
            weight = weight * scale.to(value.dtype).reshape(-1, *[1] * (weight.ndim - 1))
        return self._call(value, (-weight if negated else weight).clamp(min=0), None)


def _call(
    func: Callable[..., Any],
    rest: tuple[Any, ...],
    given: dict[str, Any],
    value: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    output: Tensor = func(value, weight, bias, *rest, **given)
    return output


class excitation(TorchFunctionMode):
    """Within this context, and in this thread only, gradients are marginal winning probabilities: what comes to a
    layer's output is shared out to its inputs by P_in = x ⊙ W⁺ᵀ(P_out ⊘ W⁺x). The model is not touched.

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, eqs 4-5. Convolutions, linear layers
    and average pooling have that rule, biases left aside; ReLU and max pooling are as they are.

    * Batch norm behind a convolution or linear layer is folded into it, as networks are deployed and as the two are one
      linear layer: its scale multiplies the weights before their positive part is taken, so that a negative
      scale turns excitation into inhibition, and its shift is a bias. On its own it is a linear layer with one
      weight for each unit.
    * A sum of two branches, which need not be positive before the ReLU behind it, shares out by their positive
      parts, so that nothing is handed down twice.

    While the model runs it raises a MethodError for an operator that has no rule, and for a layer whose input is
    negative somewhere: the rule is a probability only for activations that are not.

    Attributes:
        negate: the backward pass takes −W for W in the last layer with weights: that of the dual unit.
        last: that layer.
    """

    def __init__(self, *, negate: bool = False) -> None:
        super().__init__()
        self.negate = negate
        self.last: _Rule | None = None
        # The layer that ran last and what it put out, for a batch norm that follows.
        self._before: tuple[Tensor, _Linear] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = _graded((*args, *kwargs.values()))
        if not torch.is_grad_enabled() or not given:
            return func(*args, **kwargs)
        if all(isinstance(value, nn.Parameter) for value in given):
            # A branch that the layer has no say in would seem to have a say through its weights.
            with torch.no_grad():
                return func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        if name in _LINEAR:
            return self._linear(name, _Linear(func, args, kwargs))
        if name == "batch_norm":
            return self._norm(func, args, kwargs)
        if name in _POOLING:
            rest = dict(kwargs)
            value = args[0] if args else rest.pop("input")
            pool = partial(_pool, func, args[1:], rest)
            return self._ruled(name, value, _Rule(self, pool, lambda x, _: pool(x)))
        if name in _SUMS:
            return _summed(func, name, args, kwargs)
        result = func(*args, **kwargs)
        if name not in _AS_USUAL and _graded((result,)):
            raise MethodError(
                f"excitation backprop has no rule for {name!r}, which runs behind the layer: it is for CNNs of "
                "convolutions, linear layers, ReLUs, pooling, batch norm and sums of branches, and for their logits; "
                "use 'gradcam'"
            )
        return result

    def close(self) -> None:
        """Forget the layers that ran."""
        self.last = self._before = None

    def _linear(self, name: str, linear: _Linear) -> Tensor:
        output = self._with_weights(name, linear.value, linear.output, linear.excited)
        self._before = (output, linear)
        return output

    def _norm(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(names, args, strict=False)) | kwargs
        value, variance = given.pop("input"), given["running_var"]
        if given.get("training") or variance is None:
            raise MethodError("excitation backprop needs batch norm with running statistics; use 'gradcam'")
        scale = (variance + given.get("eps", 1e-5)).rsqrt()
        if given.get("weight") is not None:
            scale = scale * given["weight"]
        scale = scale.detach()
        if self._before is not None and self._before[0] is value:
            output, linear = self._before
            normed = output.detach()
            return self._with_weights(
                "batch_norm", linear.value, lambda _: func(normed, **given), partial(linear.excited, scale=scale)
            )

        def excited(x: Tensor, _: bool) -> Tensor:
            weight: Tensor = scale.to(x.dtype).clamp(min=0)
            return x * weight.reshape(-1, *[1] * (x.ndim - 2))

        return self._ruled("batch_norm", value, _Rule(self, lambda x: func(x, **given), excited))

    def _with_weights(
        self,
        name: str,
        value: Tensor,
        output: Callable[[Tensor], Tensor],
        excited: Callable[[Tensor, bool], Tensor],
    ) -> Tensor:
        self.last = _Rule(self, output, excited)
        return self._ruled(name, value, self.last)

    def _ruled(self, name: str, value: Tensor, rule: _Rule) -> Tensor:
        if not value.requires_grad:
            raise MethodError(f"excitation backprop needs fixed weights, and those of {name!r} depend on the layer")
        if bool((value.detach() < 0).any()):
            raise MethodError(
                f"excitation backprop needs activations that are not negative, and {name!r} behind the layer is given "
                "negative ones: choose a layer behind a ReLU, or behind the batch norm of a convolution; models that "
                "norm before they convolve have none: use 'gradcam'"
            )
        output: Tensor = _Redistributed.apply(value, rule)
        return output


def _pool(func: Callable[..., Any], rest: tuple[Any, ...], given: dict[str, Any], value: Tensor) -> Tensor:
    output: Tensor = func(value, *rest, **given)
    return output


def _summed(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    first, second = (*args, *([kwargs["other"]] if "other" in kwargs else []))[:2]
    # A number or a parameter is a bias. A branch that goes round the layer has its share, which ends there.
    if any(not isinstance(value, Tensor) or isinstance(value, nn.Parameter) for value in (first, second)):
        output: Tensor = func(*args, **kwargs)
        return output
    if first.shape != second.shape or kwargs.get("alpha", 1) != 1:
        raise MethodError(
            "excitation backprop sums branches of the same shape and weight, and this model others; use 'gradcam'"
        )
    output = _SharedSum.apply(first.clone() if name == "add_" else first, second)
    # The copy keeps the in-place promise for callers that ignore the return value.
    return first.copy_(output) if name == "add_" else output


def _graded(values: Iterable[Any]) -> list[Tensor]:
    """The tensors that a graph leads to, and the weights that one could lead to."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, list | tuple):
            found += _graded(value)
        elif isinstance(value, Tensor) and value.requires_grad:
            found.append(value)
    return found
