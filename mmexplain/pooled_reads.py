"""The mean over the places of a layer's gradients, past linear layers that read its tokens, or a pooling of its maps.

Keys and values of attention are linear in the tokens that they are made of: what is needed of their gradients for
Grad-CAM is one sum over the places, multiplied by the weights, instead of a product for each place. A decoder of twelve
layers that attend to a photo makes 24 of them for every word, most of what the word's way back costs. A layer
normalisation on the way is no hindrance: its derivative is a sum of three terms, each linear in the gradients. Where a
network averages its maps over the places, all of them have the same gradient, and none needs to be written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmexplain.batched import of_all
from mmexplain.products import product
from mmexplain.reader import Reader

_listening = threading.local()
"""``_listening.reads``: what linear layers of this thread are to tell that they read something."""


def reads_now() -> PooledReads | None:
    """What is listening in this thread."""
    found: PooledReads | None = getattr(_listening, "reads", None)
    return found


class PooledReads:
    """What reads one layer and adds to the mean of its gradients: linear layers that read its tokens, as they are or
    after a layer normalisation, and the mean over all places of its maps.

    Args:
        handed: gives the layer's output as it was handed on, ``[B, T, C]`` or ``[B, C, *S]``, or None where it has not
            run or was changed since.
        reader: how a value of the layer is read as maps, or None where that is not known yet.

    Attributes:
        means: a leaf ``[B, C]`` whose gradient is the mean over the places of that part of the layer's gradient
            that goes through them; None as long as there is none.
        places: dimensions of S.
    """

    def __init__(self, handed: Callable[[], Tensor | None], reader: Callable[[Tensor], Reader | None]) -> None:
        self.means: Tensor | None = None
        self.places = 2
        self._handed = handed
        self._reader = reader
        self._norms: dict[Any, tuple[Tensor, Tensor]] = {}
        self._counted: Tensor | None = None

    def begin(self) -> None:
        """The layer runs anew."""
        self.means = None
        self._norms = {}
        self._counted = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be told what is read, in this thread."""
        outer = reads_now()
        _listening.reads = self
        try:
            yield
        finally:
            _listening.reads = outer

    def read(self, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """``linear(rows, weight, bias)`` whose gradient goes to :attr:`means`; None if the rows are not the layer's."""
        handed = self._handed()
        if handed is None or handed.ndim != 3 or rows.ndim != 3:
            return None
        found = _way(rows, handed)
        if found is None:
            return None
        norm, turned = found
        weights = self._weights(handed)
        if weights is None:
            return None
        means = self._leaf(handed, handed.shape[-1])
        if norm is None:
            return _Read.apply(means, rows.detach(), weight, bias, weights, turned, None, None, None)  # type: ignore[no-any-return, no-untyped-call, unused-ignore]
        if norm not in self._norms:
            spread = norm._saved_result2.detach()
            self._norms[norm] = ((norm._saved_input.detach() - norm._saved_result1.detach()) * spread, spread[..., 0])
        normal, spread = self._norms[norm]
        scale, shift = norm._saved_weight, norm._saved_bias
        # What the layer makes of the shift alone: without it, its output is linear in the normalised tokens.
        still = rows.new_zeros(1, rows.shape[-1]) if shift is None else shift.detach()[None]
        still = product(still, weight, bias)[0]
        scale = None if scale is None else scale.detach()
        return _Read.apply(means, rows.detach(), weight, bias, weights * spread, turned, normal, scale, still)  # type: ignore[no-any-return, no-untyped-call, unused-ignore]

    def pool(self, maps: Tensor, keep: bool) -> Tensor | None:
        """The mean over all places, ``[B, C]`` or, with ``keep``, ``[B, C, 1, ...]``, whose gradient goes to
        :attr:`means`; None if the maps are not the layer's."""
        handed = self._handed()
        if handed is None or maps.grad_fn is not handed.grad_fn or maps.shape != handed.shape or maps.ndim < 4:
            return None
        reader = self._reader(handed)
        if reader is None or reader.layout != "channels_first" or reader.rows_per_input != 1:
            return None
        self.places = maps.ndim - 2
        axes = tuple(range(2, maps.ndim))
        found: Tensor = _Pool.apply(self._leaf(handed, handed.shape[1]), maps.detach().mean(axes), maps[0, 0].numel())
        return found[(..., *(None for _ in axes))] if keep else found

    def _leaf(self, handed: Tensor, channels: int) -> Tensor:
        if self.means is None:
            self.means = handed.new_zeros(len(handed), channels, requires_grad=True)
        return self.means

    def _weights(self, handed: Tensor) -> Tensor | None:
        """What each token counts in the mean over the places, ``[B, T]``; worked out once for all that read them."""
        if self._counted is not None:
            return self._counted
        reader = self._reader(handed)
        if reader is None or reader.layout != "tokens" or reader.rows_per_input != 1 or reader.order is not None:
            return None
        weights = handed.new_zeros(handed.shape[:2])
        weights[:, reader.prefix :] = 1 / (handed.shape[1] - reader.prefix)
        self._counted = weights
        return weights


def _way(rows: Tensor, handed: Tensor) -> tuple[Any, bool] | None:
    """The layer normalisation between ``handed`` and ``rows``, if there is one, and whether places stand before inputs;
    None if anything else is between them."""
    node: Any = rows.grad_fn
    start, norm, turned = handed.grad_fn, None, False
    while node is not None and node is not start:
        if node.name() == "TransposeBackward0" and norm is None and _axes(node) == {0, 1}:
            turned = not turned
        elif node.name() == "NativeLayerNormBackward0" and norm is None:
            if not hasattr(node, "_saved_result2") or len(node._saved_normalized_shape) != 1:
                return None
            norm = node
        else:
            return None
        node = node.next_functions[0][0]
    inputs, places, channels = handed.shape
    if node is None or rows.shape != ((places, inputs, channels) if turned else handed.shape):
        return None
    return norm, turned


def _axes(node: Any) -> set[int]:
    """The two of three that a transposition exchanges; negative ones are kept as unsigned numbers."""
    return {(axis - 2**64 if axis >= 2**63 else axis) % 3 for axis in (node._saved_dim0, node._saved_dim1)}


class _Pool(Function):
    """The mean of maps over their places. That of S places' gradients, each an S-th of the mean's, is an S-th of it."""

    @staticmethod
    def forward(means: Tensor, pooled: Tensor, places: int) -> Tensor:
        """``[B, C]`` and the mean ``[B, C]`` → the mean."""
        return pooled.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps the number of places."""
        ctx.places = inputs[2]

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None, None]:
        """``[B, C]`` → ``[B, C]``."""
        return gradients / ctx.places, None, None


class _Read(Function):
    """A linear layer whose gradient goes, pooled, to a leaf of its own."""

    @staticmethod
    def forward(
        means: Tensor,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        weights: Tensor,
        turned: bool,
        normal: Tensor | None,
        scale: Tensor | None,
        still: Tensor | None,
    ) -> Tensor:
        """``rows [B, T, C]``, or ``[T, B, C]`` where ``turned``, ``weight [E, C]`` → ``[..., E]``; the others see
        :func:`_pooled`."""
        return product(rows, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps what :func:`_pooled` reads."""
        _, _, weight, _, weights, turned, normal, scale, still = inputs
        ctx.turned = turned
        ctx.save_for_backward(weight, weights, normal, scale, None if still is None else output.detach() - still)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        """``[..., E]`` → ``[B, C]``, and nothing for the rows."""
        weight, weights, normal, scale, moved = ctx.saved_tensors
        if ctx.turned:
            gradients = gradients.transpose(0, 1)
            moved = None if moved is None else moved.transpose(0, 1)
        return of_all(_pooled, gradients, weight, weights, normal, scale, moved), *[None] * 8


def _pooled(
    gradients: Tensor,
    weight: Tensor,
    weights: Tensor,
    normal: Tensor | None,
    scale: Tensor | None,
    moved: Tensor | None,
) -> Tensor:
    """The weighted sum over the tokens of the gradients before a linear layer, and before a layer normalisation.

    Args:
        gradients: at the linear layer's output, ``[..., B, T, E]``.
        weight: ``[E, C]``.
        weights: what each token counts, times the reciprocal of its deviation where it is normalised, ``[B, T]``.
        normal: the normalised tokens before their scale and shift, ``[B, T, C]``; None where they are not normalised.
        scale: of the normalisation, ``[C]``.
        moved: the linear layer's output less what it makes of the shift, ``[B, T, E]``.

    Returns:
        ``[..., B, C]``.
    """
    first = (weights[:, None] @ gradients)[..., 0, :] @ weight
    if normal is None or moved is None:
        return first
    if scale is not None:
        first = first * scale
    # With h the gradient at the normalised tokens n of deviation d: (h - mean(h) - n mean(h n)) / d, means over the
    # channels. The sum over the channels of h n is that of the gradients and what the layer makes of the scaled n.
    # In turn: what is multiplied stays in the cache, which takes a tenth of the time.
    sums = torch.stack([(some * moved).sum(-1) for some in gradients.reshape(-1, *gradients.shape[-3:])])
    along = sums.view(gradients.shape[:-1]) / normal.shape[-1] * weights
    return first - first.mean(-1, keepdim=True) - (along[..., None, :] @ normal)[..., 0, :]
