"""One run of the engine: the strategies that push K gradients through a model, a chunk of targets at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmexplain.errors import DeviceError, LayerError, ModelError, TargetError
from mmexplain.methods.relu_rules import ReLURule, relu_rule
from mmexplain.problem import Choice, Choose, Observe, Problem, Reduce, Result, Rows, Strategy, as_choice
from mmexplain.recorder import Recorder
from mmexplain.taps import INPUT, Reader, reader_for
from mmexplain.targets import Target

_log = logging.getLogger(__name__)

GRAPH_FACTOR = 6
"""Tensors of the features' size that a graph over one target's row is reckoned to keep alive."""

PIXEL_GRAPH_FACTOR = 40
"""The same for a graph that reaches back to the photo, in tensors of the photo's size."""


class Pass:
    """The state of one :func:`run`."""

    def __init__(
        self,
        problem: Problem,
        inputs: dict[str, Tensor],
        context: dict[str, Tensor],
        layers: list[str],
        reduce: Reduce,
        create_graph: bool,
        rule: ReLURule | None,
        observe: Mapping[str, Observe],
    ) -> None:
        self.problem = problem
        self.inputs = inputs
        self.context = context
        self.layers = layers
        self.reduce = reduce
        self.create_graph = create_graph
        self.rule = rule
        self.observe = observe
        self.image_size = tuple(inputs[problem.image].shape[2:])
        self.batch = inputs[problem.image].shape[0]
        self.recorder = Recorder(
            problem.model, [layer for layer in layers if layer != INPUT], create_graph=create_graph
        )

    def run(self, choose: Choice | Choose, strategy: Strategy, memory: int) -> Result:
        with self.recorder, torch.set_grad_enabled(self.create_graph):
            # Targets known beforehand can be expanded at the first tap straight away.
            if strategy == "expand" and isinstance(choose, Choice) and not self.create_graph:
                return self._in_chunks(self._settled(choose), memory, self._expanded_chunk, None)
            features = self._encode()
            if isinstance(choose, Choice):
                choice = choose
            else:
                with torch.no_grad():
                    choice = as_choice(choose(features.detach()))
            chunk = {
                "auto": self._boundary_chunk,
                "expand": self._boundary_chunk,
                "vjp": self._vjp_chunk,
                "loop": self._loop_chunk,
            }[strategy]
            return self._in_chunks(self._settled(choice), memory, chunk, features)

    def _settled(self, choice: Choice) -> Choice:
        if len(choice.targets) != self.batch:
            raise ModelError(f"{len(choice.targets)} rows of targets for {self.batch} inputs; give one row for each")
        self.context = self.context | choice.context
        return choice

    # -- forward ----------------------------------------------------------------------------------------------------

    def _encode(self, repeats: int = 1) -> Tensor:
        """Features ``[B · repeats, ...]``, with the graph starting at the earliest tap."""
        features = self._encode_once(repeats, whole_graph=self.create_graph)
        if self.recorder.captured and not features.requires_grad and not self.create_graph:
            # A model that runs part of itself under its own no_grad switches the graph off again when it leaves
            # that block; a graph from the beginning costs memory but not correctness.
            features = self._encode_once(repeats, whole_graph=True)
        return features

    def _encode_once(self, repeats: int, *, whole_graph: bool) -> Tensor:
        self.recorder.restart(repeats)
        inputs = dict(self.inputs)
        with torch.set_grad_enabled(whole_graph), self._rule():
            if INPUT in self.layers:
                leaf = self.recorder.leaf(inputs[self.problem.image])
                if repeats > 1:
                    leaf = leaf.detach().repeat_interleave(repeats, 0).requires_grad_()
                torch.set_grad_enabled(True)
                self.recorder.captured[INPUT] = leaf
                inputs[self.problem.image] = leaf.clone()
            features = self.problem.encode(inputs)
        if not isinstance(features, Tensor):
            raise ModelError(f"encode must return a tensor, not {type(features).__name__}")
        return features

    def _decode(self, features: Tensor, context: dict[str, Tensor], rows: Rows) -> tuple[Any, Tensor]:
        with torch.enable_grad(), self._rule():
            output = self.problem.decode(features, context)
            scores = self.problem.score(output, rows)
        expected = (len(rows), len(rows[0]))
        if tuple(scores.shape) != expected:
            raise ModelError(
                f"score returned shape {tuple(scores.shape)} for {expected[0]} rows of {expected[1]} targets"
            )
        self.recorder.require([layer for layer in self.layers if layer != INPUT])
        if not scores.requires_grad:
            raise ModelError(
                "the score does not depend on the tapped layers in a differentiable way: the model detaches its "
                "features, or decides by argmax before the score"
            )
        return output, scores

    def _rule(self) -> AbstractContextManager[Any]:
        return relu_rule(self.rule) if self.rule else nullcontext()

    # -- strategies: each returns gradients {layer: [B, k, ...]}, scores [B, k] and what was observed ---------------

    def _boundary_chunk(self, features: Tensor, padded: Rows, start: int, stop: int) -> Chunk:
        """Expand at the features; pull the gradients back to the taps by vjp."""
        count = stop - start
        known = set(self.recorder.captured)
        start_of_graph = self.recorder.leaf(features)
        repeated = start_of_graph.detach().repeat_interleave(count, 0).requires_grad_()
        if self.create_graph:
            repeated = features.repeat_interleave(count, 0)
            if not repeated.requires_grad:
                repeated.requires_grad_()
        rows = [[target] for row in padded for target in row[start:stop]]
        output, scores = self._decode(repeated, _repeat(self.context, count), rows)
        inside = [layer for layer in self.layers if layer not in known]
        wanted = [repeated, *(self.recorder.captured[layer] for layer in inside)]
        grads = self._grad(scores, torch.ones_like(scores), wanted)
        gradients = {
            layer: _required(grad, layer).unflatten(0, (self.batch, count))
            for layer, grad in zip(inside, grads[1:], strict=True)
        }
        if known:
            boundary = _required(grads[0], "features").unflatten(0, (self.batch, count))
            gradients |= self._pull_back(features, boundary, sorted(known, key=self.layers.index), count)
        activations = {
            layer: self.recorder.captured[layer][:: count if layer in inside else 1] for layer in self.layers
        }
        return Chunk(activations, gradients, scores.view(self.batch, count), self._observed(output, rows, count))

    def _pull_back(self, features: Tensor, boundary: Tensor, layers: list[str], count: int) -> dict[str, Tensor]:
        """Vector-Jacobian products from the features to the taps before them; ``boundary [B, k, ...]``."""
        own = self.recorder.handed_on(features)
        gradients = {own: boundary} if own in layers else {}
        rest = [layer for layer in layers if layer != own]
        if not rest:
            return cast("dict[str, Tensor]", gradients)
        captured = [self.recorder.captured[layer] for layer in rest]
        vectors = boundary.movedim(1, 0)
        pulled = self._vectorized(features, captured, vectors)
        for layer, grad in zip(rest, pulled, strict=True):
            gradients[layer] = _required(grad, layer).movedim(0, 1)
        return cast("dict[str, Tensor]", gradients)

    def _vjp_chunk(self, features: Tensor, padded: Rows, start: int, stop: int) -> Chunk:
        return self._row_chunk(features, padded, start, stop, vectorized=True)

    def _loop_chunk(self, features: Tensor, padded: Rows, start: int, stop: int) -> Chunk:
        return self._row_chunk(features, padded, start, stop, vectorized=False)

    def _row_chunk(self, features: Tensor, padded: Rows, start: int, stop: int, *, vectorized: bool) -> Chunk:
        """One forward pass over B rows and k gradients of the score matrix ``[B, k]``."""
        rows = [list(row[start:stop]) for row in padded]
        count = stop - start
        start_of_graph = features if features.requires_grad else self.recorder.leaf(features)
        output, scores = self._decode(start_of_graph, self.context, rows)
        captured = [self.recorder.captured[layer] for layer in self.layers]
        one_hot = torch.eye(count, device=scores.device, dtype=scores.dtype)[:, None].expand(count, self.batch, count)
        if vectorized:
            stacked = self._vectorized(scores, captured, one_hot)
        else:
            stacked = self._in_turn(scores, captured, one_hot)
        gradients = {
            layer: _required(grad, layer).movedim(0, 1) for layer, grad in zip(self.layers, stacked, strict=True)
        }
        activations = dict(zip(self.layers, captured, strict=True))
        return Chunk(activations, gradients, scores, self._observed(output, rows, count))

    def _expanded_chunk(self, _: Tensor | None, padded: Rows, start: int, stop: int) -> Chunk:
        """Expand at the earliest tap: the whole of what follows runs on B·k rows, with one backward pass."""
        count = stop - start
        try:
            features = self._encode(repeats=count)
            rows = [[target] for row in padded for target in row[start:stop]]
            expanded = features.shape[0] == self.batch * count
            if not expanded:
                features = features.repeat_interleave(count, 0)
            start_of_graph = features if features.requires_grad else self.recorder.leaf(features)
            output, scores = self._decode(start_of_graph, _repeat(self.context, count), rows)
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            raise ModelError(
                "strategy 'expand' does not fit here: something bypasses the tapped layer and meets its repeated "
                f"rows later ({_first_line(error)}); use strategy 'vjp' or 'auto'"
            ) from error
        captured = [self.recorder.captured[layer] for layer in self.layers]
        grads = self._grad(scores, torch.ones_like(scores), captured)
        gradients = {
            layer: _required(grad, layer).unflatten(0, (self.batch, count))
            for layer, grad in zip(self.layers, grads, strict=True)
        }
        activations = {layer: self.recorder.captured[layer][::count] for layer in self.layers}
        return Chunk(activations, gradients, scores.view(self.batch, count), self._observed(output, rows, count))

    # -- helpers ----------------------------------------------------------------------------------------------------

    def _grad(self, value: Tensor, vector: Tensor, wanted: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            value, wanted, vector, retain_graph=True, create_graph=self.create_graph, allow_unused=True
        )

    def _vectorized(self, value: Tensor, wanted: Sequence[Tensor], vectors: Tensor) -> Sequence[Tensor | None]:
        """Gradients ``[k, ...]`` of ``value`` for k ``vectors``, by vmap or, where that fails, in turn."""
        if len(vectors) > 1 and not self.create_graph:
            try:
                return torch.autograd.grad(
                    value, wanted, vectors, retain_graph=True, allow_unused=True, is_grads_batched=True
                )
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                # An operator without a batching rule. Where the fault lies elsewhere, the loop raises it again.
                _log.debug("vmap failed (%s); going through the targets in turn", _first_line(error))
        return self._in_turn(value, wanted, vectors)

    def _in_turn(self, value: Tensor, wanted: Sequence[Tensor], vectors: Tensor) -> list[Tensor | None]:
        """Gradients ``[k, ...]`` of ``value`` for k ``vectors``, one backward pass each: the reference."""
        columns = [self._grad(value, vector, wanted) for vector in vectors]
        return [_stack(grads, wanted[i]) for i, grads in enumerate(zip(*columns, strict=True))]

    def _observed(self, output: Any, rows: Rows, count: int) -> dict[str, Tensor]:
        found = {}
        with torch.no_grad():
            for name, function in self.observe.items():
                value = function(output, rows)
                if value is not None:
                    found[name] = value.reshape(self.batch, count, *value.shape[2:])
        return found

    def _in_chunks(
        self,
        choice: Choice,
        memory: int,
        chunk_function: Callable[..., Chunk],
        features: Tensor | None,
    ) -> Result:
        """Go through the targets a chunk at a time, halving the chunk when a CUDA device runs out of memory."""
        padded = _padded(choice.targets)
        total = len(padded[0])
        size = self._chunk_size(features, total, memory)
        parts: list[Part] = []
        start = 0
        while start < total:
            stop = min(start + size, total)
            try:
                parts.append(self._reduced(chunk_function(features, padded, start, stop)))
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if size == 1:
                    raise DeviceError(
                        "the device ran out of memory with one target at a time; give fewer inputs at once"
                    ) from None
                size = max(1, size // 2)
                continue
            start = stop
        scores = torch.cat([part.scores for part in parts], 1)
        if not bool(torch.isfinite(scores).all()):
            raise ModelError(f"the model's score is not finite (NaN or Inf){self._first_bad_layer()}")
        return Result(
            choice=choice,
            scores=scores,
            reduced={
                layer: {
                    name: torch.cat([part.reduced[layer][name] for part in parts], 1)
                    for name in parts[0].reduced[layer]
                }
                for layer in self.layers
            },
            observed={name: torch.cat([part.observed[name] for part in parts], 1) for name in parts[0].observed},
        )

    def _chunk_size(self, features: Tensor | None, total: int, memory: int) -> int:
        """How many targets of each input fit into ``memory`` bytes, by a rough estimate of the graph they need."""
        image = self.inputs[self.problem.image]
        pixel_graph = PIXEL_GRAPH_FACTOR * image.numel() * image.element_size()
        per_target = 0
        if features is None or INPUT in self.layers:
            per_target += pixel_graph
        if features is not None:
            tensors = [features, *self.recorder.captured.values()]
            per_target += GRAPH_FACTOR * sum(value.numel() * value.element_size() for value in tensors)
        return max(1, min(total, memory // max(1, per_target)))

    def _reduced(self, chunk: Chunk) -> Part:
        reduced: dict[str, dict[str, Tensor]] = {}
        device = chunk.scores.device.type
        with torch.set_grad_enabled(self.create_graph), torch.autocast(device, enabled=False):
            for layer in self.layers:
                reader = self._reader(layer, chunk.activations[layer])
                activations = reader(chunk.activations[layer]).unsqueeze(1)
                gradients = reader(chunk.gradients[layer].flatten(0, 1)).unflatten(0, (self.batch, -1))
                if not self.create_graph:
                    activations, gradients = activations.detach(), gradients.detach()
                reduced[layer] = dict(self.reduce(layer, activations, gradients))
        scores = chunk.scores if self.create_graph else chunk.scores.detach()
        return Part(scores.float(), reduced, chunk.observed)

    def _reader(self, layer: str, value: Tensor) -> Reader:
        if layer == INPUT:
            return Reader("channels_first")
        prefix = getattr(self.problem.model, "num_prefix_tokens", None)
        reader = reader_for(value.shape, self.image_size, prefix)
        if reader is None:
            raise LayerError(
                f"layer {layer!r} puts out shape {tuple(value.shape)}, which is no map of the photo; choose one that "
                "`mmexplain layers` lists with a map"
            )
        return reader

    def _first_bad_layer(self) -> str:
        """``": first in layer 'x'"``, from one diagnostic pass."""
        found: list[str] = []

        def note(name: str) -> Any:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                    found.append(name)

            return hook

        self.recorder.__exit__()
        handles = [m.register_forward_hook(note(name)) for name, m in self.problem.model.named_modules() if name]
        try:
            with torch.no_grad():
                self.problem.decode(self.problem.encode(self.inputs), self.context)
        finally:
            for handle in handles:
                handle.remove()
        return f"; first in layer {found[0]!r}" if found else ""


@dataclass
class Chunk:
    activations: dict[str, Tensor]
    gradients: dict[str, Tensor]
    scores: Tensor
    observed: dict[str, Tensor]


@dataclass
class Part:
    scores: Tensor
    reduced: dict[str, dict[str, Tensor]]
    observed: dict[str, Tensor]


def _padded(rows: Rows) -> list[list[Target]]:
    """Rows of equal length: the last target of a short row is repeated."""
    if not rows or not all(rows):
        raise TargetError("nothing to explain: every input needs at least one target")
    longest = max(len(row) for row in rows)
    return [[*row, *[row[-1]] * (longest - len(row))] for row in rows]


def _repeat(context: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    return {name: value.repeat_interleave(count, 0) for name, value in context.items()}


def _required(grad: Tensor | None, layer: str) -> Tensor:
    if grad is None:
        raise LayerError(f"no target's score depends on layer {layer!r}; choose a layer on the way to the score")
    return grad


def _stack(grads: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """Gradients of single targets stacked; a target that does not depend on the layer has gradient zero."""
    if all(grad is None for grad in grads):
        return None
    return torch.stack([torch.zeros_like(like) if grad is None else grad for grad in grads])


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
