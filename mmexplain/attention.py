"""The attention of a transformer over the photo's tokens: matrices to look at and gradients with respect to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mmexplain.errors import MethodError, ModelError
from mmexplain.forward import model_runs
from mmexplain.gradients import vectorized
from mmexplain.multihead import multi_head_attention
from mmexplain.passes import in_chunks
from mmexplain.reader import Reader, ReaderOf, reader_for, told_or_guessed
from mmexplain.surroundings import ordinary, require_ordinary, undisturbed

if TYPE_CHECKING:
    from mmexplain.probe import Probe

Reduction = Callable[[list[Tensor], list[Tensor], Tensor], Tensor]

LAYER = "attention"
"""What a task is asked for by the name of a layer: how tokens lie that attend to each other."""

ROW_FACTOR = 6
"""Tensors of the size of all attention matrices that the graph of one input is reckoned to keep alive."""

TARGET_FACTOR = 3
"""The same for the gradients of one target."""

_INSTEAD = "use 'gradcam' at a layer that `mmexplain layers` lists with a map"

_CHANGES = "has a different number of tokens from layer to layer"

_FUSED = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_SOFTMAXES = (functional.softmax, torch.softmax, Tensor.softmax)
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.einsum)
# What may stand between a softmax and the product with the values.
_KEEPING = (functional.dropout, torch.dropout, Tensor.to, Tensor.type_as, Tensor.float, Tensor.contiguous)


class explicit_attention(TorchFunctionMode):
    """Within this context, and in this thread only, self-attention over the photo's tokens is computed with a matrix
    A = softmax(q kᵀ · scale + mask) that is kept and can be differentiated. The model is not touched.

    ``scaled_dot_product_attention`` is caught (timm, transformers' "sdpa", ``nn.MultiheadAttention``, whose native fast
    path PyTorch leaves aside in such a context), and so is a softmax followed by a matrix product (transformers'
    "eager", timm with ``fused_attn=False``). Other attention, such as that of a class token alone or between words
    and places, runs as it did.

    Args:
        rows: B, how many inputs the model runs on.
        image: ``(height, width)``, or ``(frames, height, width)`` of a clip.
        prefix: leading tokens that are no place in the photo, where the model tells.
        told: how tokens lie over the photo, where the task tells, for a layer called ``"attention"`` with a row of one
            number for each token.

    Attributes:
        matrices: for each layer that ran, in order, A as the model lays it out, ``[B, heads, N, N]`` or
            ``[B · heads, N, N]``; float32 at least where attention was fused.
        reader: how N tokens lie over the photo; None before any were seen.
        refusal: why the matrices do not make up the whole of the model's attention; None if they do.
    """

    def __init__(
        self, rows: int, image: Sequence[int], prefix: int | None = None, told: ReaderOf | None = None
    ) -> None:
        super().__init__()
        self.matrices: list[Tensor] = []
        self.reader: Reader | None = None
        self.refusal: str | None = None
        self._rows = rows
        self._image = tuple(image)
        self._prefix = prefix
        self._told = told
        self._tokens = 0
        # What the last softmax put out, as it is and as it was handed on.
        self._softmax: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            # It would run with this context switched off.
            with self:
                return multi_head_attention(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            return self._fused(args, kwargs)
        if func in _PRODUCTS and self._stands_for_softmax(args[:2]):
            self._keep(self._softmax[0])
            self._softmax = []
        result = func(*args, **kwargs)
        if func in _SOFTMAXES:
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            # One that is a matrix over tokens may start a graph.
            if dim in (-1, result.ndim - 1) and result.ndim in (3, 4):
                self.settle()
                self._softmax = [_differentiable(result) if self._wanted(result.shape) else result]
                return self._softmax[0]
        elif func in _KEEPING and self._stands_for_softmax(args[:1]):
            self._softmax.append(result)
        return result

    def settle(self) -> None:
        """Take note of a softmax over tokens that no product with values has followed; to be called at the end."""
        shape = self._softmax[0].shape if self._softmax else (0, 0)
        if shape[-2] == shape[-1] and self._inputs(shape) == self._rows and self._places(shape[-1]):
            self.refusal = "mixes or changes its attention between the softmax and the product with the values"
        self._softmax = []

    def _stands_for_softmax(self, candidates: Sequence[Any]) -> bool:
        return any(candidate is value for candidate in candidates for value in self._softmax)

    def _fused(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        given = dict(zip(_FUSED, args, strict=False)) | kwargs
        query, key, value = (given[name] for name in _FUSED[:3])
        shape = (*query.shape[:-1], key.shape[-2])
        if not self._wanted(shape):
            self._note(shape)
            return functional.scaled_dot_product_attention(*args, **kwargs)
        if given.get("enable_gqa"):
            times = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
        wide = torch.promote_types(query.dtype, torch.float32)
        scale = given.get("scale")
        products = (query @ key.transpose(-2, -1)).to(wide) * (query.shape[-1] ** -0.5 if scale is None else scale)
        mask = given.get("attn_mask")
        if given.get("is_causal"):
            mask = torch.ones(shape[-2:], dtype=torch.bool, device=query.device).tril()
        if mask is not None:
            products = products.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else products + mask
        matrix = _differentiable(products.softmax(-1))
        self._keep(matrix)
        shares = functional.dropout(matrix, given.get("dropout_p", 0.0))
        mixed: Tensor = shares.to(value.dtype) @ value
        return mixed

    def _keep(self, matrix: Tensor) -> None:
        if self._wanted(matrix.shape):
            if self._tokens not in (0, matrix.shape[-1]):
                self.refusal = _CHANGES
            self._tokens = matrix.shape[-1]
            self.reader = self._fold(self._tokens)
            self.matrices.append(matrix)
        else:
            self._note(matrix.shape)

    def _wanted(self, shape: Sequence[int]) -> bool:
        """Whether a matrix of that shape is self-attention among all tokens of each input."""
        queries, keys = shape[-2:]
        return queries == keys and self._inputs(shape) == self._rows and self._fold(queries) is not None

    def _note(self, shape: Sequence[int]) -> None:
        """Remember attention over places of the photo of which no matrix from all to all can be made."""
        queries, keys = shape[-2:]
        rows = self._inputs(shape)
        parts = rows // self._rows if rows % self._rows == 0 else 0
        if queries == keys and parts > 1 and reader_for((1, parts * queries, 1), self._image, 0):
            self.refusal = (
                "attends within windows or single frames, as Swin does, and not from every token to every token"
            )
        elif rows == self._rows and self._places(queries) and self._places(keys):
            self.refusal = _CHANGES if queries == keys else "pools the keys of its attention, and not the queries"

    def _inputs(self, shape: Sequence[int]) -> int:
        """How many rows stand beside the heads; of three axes the first holds both."""
        return self._rows if len(shape) == 3 and shape[0] % self._rows == 0 else shape[0] if len(shape) == 4 else 0

    def _fold(self, tokens: int) -> Reader | None:
        reader = self._places(tokens)
        return None if reader is None or self._prefix not in (None, reader.prefix) else reader

    def _places(self, tokens: int) -> Reader | None:
        """How tokens would lie over the photo, whatever the model tells of those before them."""
        shape = (self._rows, tokens, 1)
        return told_or_guessed(self._told, LAYER, shape, self._image, self._prefix)


def read_attention(probe: Probe, reduce: Reduction, *, gradients: bool = True) -> Tensor:
    """Maps that are made of a transformer's attention over the photo's tokens.

    The model runs once on the inputs, with a graph from its first attention on, and K gradients are pulled back from
    the scores to the matrices. Attention is looked at where the model sees the photo, in ``encode``. Inputs and targets
    go in chunks, so that no more than ``probe.memory`` bytes are taken, as far as that can be reckoned.

    Args:
        probe: the model.
        reduce: ``(matrices, gradients, start) → [b, k, N]``: for each layer, first to last, A
            ``[b, 1, heads, N, N]`` and the gradients of k scores with respect to it ``[b, k, heads, N, N]``; and how
            much of each of the N tokens that leave the last attention is read, ``[b, k, N]``, which sums to 1. Where
            the score is read off the class token alone, it is 1 there; where it is read off several tokens (the
            mean over places, a pooling by attention), all of these count alike. It is found by the gradient: no
            score depends on a row of the last A that nobody reads. All are float32, or float64.
        gradients: whether they are wanted; an empty list is given otherwise, which saves all of the backward pass but
            the head's.

    Returns:
        ``[B, K, *S]`` float32 (float64 for a model in float64), prefix tokens left out, folded to the grid.

    Raises:
        MethodError: the model has no self-attention over the photo's tokens, or not from every token to every token.
        ModelError: the scores do not depend on it in a differentiable way, or the maps are not finite.
        DeviceError: not even one target fits into memory.
    """
    require_ordinary(probe.problem.model)
    # What one input takes is known when it has run.
    first, size = _read(probe, slice(0, 1), reduce, gradients)

    def rest(part: slice) -> Tensor:
        return _read(probe, slice(part.start + 1, part.stop + 1), reduce, gradients)[0]

    maps = torch.cat([first, *in_chunks(probe.batch - 1, max(1, probe.memory // (ROW_FACTOR * size)), rest)])
    if not bool(torch.isfinite(maps).all()):
        raise ModelError("the attention or its gradients are not finite (NaN or Inf)")
    return maps


def _read(probe: Probe, part: slice, reduce: Reduction, gradients: bool) -> tuple[Tensor, int]:
    """Maps ``[b, K, *S]`` of some of the inputs, and the bytes of one input's matrices."""
    problem, targets = probe.problem, probe.targets[part]
    image = probe.inputs.shape[2:]
    with undisturbed(problem.model, probe.inputs.device), torch.enable_grad():
        inputs = {name: ordinary(value)[part] for name, value in problem.inputs.items()}
        context = {name: ordinary(value)[part] for name, value in problem.context.items()}
        prefix = getattr(problem.model, "num_prefix_tokens", None)
        with (
            model_runs(probe.inputs.shape),
            explicit_attention(len(targets), image, prefix, problem.reader) as attention,
        ):
            features = problem.encode(inputs)
        attention.settle()
        reader = _required(attention)
        with model_runs(probe.inputs.shape):
            output = problem.decode(ordinary(features), context)
        scores = problem.score(output, targets)
        if not scores.requires_grad:
            raise _undifferentiable()
        size = sum(matrix.numel() * matrix.element_size() for matrix in attention.matrices) // len(targets)

        def some(columns: slice) -> Tensor:
            return _reduced(attention.matrices, scores, columns, reduce, gradients)

        step = max(1, probe.memory // (TARGET_FACTOR * len(targets) * size))
        tokens = torch.cat(in_chunks(probe.count, step if gradients else probe.count, some), 1)
    maps = reader(tokens.flatten(0, 1).unsqueeze(-1)).squeeze(1)
    # Attention may have been taken in another precision than the model's.
    return maps.unflatten(0, tokens.shape[:2]).to(torch.promote_types(probe.inputs.dtype, torch.float32)), size


def _reduced(matrices: Sequence[Tensor], scores: Tensor, columns: slice, reduce: Reduction, gradients: bool) -> Tensor:
    """``[b, k, N]`` for some of the targets."""
    rows = len(scores)
    one_hot = torch.eye(scores.shape[1], device=scores.device, dtype=scores.dtype)[columns]
    vectors = one_hot.unsqueeze(1).expand(-1, rows, -1)
    kept = list(matrices)
    if gradients:
        slopes = list(vectorized(scores, vectors, kept, create_graph=False))
    else:
        slopes = [None] * len(kept)
        for number in reversed(range(len(kept))):
            (slopes[number],) = vectorized(scores, vectors, [kept[number]], create_graph=False)
            if slopes[number] is not None:
                break
    found = [_by_head(slope, rows) for slope in slopes if slope is not None]
    if not found:
        raise _undifferentiable()
    # A layer that no score depends on is none on the way.
    if gradients:
        kept = [matrix for matrix, slope in zip(kept, slopes, strict=True) if slope is not None]
    else:
        kept = kept[: number + 1]
    last = (found[-1] != 0).any(-1).any(2)
    # A score that depends on none of them, behind a ReLU that is off, has no map; the rows do not matter.
    last = torch.where(last.any(-1, keepdim=True), last, True).to(found[-1].dtype)
    start = last / last.sum(-1, keepdim=True)
    with torch.no_grad(), torch.autocast(scores.device.type, enabled=False):
        shaped = [_by_head(matrix.detach().unsqueeze(0), rows) for matrix in kept]
        return reduce(shaped, found if gradients else [], start)


def _required(attention: explicit_attention) -> Reader:
    if attention.refusal is not None:
        raise MethodError(f"this model {attention.refusal}, so attention cannot be followed to the photo; {_INSTEAD}")
    if attention.reader is None:
        raise MethodError(
            f"this model has no self-attention over the photo's tokens that could be followed (a ViT has); {_INSTEAD}"
        )
    return attention.reader


def _undifferentiable() -> ModelError:
    return ModelError(
        "the score does not depend on the model's attention in a differentiable way: the model runs it under its own "
        "no_grad, or detaches what it says"
    )


def _by_head(values: Tensor, rows: int) -> Tensor:
    """k of them, as the model lays them out → ``[b, k, heads, N, N]``, float32 at least."""
    values = values.unflatten(1, (rows, -1)) if values.ndim == 4 else values
    return (values if values.dtype == torch.float64 else values.float()).transpose(0, 1)


def _differentiable(matrix: Tensor) -> Tensor:
    """The matrix, as the leaf of a graph where there is none."""
    return matrix if matrix.requires_grad else matrix.detach().requires_grad_()
