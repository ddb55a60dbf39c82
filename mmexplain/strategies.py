"""The ways to push the gradients of a chunk of k targets through a model.

Each takes the features ``[B, ...]`` and B rows of k targets and returns a :class:`Chunk`; they agree to rounding.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmexplain.errors import LayerError, MMExplainError
from mmexplain.forward import Forward, ModelFailure
from mmexplain.gradients import at_once, gradient, in_turn, required, vectorized
from mmexplain.problem import PooledVJP, Rows
from mmexplain.reader import Reader
from mmexplain.taps import map_tensors
from mmexplain.targets import Target
from mmexplain.transfer import sent

_log = logging.getLogger(__name__)


@dataclass
class Chunk:
    """What k targets of each of B inputs gave, as the layers put it out.

    Attributes:
        activations: layer → ``[B, ...]``.
        gradients: layer → ``[B, k, ...]``.
        scores: ``[B, k]``.
        output: of ``decode``, for ``rows``: B rows of k targets, or B·k rows of one.
        pooled: the gradients are their mean over the places, ``[B, k, C, 1, ...]``.
    """

    activations: dict[str, Tensor]
    gradients: dict[str, Tensor]
    scores: Tensor
    output: Any
    rows: Rows
    pooled: bool = False


def auto(forward: Forward, features: Tensor, rows: Rows) -> Chunk:
    """Expand as late as it pays.

    On a CPU arithmetic is what counts: ``decode`` runs once for each input, its output is expanded, and the gradients
    are pulled back from there by vjp (``benchmarks/strategies.py``). On an accelerator a decoder's small kernels take
    as long for many rows as for few, and vmap goes through those of recurrent cells and of fused attention in turn:
    there, and where vmap or the output do not allow it, the features are expanded.

    A ``decode`` that is most of the model sees each input once on every device, because k rows would take k times the
    memory of its activations; where vmap or the output do not allow it, there are k backward passes in turn.
    """
    heavy = forward.problem.heavy_decode
    several = len(rows[0]) > 1 or forward.pooled_means is not None
    if several and not forward.create_graph and (heavy or _on_cpu(features)):
        try:
            return _from_output(forward, features, rows)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            # Whatever operators and outputs raise that do not fit; a genuine error comes again.
            _log.debug("cannot expand the output (%s); %s", error, "in turn" if heavy else "expanding the features")
    if forward.pooled_means is not None:
        raise NotPooledError("the graph ends where linear layers read the layer")
    return loop(forward, features, rows) if heavy else boundary(forward, features, rows)


def _on_cpu(features: Tensor) -> bool:
    return features.device.type == "cpu"


def pooled(forward: Forward, features: Tensor, begun: Any = None) -> tuple[Callable[[Rows], Chunk], int] | None:
    """The model's own way back to the features, where only the means of the gradients there are asked for.

    None unless the model offers one, and the one tapped layer is what ``encode`` returns, maps with the channels first.

    Returns:
        A strategy, to be given the rows alone, and the bytes that one target's gradients take where it begins.
    """
    (layer, *others), device = forward.layers, features.device.type
    if forward.problem.pooled_vjp is None or others or forward.recorder.handed_on(features) != layer:
        return None
    # A graph through the maps, other rules for ReLU and mixed precision are what a way of one's own knows nothing of.
    if forward.create_graph or forward.rule or torch.is_autocast_enabled(device):
        return None
    forward.settle_layers(forward.batch)
    if forward.readers[layer] != Reader("channels_first"):
        return None
    vjp = forward.decode_pooled(features, begun)
    if vjp is None:
        return None

    def push(rows: Rows) -> Chunk:
        try:
            # The very list that is scored: what was worked out for it is known by it.
            singles = _singles(rows)
            output, scores, vectors = _on_copies(forward, vjp, rows, singles)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            # Whatever operators and outputs raise that do not fit; a genuine error comes again.
            raise NotPooledError(str(error)) from error
        with torch.no_grad():
            own = torch.arange(len(rows), device=vectors.device)[:, None]
            sums = vjp.pull_back(vectors)[own, sent(_first_of(rows), vectors.device)]
        means = (sums / math.prod(features.shape[2:])).reshape(*sums.shape, *(1 for _ in features.shape[2:]))
        activations = {layer: forward.recorder.captured[layer]}
        return Chunk(activations, {layer: means}, scores.view(*sums.shape[:2]), output, singles, pooled=True)

    return push, vjp.start.numel() * vjp.start.element_size()


class NotPooledError(Exception):
    """The mean of the gradients cannot be had without the gradients."""


def _on_copies(forward: Forward, vjp: PooledVJP, rows: Rows, singles: Rows) -> tuple[Any, Tensor, Tensor]:
    """The output and the scores of B·k rows of one target, and the gradients ``[B, k, ...]`` at where the way back
    starts, zero for a target that stands in its row already."""
    count = len(rows[0])
    starts: list[Tensor] = []
    others: list[Tensor] = []

    def repeated(value: Tensor) -> Tensor:
        copy = value.detach().repeat_interleave(count, 0)
        if copy.is_floating_point():
            (starts if value is vjp.start else others).append(copy.requires_grad_())
        return copy

    output = map_tensors(vjp.output, repeated)
    scores = forward.score(output, singles)
    once = sent([[float(k == first)] for row in _first_of(rows) for k, first in enumerate(row)], scores.device)
    found, *rest = gradient(scores, once.to(scores), [*starts, *others], create_graph=False)
    if len(starts) != 1 or found is None or any(grad is not None for grad in rest):
        raise ValueError("the scores depend on more of the output than its hidden states")
    return output, scores, found.unflatten(0, (forward.batch, count))


def _first_of(rows: Rows) -> list[list[int]]:
    """For each target the number of the first in its row that it is: short rows repeat their last."""
    numbers: list[dict[int, int]] = [{} for _ in rows]
    return [
        [seen.setdefault(id(target), k) for k, target in enumerate(row)]
        for seen, row in zip(numbers, rows, strict=True)
    ]


def _from_output(forward: Forward, features: Tensor, rows: Rows) -> Chunk:
    """Expand what ``decode`` returns, and pull its gradients back to the taps by vjp."""
    count = len(rows[0])
    if not features.requires_grad:
        features = features.detach().requires_grad_()
    outputs: list[Tensor] = []
    copies: list[Tensor] = []

    def repeated(value: Tensor) -> Tensor:
        if value.ndim == 0 or len(value) != forward.batch:
            raise ValueError(f"decode returned shape {tuple(value.shape)} for {forward.batch} rows")
        copy = value.detach().repeat_interleave(count, 0)
        if value.requires_grad:
            outputs.append(value)
            copies.append(copy.requires_grad_())
        return copy

    singles = _singles(rows)
    output, scores = forward.decode(features, singles, expand=lambda output: map_tensors(output, repeated))
    grads = gradient(scores, torch.ones_like(scores), copies, create_graph=False)
    known = [(value, grad) for value, grad in zip(outputs, grads, strict=True) if grad is not None]
    vectors = [grad.unflatten(0, (forward.batch, count)).movedim(1, 0) for _, grad in known]
    activations = {layer: forward.recorder.captured[layer] for layer in forward.layers}
    reads = forward.reads if forward.pooled_means is not None else None
    wanted = [*activations.values(), *([] if forward.pooled_means is None else [forward.pooled_means])]
    pulled = at_once([value for value, _ in known], vectors, wanted, _together(forward))
    if reads is not None:
        (layer,), (rest, means) = activations, pulled
        means = _with_rest(means, rest, forward.readers[layer], layer).movedim(0, 1)
        means = means.reshape(*means.shape, *(1 for _ in range(reads.places)))
        return Chunk(activations, {layer: means}, scores.view(forward.batch, count), output, singles, pooled=True)
    gradients = {layer: required(grad, layer).movedim(0, 1) for layer, grad in zip(forward.layers, pulled, strict=True)}
    return Chunk(activations, gradients, scores.view(forward.batch, count), output, singles)


SLICE = 7 * 2**20
"""Bytes of gradients, at a layer of tokens, that go back through a model at once on a CPU. Larger tensors come from the
system anew each time, a page after the other, which takes longer than to fill them."""

FEWEST = 12
"""Rows that go at once, at least."""


def _together(forward: Forward) -> int | None:
    """How many targets' gradients are pulled back at once; None for all: heads of convolutional networks read weights
    that are larger than what the layers put out, once for each time."""
    captured = [forward.recorder.captured[layer] for layer in forward.layers]
    if captured[0].device.type != "cpu" or any(forward.readers[layer].layout != "tokens" for layer in forward.layers):
        return None
    size = sum(value.numel() * value.element_size() for value in captured)
    return max(1, FEWEST // forward.batch, SLICE // size)


def _with_rest(means: Tensor | None, rest: Tensor | None, reader: Reader, layer: str) -> Tensor:
    """The mean over the places of a layer's gradients, ``[k, B, C]``: of the part that what reads the layer has pooled,
    and of the rest ``[k, B, ...]``, where there is one."""
    if rest is not None:
        places = reader(rest.flatten(0, 1)).flatten(2).mean(-1).unflatten(0, rest.shape[:2])
        means = places if means is None else means + places
    return required(means, layer)


def boundary(forward: Forward, features: Tensor, rows: Rows) -> Chunk:
    """Expand at the features, and pull their gradients back to the taps before them by vjp."""
    count, recorder = len(rows[0]), forward.recorder
    start = features if forward.create_graph else features.detach()
    expanded = start.repeat_interleave(count, 0)
    if not expanded.requires_grad:
        expanded.requires_grad_()
    singles = _singles(rows)
    output, scores = forward.decode(expanded, singles, count)
    before = [layer for layer in forward.layers if layer in recorder.encoded()]
    inside = [layer for layer in forward.layers if layer not in before]
    wanted = [expanded, *(recorder.captured[layer] for layer in inside)]
    grads = gradient(scores, torch.ones_like(scores), wanted, create_graph=forward.create_graph)
    gradients = {
        layer: _by_target(required(grad, layer), forward.batch, count)
        for layer, grad in zip(inside, grads[1:], strict=True)
    }
    if before:
        vectors = required(grads[0], before[0]).unflatten(0, (forward.batch, count))
        gradients |= _pull_back(forward, features, vectors, before)
    captured = {layer: recorder.captured[layer] for layer in forward.layers}
    activations = {
        layer: _by_target(value, forward.batch, count)[:, 0] if layer in inside else value
        for layer, value in captured.items()
    }
    return Chunk(activations, gradients, scores.view(forward.batch, count), output, singles)


def _pull_back(forward: Forward, features: Tensor, vectors: Tensor, layers: list[str]) -> dict[str, Tensor]:
    """Vector-Jacobian products ``[B, k, ...]`` from the features to the taps before them; ``vectors [B, k, ...]``."""
    own = forward.recorder.handed_on(features)
    gradients = {own: vectors} if own is not None else {}
    rest = [layer for layer in layers if layer != own]
    if rest:
        if not features.requires_grad:
            raise LayerError(
                f"the model's features do not depend on layer {rest[0]!r} in a differentiable way: the model detaches "
                "them after it, or it is not on the way to the score"
            )
        captured = [forward.recorder.captured[layer] for layer in rest]
        pulled = vectorized(features, vectors.movedim(1, 0), captured, create_graph=forward.create_graph)
        for layer, grad in zip(rest, pulled, strict=True):
            gradients[layer] = required(grad, layer).movedim(0, 1)
    return gradients


def vjp(forward: Forward, features: Tensor, rows: Rows) -> Chunk:
    """One forward pass over B rows, k vector-Jacobian products at once."""
    return _from_matrix(forward, features, rows, vectorized)


def loop(forward: Forward, features: Tensor, rows: Rows) -> Chunk:
    """One forward pass over B rows, k backward passes in turn: the reference."""
    return _from_matrix(forward, features, rows, in_turn)


def _from_matrix(forward: Forward, features: Tensor, rows: Rows, gradients_of: Callable[..., Any]) -> Chunk:
    """Differentiate the score matrix ``[B, k]`` column by column."""
    count = len(rows[0])
    if not features.requires_grad:
        features = features.detach().requires_grad_()
    output, scores = forward.decode(features, rows)
    activations = {layer: forward.recorder.captured[layer] for layer in forward.layers}
    columns = torch.eye(count, device=scores.device, dtype=scores.dtype)[:, None].expand(count, forward.batch, count)
    grads = gradients_of(scores, columns, list(activations.values()), create_graph=forward.create_graph)
    gradients = {layer: required(grad, layer).movedim(0, 1) for layer, grad in zip(forward.layers, grads, strict=True)}
    return Chunk(activations, gradients, scores, output, rows)


def expand(forward: Forward, rows: Rows) -> Chunk:
    """Expand at the earliest tap: all that follows runs on B·k rows, with one backward pass.

    Where something bypasses the tap (a skip connection around it) and meets the expanded rows later, the rows are
    expanded at the input.
    """
    count = len(rows[0])
    singles = _singles(rows)
    try:
        output, scores = _expanded(forward, singles, count, at_input=False)
    except Exception as error:
        if isinstance(error, (torch.cuda.OutOfMemoryError, MMExplainError)) and not isinstance(error, ModelFailure):
            raise
        # Shapes that do not fit come as any exception that a model may raise; a genuine one comes again.
        output, scores = _expanded(forward, singles, count, at_input=True)
    captured = [forward.recorder.captured[layer] for layer in forward.layers]
    grads = gradient(scores, torch.ones_like(scores), captured, create_graph=forward.create_graph)
    gradients = {
        layer: _by_target(required(grad, layer), forward.batch, count)
        for layer, grad in zip(forward.layers, grads, strict=True)
    }
    activations = {
        layer: _by_target(value, forward.batch, count)[:, 0]
        for layer, value in zip(forward.layers, captured, strict=True)
    }
    return Chunk(activations, gradients, scores.view(forward.batch, count), output, singles)


def _expanded(forward: Forward, singles: Rows, count: int, *, at_input: bool) -> tuple[Any, Tensor]:
    features = forward.encode(repeats=count, at_input=at_input)
    if len(features) == len(singles):
        pass
    elif not forward.recorder.captured:
        features = features.repeat_interleave(count, 0)
    else:
        raise ValueError(f"encode returned {len(features)} rows for {len(singles)}")
    if not features.requires_grad:
        features = features.detach().requires_grad_()
    return forward.decode(features, singles, count)


def _by_target(values: Tensor, batch: int, count: int) -> Tensor:
    """``[B · k · n, ...]``, where n rows belong to one target of one input, as ``[B · n, k, ...]``."""
    sorted_by_row: Tensor = values.unflatten(0, (batch, count, -1)).transpose(1, 2).flatten(0, 1)
    return sorted_by_row


def _singles(rows: Rows) -> list[list[Target]]:
    """B rows of k targets as B·k rows of one."""
    return [[target] for row in rows for target in row]
