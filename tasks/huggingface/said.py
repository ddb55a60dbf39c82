"""What a model thinks of texts that it is made to say, and the scores of their words and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.targets import Target
from mmexplain.tasks.base import contrasted
from mmexplain.transfer import sent

ScoreName = Literal["log-probability", "mean-log-probability", "logit"]
SCORES: tuple[ScoreName, ...] = ("log-probability", "mean-log-probability", "logit")


@dataclass
class Said:
    """One forward pass over A texts for each of R rows.

    Attributes:
        hidden: ``[R, A, T, D]``, what each token of a text is read off.
        tokens: ``[R, A, T]``, the texts, padded at the end; the first one is what words of a caption point into.
        spans: ``[R, W, 2]``, first and one-past-last token of each word of the first text.
        attention: ``[R, A, T, *S]``, over the photo when the token was said; None where it was not asked for.
    """

    hidden: Tensor
    tokens: Tensor
    spans: Tensor
    attention: Tensor | None = None


@dataclass(frozen=True)
class Place:
    """Where the tokens of a target stand: text number ``text``, ``[start, start + len(ids))``."""

    text: int
    start: int
    ids: tuple[int, ...]


def place_of(target: Target, tokens: Sequence[Sequence[int]], spans: Sequence[Sequence[int]]) -> Place:
    """Find a target's tokens among the texts.

    A word, phrase or caption stands in the first text. What could stand in its place (the other side of a contrast)
    has a text of its own that begins as the first one does; so has an answer.

    Args:
        target: not a contrast.
        tokens: the texts.
        spans: of the words of the first text.

    Raises:
        InputError: no text holds it: it was not among those that were prepared.
    """
    start = 0 if target.index is None or target.kind == "caption" else spans[target.index][0]
    stop = start + len(target.ids)
    for number, text in enumerate(tokens):
        if tuple(text[start:stop]) == target.ids and text[:start] == tokens[0][:start]:
            return Place(number, start, target.ids)
    raise InputError(f"{target.label!r} is not among the texts that the model was made to say")


def places(rows: Sequence[Sequence[Target]], said: Said) -> list[list[Place]]:
    """Where each target stands, whatever it is held against."""
    tokens, spans = said.tokens.tolist(), said.spans.tolist()
    return [[place_of(target, tokens[row], spans[row]) for target in targets] for row, targets in enumerate(rows)]


def token_scores(
    said: Said, found: Sequence[Sequence[Place]], project: Callable[[Tensor], Tensor], *, normalize: bool
) -> tuple[Tensor, Tensor]:
    """Scores of all tokens of all targets; only their steps are projected onto the vocabulary.

    Args:
        said: one forward pass.
        found: R rows of K places.
        project: hidden states ``[N, D]`` → logits ``[N, V]``.
        normalize: log-probabilities instead of logits.

    Returns:
        ``[N]`` float32, and the number ``r · K + k`` of the target of each, ``[N]``.
    """
    steps = [
        (row, place.text, place.start + offset, token, row * len(targets) + number)
        for row, targets in enumerate(found)
        for number, place in enumerate(targets)
        for offset, token in enumerate(place.ids)
    ]
    rows, texts, times, tokens, slots = sent(steps, said.hidden.device).unbind(1)
    # Targets share steps (each word, and the whole caption): a step is projected once.
    flat = (rows * said.hidden.shape[1] + texts) * said.hidden.shape[2] + times
    unique, inverse = flat.unique(return_inverse=True)
    logits = project(said.hidden.flatten(0, 2)[unique]).float()
    if normalize:
        logits = logits.log_softmax(-1)
    return logits[inverse, tokens], slots


def score(said: Said, rows: Sequence[Sequence[Target]], project: Callable[[Tensor], Tensor], name: ScoreName) -> Tensor:
    """Scores ``[R, K]``: of a word or an answer the sum over its tokens (their mean, if so named), of a contrast the
    difference of the two."""

    def scored(targets: Sequence[Sequence[Target]]) -> Tensor:
        return _summed(said, places(targets, said), project, name)

    return contrasted(rows, scored)


def _summed(
    said: Said, found: Sequence[Sequence[Place]], project: Callable[[Tensor], Tensor], name: ScoreName
) -> Tensor:
    scores, slots = token_scores(said, found, project, normalize=name != "logit")
    total = scores.new_zeros(len(found) * len(found[0])).index_add(0, slots, scores)
    if name == "mean-log-probability":
        total = total / torch.bincount(slots, minlength=len(total))
    return total.view(len(found), -1)


def attention(said: Said, rows: Sequence[Sequence[Target]]) -> Tensor | None:
    """Attention over the photo ``[R, K, *S]``, the mean over a target's tokens; None where it was not recorded."""
    if said.attention is None:
        return None
    found = places(rows, said)
    return torch.stack(
        [
            torch.stack([said.attention[row, p.text, p.start : p.start + len(p.ids)].mean(0) for p in found[row]])
            for row in range(len(found))
        ]
    )
