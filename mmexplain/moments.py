"""Moments of all classes' gradients under the softmax, which Grad-CAM++ with a softmax link is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mmexplain.engine import DEFAULT_MEMORY, run
from mmexplain.errors import MethodError
from mmexplain.methods.class_activation import SoftmaxMoments
from mmexplain.problem import Choice, Problem, Rows
from mmexplain.taps import resolve
from mmexplain.targets import Target

COVERAGE = 0.999
"""Beside the target's own, classes are taken, likeliest first, until they hold this share of the rest ..."""

LIMIT = 128
"""... or until there are this many. The softmax is then one over these classes only."""


def softmax_moments(
    problem: Problem,
    logits: Callable[[Any, Rows], Tensor | None],
    targets: Rows,
    layers: Sequence[str],
    *,
    memory: int = DEFAULT_MEMORY,
    limit: int = LIMIT,
) -> dict[str, tuple[Tensor, SoftmaxMoments]]:
    """Moments of the logits' gradients at every place of the tapped layers, from one trunk forward.

    Args:
        problem: model and inputs.
        logits: ``(output, rows) → [R, K, V]``: the logits S that the softmax of each target runs over; None if the
            model has no softmax.
        targets: B rows of targets with one id each (words, classes).
        layers: dotted names or globs.
        memory: bound in bytes on one chunk.
        limit: most classes to take beside each target.

    Returns:
        layer → (activations ``[B, 1, C, *S]``, moments, each ``[B, K, C, *S]`` float64).

    Raises:
        MethodError: the model has no softmax, or a target is not one outcome of it (a span, a contrast).
    """
    for target in (target for row in targets for target in row):
        if len(target.ids) != 1 or target.versus is not None:
            raise MethodError(
                f"'gradcam++-softmax' needs targets that are one outcome of a softmax, not {target.label!r}; "
                "use 'gradcam++'"
            )
    longest = max(len(row) for row in targets)
    rows = [[*row, *[row[-1]] * (longest - len(row))] for row in targets]
    names = resolve(problem.model, layers)
    found: list[_Moments] = []

    def score(output: Any, rows: Rows) -> Tensor:
        # ``index`` keeps the target's place in the text; the class to differentiate stands in ``ids``.
        values = _softmax_logits(logits, output, rows)
        ids = torch.tensor([[target.ids[0] for target in row] for row in rows], device=values.device)
        return values.gather(-1, ids.unsqueeze(-1)).squeeze(-1)

    def choose(features: Tensor) -> Choice:
        values = _softmax_logits(logits, problem.decode(features, problem.context), rows)
        classes, weights = _likeliest(values, rows, limit)
        found.append(_Moments(weights, names))
        return Choice(
            [
                [
                    Target(target.label, target.kind, (number,), target.index)
                    for target, numbers in zip(row, classes[b], strict=True)
                    for number in numbers
                ]
                for b, row in enumerate(rows)
            ]
        )

    run(replace(problem, score=score), choose, names, lambda *chunk: found[0].add(*chunk), memory=memory)
    return {layer: (found[0].activations[layer], found[0].total(layer)) for layer in names}


def _softmax_logits(logits: Callable[[Any, Rows], Tensor | None], output: Any, rows: Rows) -> Tensor:
    values = logits(output, rows)
    if values is None:
        raise MethodError("'gradcam++-softmax' needs a model that ends in a softmax; use 'gradcam++'")
    return values


def _likeliest(values: Tensor, rows: Rows, limit: int) -> tuple[list[list[list[int]]], Tensor]:
    """For each target its own class and the n likeliest others, and their probabilities ``[B, K, 1 + n]``."""
    probabilities = values.double().softmax(-1)
    own = torch.tensor([[[target.ids[0]] for target in row] for row in rows], device=values.device)
    held = probabilities.gather(-1, own)
    others = probabilities.scatter(-1, own, 0)
    ranked = others.sort(-1, descending=True)
    missing = ranked.values.cumsum(-1) < COVERAGE * others.sum(-1, keepdim=True)
    size = min(limit, int(missing.sum(-1).max()) + 1, values.shape[-1] - 1)
    classes = torch.cat([own, ranked.indices[..., :size]], -1)
    weights = torch.cat([held, ranked.values[..., :size]], -1)
    return classes.tolist(), weights / weights.sum(-1, keepdim=True)


@dataclass
class _Pending:
    """Sums over one chunk, which count once the next chunk begins: until then it may be tried again."""

    start: int
    sums: dict[int, Tensor]


class _Moments:
    """Σ_v P_v (g_v − g_c)^p for p = 1, 2, 3, gathered while the gradients pass by in chunks.

    The classes of one target follow each other, the target's own first.
    """

    def __init__(self, weights: Tensor, layers: list[str]) -> None:
        self.activations: dict[str, Tensor] = {}
        self._weights = weights
        self._layers = layers
        self._start = 0
        self._own: dict[tuple[str, int], Tensor] = {}
        self._sums: dict[tuple[str, int], Tensor] = {}
        self._pending: dict[str, _Pending] = {}

    def add(self, layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
        """Take in a chunk ``[B, k, C, *S]``; what is asked of an engine's reducer."""
        start, stop = self._start, self._start + gradients.shape[1]
        self._settle(layer, start)
        self.activations[layer] = activations
        per_target = self._weights.shape[2]
        sums = {}
        for k in range(start // per_target, (stop - 1) // per_target + 1):
            first, last = max(start, k * per_target), min(stop, (k + 1) * per_target)
            block = gradients[:, first - start : last - start].double()
            if first == k * per_target:
                self._own[layer, k] = block[:, 0]
            difference = block - self._own[layer, k].unsqueeze(1)
            share = self._weights[:, k, first - k * per_target : last - k * per_target]
            weighted = share.reshape(*share.shape, *[1] * (difference.ndim - 2)) * difference
            powers = []
            for _ in range(3):
                powers.append(weighted.sum(1))
                weighted = weighted * difference
            sums[k] = torch.stack(powers)
        self._pending[layer] = _Pending(start, sums)
        if layer == self._layers[-1]:
            self._start = stop
        return {}

    def total(self, layer: str) -> SoftmaxMoments:
        """The moments of all targets, each ``[B, K, C, *S]``."""
        self._settle(layer, self._start)
        columns = [self._sums[layer, k] for k in range(self._weights.shape[1])]
        return SoftmaxMoments(*torch.stack(columns, 2).unbind(0))

    def _settle(self, layer: str, start: int) -> None:
        pending = self._pending.get(layer)
        if pending is not None and pending.start < start:
            for k, value in pending.sums.items():
                known = self._sums.get((layer, k))
                self._sums[layer, k] = value if known is None else known + value
            del self._pending[layer]
