"""Linear and recurrent layers of the user's model, run and differentiated on a CPU by what is fast there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mmexplain.dot_products import DotProducts
from mmexplain.lstm import LSTM
from mmexplain.modules import modules_of, within
from mmexplain.multihead import multi_head_attention
from mmexplain.pooled_reads import reads_now
from mmexplain.products import Linear, product
from mmexplain.switches import onednn, switched_off

LARGE = 2**16
"""Weights of a linear layer from which on another library is worth asking."""

_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


@contextmanager
def fast_layers(model: nn.Module) -> Iterator[None]:
    """Within it large linear layers and LSTMs of ``model`` give what they always give, to rounding, sooner, and pull
    gradients back to their inputs, many at once under vmap; their weights get none.

    Linear layers, and those within attention layers, multiply by :func:`~mmexplain.products.product`; attention goes
    back by :class:`~mmexplain.dot_products.DotProducts`. LSTMs of one layer and one direction go back by
    :class:`~mmexplain.lstm.LSTM`. Other recurrent layers go without oneDNN where a graph is made: its way back works
    out the weights' gradients, and vmap does not know it. Only the thread that entered is concerned, and not within
    other modes that exchange functions.
    """
    layers = [module for module in modules_of(model) if isinstance(module, _RECURRENT) or _concerned(module)]
    # Who follows every function has to see those that the layer calls.
    with within(layers, _Exchange, lambda: not torch._C._len_torch_function_stack()):
        yield


class _Exchange(TorchFunctionMode):
    """Within one layer: exchanges the function that it calls."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is functional.multi_head_attention_forward:
            with self:
                return multi_head_attention(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        exchanged = None if kwargs and function not in _BY_NAME else _EXCHANGED.get(function)
        found = exchanged(*args, **kwargs) if exchanged and not _within_transforms() else None
        return function(*args, **kwargs) if found is None else found


def _concerned(module: nn.Module) -> bool:
    if type(module) is nn.MultiheadAttention:
        return module.out_proj.weight.numel() >= LARGE
    if type(module).__name__.endswith("Attention"):
        # Others' own, which PyTorch's functions are called by: timm's, those of transformers.
        return any(type(child) is nn.Linear and child.weight.numel() >= LARGE for child in module.children())
    if type(module).__name__.endswith("AvgPool") or isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)):
        return True
    return type(module) is nn.Linear and module.weight.numel() >= LARGE


def _dot_products(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **others: Any,
) -> Tensor | None:
    if not torch.is_grad_enabled() or is_causal or dropout_p or any(others.values()):
        return None
    if not all(type(each) is Tensor and each.dtype == torch.float32 for each in (query, key, value)):
        return None
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2] or torch.is_autocast_enabled("cpu"):
        return None
    if not any(each.requires_grad for each in (query, key, value)) or (
        attn_mask is not None and attn_mask.requires_grad
    ):
        return None
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return DotProducts.apply(query, key, value, attn_mask, scale)  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if not _plain(rows, weight, bias) or rows.dtype != torch.float32 or weight.ndim != 2 or not weight.is_contiguous():
        return None
    if not torch.is_grad_enabled():
        return product(rows, weight, bias)
    reads = reads_now() if rows.requires_grad else None
    if reads is not None and (found := reads.read(rows, weight, bias)) is not None:
        return found
    # Of rows that nothing is asked for, the weights' graph is all that there is.
    return Linear.apply(rows, weight, bias) if rows.requires_grad else None


def _pool(maps: Tensor, size: Any) -> Tensor | None:
    places = maps.ndim - 2
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size,) * places
    return _mean(maps, tuple(range(2, maps.ndim)), keepdim=True) if sizes == (1,) * places else None


def _mean(maps: Tensor, dim: Any = None, keepdim: bool = False, **others: Any) -> Tensor | None:
    reads = reads_now() if _plain(maps) and maps.requires_grad and torch.is_grad_enabled() else None
    axes = dim if isinstance(dim, (tuple, list)) else (dim,)
    if reads is None or others or None in axes or {axis % maps.ndim for axis in axes} != set(range(2, maps.ndim)):
        return None
    return reads.pool(maps, keepdim)


def _lstm(steps: Tensor, states: Any, weights: Any, *settings: Any) -> Any:
    if not torch.is_grad_enabled():
        return None
    plain = isinstance(states, (tuple, list)) and _plain(steps, *weights) and steps.requires_grad
    one_layer = isinstance(weights, (tuple, list)) and len(settings) == 6 and settings[1] == 1 and not settings[4]
    if not plain or not one_layer or states[0].shape[-1] * 4 != len(weights[0]):
        return _without_onednn(torch.lstm)(steps, states, weights, *settings)
    batch_first = settings[5]
    rows = steps if batch_first else steps.transpose(0, 1)
    found, cell, _ = LSTM.apply(rows, states[0][0], states[1][0], *weights)
    last = found[:, -1][None]
    return found if batch_first else found.transpose(0, 1), last, cell[None]


def _without_onednn(function: Any) -> Any:
    def run(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return None
        with switched_off(onednn):
            return function(*args)

    return run


def _plain(value: Tensor, *weights: Tensor | None) -> bool:
    """Whether they are ordinary tensors, and the weights are made by nothing that gradients are asked for."""
    kinds = (Tensor, nn.Parameter)
    if type(value) not in kinds or torch.is_autocast_enabled("cpu"):
        return False
    return all(
        weight is None
        or (type(weight) in kinds and weight.dtype == value.dtype and (weight.is_leaf or not weight.requires_grad))
        for weight in weights
    )


def _within_transforms() -> bool:
    """Whether torch.func differentiates or vectorises around here: it does not know functions of one's own."""
    return torch._C._functorch.peek_interpreter_stack() is not None


_EXCHANGED = {
    torch._C._nn.linear: _linear,
    functional.scaled_dot_product_attention: _dot_products,
    functional.adaptive_avg_pool2d: _pool,
    functional.adaptive_avg_pool3d: _pool,
    Tensor.mean: _mean,
    torch.lstm: _lstm,
    torch.gru: _without_onednn(torch.gru),
    torch.rnn_tanh: _without_onednn(torch.rnn_tanh),
    torch.rnn_relu: _without_onednn(torch.rnn_relu),
}
"""Function → what runs in its place, or gives None where the function itself is to run."""

_BY_NAME = {functional.scaled_dot_product_attention, Tensor.mean}
"""Those of them whose arguments may be given by their names."""
