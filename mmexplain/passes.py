"""One run of the engine: a chunk of targets after another, within bounded memory, reduced to what was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmexplain import strategies
from mmexplain.errors import DeviceError, ModelError
from mmexplain.forward import Forward
from mmexplain.problem import (
    Choice,
    Choose,
    Observe,
    Reduce,
    Result,
    Rows,
    Strategy,
    as_choice,
    padded,
    require_targets,
)
from mmexplain.strategies import Chunk
from mmexplain.taps import INPUT

T = TypeVar("T")

_log = logging.getLogger(__name__)

GRAPH_FACTOR = 6
"""Tensors of the features' size that a graph over one target's row is reckoned to keep alive."""

PIXEL_GRAPH_FACTOR = 40
"""The same for a graph that reaches back to the photo, in tensors of the photo's size."""


@dataclass
class Part:
    """What was made of one chunk of k targets; tensors ``[B, k, ...]``."""

    scores: Tensor
    reduced: dict[str, dict[str, Tensor]]
    observed: dict[str, Tensor]


class Pass:
    """The state of one :func:`mmexplain.engine.run`."""

    def __init__(self, forward: Forward, reduce: Reduce, observe: Mapping[str, Observe], pooled: bool = False) -> None:
        self.forward = forward
        self.reduce = reduce
        self.observe = observe
        self.pooled = pooled

    def run(self, choose: Choice | Choose, strategy: Strategy, memory: int) -> Result:
        """Settle on the targets and go through them."""
        forward = self.forward
        with forward.recorder, torch.set_grad_enabled(forward.create_graph):
            # Targets known beforehand can be expanded at the first tap straight away.
            if strategy == "expand" and isinstance(choose, Choice) and not forward.create_graph:
                choice = self._settled(choose)
                size = self._chunk_size(None, choice, memory)
                return self._in_chunks(choice, size, lambda rows: strategies.expand(forward, rows))
            features = forward.encode()
            if not features.ndim or len(features) != forward.batch:
                raise ModelError(
                    f"encode returned shape {tuple(features.shape)} for {forward.batch} input(s); it must keep one row "
                    "per input (fold tiles, crops or frames into further axes)"
                )
            if isinstance(choose, Choice):
                choice = choose
            else:
                with torch.no_grad():
                    choice = as_choice(choose(features.detach()))
            choice = self._settled(choice)
            if self.pooled and strategy == "auto":
                found = self._pooled(features, choice, memory)
                if found is not None:
                    return found
            push = {
                "auto": strategies.auto,
                "expand": strategies.boundary,
                "vjp": strategies.vjp,
                "loop": strategies.loop,
            }[strategy]
            size = self._chunk_size(features, choice, memory)
            try:
                result = self._in_chunks(choice, size, lambda rows: push(forward, features, rows))
            except strategies.NotPooledError as error:
                _log.debug("not past the linear layers: %s", error)
                forward.reads = None
                features = forward.encode()
                result = self._in_chunks(choice, size, lambda rows: push(forward, features, rows))
            result.features = features.detach()
            return result

    def _pooled(self, features: Tensor, choice: Choice, memory: int) -> Result | None:
        """By the model's own way back, where it has one that will do."""
        offered = strategies.pooled(self.forward, features, choice.begun)
        if offered is None:
            return None
        push, start = offered
        try:
            result = self._in_chunks(choice, _fitting(choice, memory, GRAPH_FACTOR * start), push)
        except strategies.NotPooledError as error:
            _log.debug("not by the model's own way back: %s", error)
            return None
        result.features = features.detach()
        return result

    def _settled(self, choice: Choice) -> Choice:
        require_targets(choice, self.forward.batch)
        self.forward.context = self.forward.context | choice.context
        return choice

    def _chunk_size(self, features: Tensor | None, choice: Choice, memory: int) -> int:
        """How many targets of each input fit into ``memory`` bytes, by a rough estimate of the graph they need."""
        image = self.forward.image
        per_target = 0
        if features is None or INPUT in self.forward.layers:
            per_target += PIXEL_GRAPH_FACTOR * image.numel() * image.element_size()
        if features is not None:
            tensors = [features, *self.forward.recorder.captured.values()]
            per_target += GRAPH_FACTOR * sum(value.numel() * value.element_size() for value in tensors)
        return _fitting(choice, memory, per_target)

    def _in_chunks(self, choice: Choice, size: int, push: Callable[[Rows], Chunk]) -> Result:
        rows = padded(choice.targets)
        parts = in_chunks(len(rows[0]), size, lambda part: self._reduced(push([row[part] for row in rows])))
        return self._joined(choice, parts)

    def _reduced(self, chunk: Chunk) -> Part:
        reduced: dict[str, dict[str, Tensor]] = {}
        batch, kept = self.forward.batch, self.forward.create_graph
        with torch.set_grad_enabled(kept), torch.autocast(chunk.scores.device.type, enabled=False):
            for layer in self.forward.layers:
                reader = self.forward.readers[layer]
                activations = reader(chunk.activations[layer]).unsqueeze(1)
                gradients = chunk.gradients[layer]
                if not chunk.pooled:
                    # A clip's rows may be its frames: [B · t, k, ...] → [B · k · t, ...].
                    rows = gradients.unflatten(0, (batch, -1)).transpose(1, 2).flatten(0, 2)
                    gradients = reader(rows).unflatten(0, (batch, -1))
                if not kept:
                    activations, gradients = activations.detach(), gradients.detach()
                reduced[layer] = dict(self.reduce(layer, activations, gradients))
        observed = {}
        with torch.no_grad():
            for name, function in self.observe.items():
                value = function(chunk.output, chunk.rows)
                if value is not None:
                    observed[name] = value.reshape(batch, -1, *value.shape[2:])
        scores = chunk.scores if kept else chunk.scores.detach()
        return Part(scores.float(), reduced, observed)

    def _joined(self, choice: Choice, parts: list[Part]) -> Result:
        scores = torch.cat([part.scores for part in parts], 1)
        reduced = {
            layer: {name: torch.cat([part.reduced[layer][name] for part in parts], 1) for name in named}
            for layer, named in parts[0].reduced.items()
        }
        if not _finite(scores, *(value for named in reduced.values() for value in named.values())):
            self._tell(scores, reduced)
        observed = {name: torch.cat([part.observed[name] for part in parts], 1) for name in parts[0].observed}
        return Result(choice, scores, reduced, observed)

    def _tell(self, scores: Tensor, reduced: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Raise a ModelError that says what is not finite."""
        if not _finite(scores):
            raise ModelError(f"the model's score is not finite (NaN or Inf){self._first_bad_layer()}")
        layer = next(layer for layer, named in reduced.items() if not _finite(*named.values()))
        raise ModelError(
            f"the scores are finite but their gradients at layer {layer!r} are not (NaN or Inf): the model "
            "overflows in half precision, or differentiates a square root or logarithm at zero"
        )

    def _first_bad_layer(self) -> str:
        """``"; first in layer 'x'"``, from one diagnostic pass."""
        found: list[str] = []

        def note(name: str) -> Any:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if not found and isinstance(output, Tensor) and not _finite(output):
                    found.append(name)

            return hook

        problem = self.forward.problem
        handles = [m.register_forward_hook(note(name)) for name, m in problem.model.named_modules() if name]
        try:
            with torch.no_grad():
                problem.decode(problem.encode(dict(self.forward.inputs)), self.forward.context)
        finally:
            for handle in handles:
                handle.remove()
        return f"; first in layer {found[0]!r}" if found else ""


def _fitting(choice: Choice, memory: int, per_target: int) -> int:
    """How many targets go at once, of ``per_target`` bytes each."""
    return max(1, min(max(len(row) for row in choice.targets), memory // max(1, per_target)))


def in_chunks(total: int, size: int, run: Callable[[slice], T]) -> list[T]:
    """``run`` over ``size`` of ``total`` rows at a time, over half as many when a CUDA device runs out of memory.

    Raises:
        DeviceError: not even one fits.
    """
    parts: list[T] = []
    start = 0
    while start < total:
        stop = min(start + size, total)
        try:
            parts.append(run(slice(start, stop)))
            start = stop
            continue
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise DeviceError(
                    "the device ran out of memory with one row at a time; give fewer inputs at once"
                ) from None
        # Not within the except block: there the exception's frames still hold the tensors.
        torch.cuda.empty_cache()
        size = max(1, size // 2)
    return parts


def _finite(*values: Tensor) -> bool:
    """Whether all are, by one look: each look at a GPU waits for all that was asked of it before."""
    device = values[0].device
    return bool(torch.stack([torch.isfinite(value).all().to(device, non_blocking=True) for value in values]).all())
