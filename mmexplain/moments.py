"""Moments of all classes' gradients under the softmax, which Grad-CAM++ with a softmax link is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmexplain.engine import DEFAULT_MEMORY, run
from mmexplain.errors import MethodError
from mmexplain.methods.class_activation import SoftmaxMoments
from mmexplain.problem import Problem, Rows
from mmexplain.surroundings import undisturbed
from mmexplain.targets import Target

COVERAGE = 1 - 1e-6
"""Classes are taken, likeliest first, until they hold this share of the probability ..."""

LIMIT = 128
"""... or until there are this many; what is left out is dropped and the rest sums to 1 again."""


def softmax_moments(
    problem: Problem,
    logits: Callable[[Any, Rows], Tensor | None],
    targets: Rows,
    layers: Sequence[str],
    *,
    memory: int = DEFAULT_MEMORY,
    limit: int = LIMIT,
) -> dict[str, tuple[Tensor, SoftmaxMoments]]:
    """Σ_v P_v g_v^p for p = 1, 2, 3 at every place of the tapped layers, g_v = ∂S_v/∂A.

    Args:
        problem: model and inputs.
        logits: ``(output, rows) → [R, K, V]``: the logits S that the softmax of each target runs over; None if the
            model has no softmax.
        targets: B rows of K targets with one id each (words, classes).
        layers: dotted names.
        memory: bound in bytes on one chunk.
        limit: most classes to take for one target.

    Returns:
        layer → (activations ``[B, 1, C, *S]``, moments, each ``[B, K, C, *S]``).

    Raises:
        MethodError: the model has no softmax, or a target is not one outcome of it (a span, a contrast).
    """
    for row in targets:
        for target in row:
            if len(target.ids) != 1 or target.versus is not None:
                raise MethodError(
                    f"'gradcam++-softmax' needs targets that are one outcome of a softmax, not {target.label!r}; "
                    "use 'gradcam++'"
                )
    count = max(len(row) for row in targets)
    found: list[dict[str, tuple[Tensor, SoftmaxMoments]]] = []
    for k in range(count):
        column = [row[min(k, len(row) - 1)] for row in targets]
        found.append(_for_one_target(problem, logits, column, layers, memory, limit))
    return {
        layer: (
            found[0][layer][0],
            SoftmaxMoments(*(torch.stack(parts, 1) for parts in zip(*(f[layer][1] for f in found), strict=True))),
        )
        for layer in found[0]
    }


def _for_one_target(
    problem: Problem,
    logits: Callable[[Any, Rows], Tensor | None],
    column: Sequence[Target],
    layers: Sequence[str],
    memory: int,
    limit: int,
) -> dict[str, tuple[Tensor, SoftmaxMoments]]:
    rows = [[target] for target in column]
    with undisturbed(problem.model, problem.inputs[problem.image].device):
        features = problem.encode(problem.inputs)
        values = logits(problem.decode(features, problem.context), rows)
    if values is None:
        raise MethodError("'gradcam++-softmax' needs a model that ends in a softmax; use 'gradcam++'")
    probabilities = values[:, 0].float().softmax(-1)
    likeliest = probabilities.sort(descending=True).indices
    held = probabilities.gather(1, likeliest).cumsum(1)
    size = min(limit, int((held < COVERAGE).sum(1).max().item()) + 1, values.shape[-1])
    own = torch.tensor([[target.ids[0]] for target in column], device=values.device)
    # The target's own logit comes first; it is weighted like any other class if it is among the likeliest.
    chosen = torch.cat([own, likeliest[:, :size]], 1)
    weights = probabilities.gather(1, likeliest[:, :size])
    weights = torch.cat([torch.zeros_like(weights[:, :1]), weights / weights.sum(1, keepdim=True)], 1)

    def score(output: Any, rows: Rows) -> Tensor:
        # ``index`` keeps the target's place in the text; the class to differentiate stands in ``ids``.
        values = logits(output, rows)
        assert values is not None
        ids = torch.tensor([[target.ids[0] for target in row] for row in rows], device=values.device)
        return values.gather(-1, ids.unsqueeze(-1)).squeeze(-1)

    classes = [
        [Target(target.label, target.kind, (int(v),), target.index) for v in chosen[b]]
        for b, target in enumerate(column)
    ]
    partial = {**vars(problem), "score": score}
    offset = 0

    def reduce(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
        nonlocal offset
        gradients = gradients.float()
        share = weights[:, offset : offset + gradients.shape[1]]
        share = share.reshape(*share.shape, *[1] * (gradients.ndim - 2))
        powers = [(share * gradients.pow(p)).sum(1, keepdim=True) for p in (1, 2, 3)]
        if layer == layers[-1]:
            offset += gradients.shape[1]
        return {
            "activations": activations,
            "own": gradients[:, :1],
            **{f"power{p}": value for p, value in enumerate(powers, 1)},
        }

    result = run(Problem(**partial), classes, layers, reduce, memory=memory)
    return {
        layer: (
            parts["activations"][:, :1],
            SoftmaxMoments(*(parts[f"power{p}"].sum(1) for p in (1, 2, 3)), parts["own"][:, 0]),
        )
        for layer, parts in result.reduced.items()
    }
