"""What the engine is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmexplain.errors import ModelError, TargetError
from mmexplain.reader import ReaderOf
from mmexplain.targets import Target

Strategy = Literal["auto", "expand", "vjp", "loop"]
Rows = Sequence[Sequence[Target]]
Reduce = Callable[[str, Tensor, Tensor], Mapping[str, Tensor]]
Score = Callable[[Any, Rows], Tensor]
Observe = Callable[[Any, Rows], Tensor | None]


@dataclass
class Choice:
    """The targets of B inputs, and what the choice of them brought along.

    Attributes:
        targets: B rows of targets, possibly of different lengths.
        context: tensors ``[B, ...]`` that join the problem's context: the caption found by a search, say.
        texts: for each input the text that its targets point into.
        words: for each input the words of that text, as shown.
        begun: what was worked out of the features on the way, for ``Problem.pooled_vjp`` to go on from.
    """

    targets: Rows
    context: dict[str, Tensor] = field(default_factory=dict)
    texts: Sequence[str | None] | None = None
    words: Sequence[list[str]] | None = None
    begun: Any = None


Choose = Callable[[Tensor], Choice | Rows]


def as_choice(targets: Choice | Rows) -> Choice:
    """Bare rows of targets as a choice that brings nothing along."""
    return targets if isinstance(targets, Choice) else Choice(targets)


def require_targets(choice: Choice, batch: int) -> None:
    """Raise a TargetError unless each of ``batch`` inputs has a target."""
    if len(choice.targets) != batch:
        raise TargetError(f"{len(choice.targets)} rows of targets for {batch} inputs; give one row for each")
    if not all(choice.targets):
        raise TargetError("nothing to explain: every input needs at least one target")


def padded(rows: Rows) -> list[list[Target]]:
    """Rows of equal length: the last target of a short row is repeated."""
    longest = max(len(row) for row in rows)
    return [[*row, *[row[-1]] * (longest - len(row))] for row in rows]


@dataclass
class PooledVJP:
    """A decoder that was run without a graph, and its own way back to the features for those who need only the sum of
    their gradients over the places of the photo.

    Attributes:
        output: as ``decode`` returns it, of B rows.
        start: the one tensor of it that scores are made from, ``[B, ...]``.
        pull_back: K gradients at ``start`` for each row, ``[B, K, ...]``, → at the features ``[B, C, *S]``, summed
            over S: ``[B, K, C]``. Exact, and called outside of any graph.
    """

    output: Any
    start: Tensor
    pull_back: Callable[[Tensor], Tensor]


@dataclass
class Problem:
    """What is differentiated: a model in two steps and the inputs to run it on.

    Attributes:
        model: holds the tapped layers.
        encode: inputs of B rows → features ``[B, ...]``.
        decode: features and context of R rows → output.
        score: output and R rows of targets → ``[R, K]``.
        inputs: name → ``[B, ...]``; the first floating tensor with four or more axes is the photo (or clip).
        context: name → ``[B, ...]``.
        reader: how layers are read as maps, where the task knows; found out by their shapes otherwise.
        heavy_decode: ``decode`` is most of the model, so that rows are not repeated before it unless asked for.
        pooled_vjp: the same as ``decode``, with a short way back; it may have none to offer.
        lowered: the lower precision that ``encode`` runs in by itself (:func:`mmexplain.precision.in_precision`): what
            its layers put out is then kept and handed on in float32. None where the model runs as it is.
    """

    model: nn.Module
    encode: Callable[[dict[str, Tensor]], Tensor]
    decode: Callable[[Tensor, dict[str, Tensor]], Any]
    score: Score
    inputs: dict[str, Tensor]
    context: dict[str, Tensor] = field(default_factory=dict)
    reader: ReaderOf | None = None
    heavy_decode: bool = False
    pooled_vjp: Callable[[Tensor, dict[str, Tensor], Any], PooledVJP | None] | None = None
    lowered: torch.dtype | None = None

    @property
    def image(self) -> str:
        """Name of the input that holds the photo."""
        for name, value in self.inputs.items():
            if value.is_floating_point() and value.ndim >= 4:
                return name
        raise ModelError("no input of the model is a photo: expected a floating tensor [B, C, *S]")


@dataclass
class Result:
    """What came out, for B inputs and K targets each (rows with fewer targets are padded with their last one).

    Attributes:
        choice: the targets of each input, not padded, and what came with them.
        scores: ``[B, K]`` float32.
        reduced: layer → name → ``[B, K, ...]``, what ``reduce`` made of activations and gradients.
        observed: name → ``[B, K, ...]``, what was read off the output beside the scores.
        features: what ``encode`` returned, ``[B, ...]``, without a graph; None where it ran on repeated rows only.
    """

    choice: Choice
    scores: Tensor
    reduced: dict[str, dict[str, Tensor]]
    observed: dict[str, Tensor]
    features: Tensor | None = None
