"""Finding a probable caption: greedy and beam search, many photos at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .vocabulary import Vocabulary


class Caption(NamedTuple):
    """A caption that was found.

    Attributes:
        tokens: its words, without ``<start>`` and ``<end>``.
        logprob: sum of the log-probabilities of the words, ``<end>`` included if it was reached.
        finished: whether ``<end>`` was reached.
        path: for each word, and for what followed the last, the place in the beam that it was said from.
    """

    tokens: list[int]
    logprob: float
    finished: bool
    path: list[int]

    @property
    def per_token(self) -> float:
        """Log-probability per token, ``<end>`` counted as one: what captions compete by."""
        return self.logprob / (len(self.tokens) + 1)


@dataclass
class Trace:
    """What a captioner knew at each step of a search, in the order of the beam; :meth:`along` picks what was known on
    the way to one caption of each photo.

    Attributes:
        start: the state before the first word, of one caption for each photo.
        states: before each step.
        hidden: ``[B · beam, D]`` after each step, which words are predicted from.
        attention: ``[B · beam, h, w]`` or None, at each step.
        captions: one of each of the B photos.
    """

    start: Any = None
    states: list[Any] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    attention: list[Tensor | None] = field(default_factory=list)
    captions: list[Caption] = field(default_factory=list)

    def along(self, values: Sequence[Tensor], length: int) -> Tensor:
        """``[B · beam, ...]`` of each step → ``[B, length, ...]`` on the way to the captions. What comes after the end
        of a caption stays as it was there."""
        beam = len(values[0]) // len(self.captions)
        paths = [caption.path for caption in self.captions]
        last = [min(len(path), len(values)) - 1 for path in paths]
        steps = [[min(t, end) for t in range(length)] for end in last]
        rows = [[b * beam + paths[b][t] for t in row] for b, row in enumerate(steps)]
        device = values[0].device
        return torch.stack(list(values))[torch.tensor(steps, device=device), torch.tensor(rows, device=device)]


class Searchable(Protocol):
    """What a search asks of a captioner."""

    vocabulary: Vocabulary

    def start(self, grid: Tensor, copies: int = 1) -> Any:
        """State of ``copies`` captions for each photo; it has ``select(rows)``."""
        ...

    def step(self, state: Any, previous: Tensor) -> tuple[Tensor, Any, Tensor | None]:
        """One word further."""
        ...

    def project(self, hidden: Tensor) -> Tensor:
        """Logits of the next word."""
        ...


def greedy(captioner: Searchable, grid: Tensor, max_length: int = 20) -> list[Caption]:
    """The most probable word at each step; a beam of 1."""
    return beam_search(captioner, grid, 1, max_length)


def beam_search(
    captioner: Searchable, grid: Tensor, beam: int = 3, max_length: int = 20, trace: Trace | None = None
) -> list[Caption]:
    """The best caption that a beam finds for each photo; see :func:`alternatives`."""
    best = [captions[0] for captions in alternatives(captioner, grid, beam, max_length, trace)]
    if trace is not None:
        trace.captions = best
    return best


@torch.no_grad()
def alternatives(
    captioner: Searchable, grid: Tensor, beam: int = 3, max_length: int = 20, trace: Trace | None = None
) -> list[list[Caption]]:
    """The captions that a beam finds for each photo, the best first: about as many as the beam is wide.

    A finished caption competes by its log-probability *per token* (``<end>`` counts as one): the plain sum prefers
    short captions. A photo's search is over when ``beam`` captions have finished, or after ``max_length`` words; a
    caption that is cut off there is returned only if none has finished. ``<pad>``, ``<start>`` and ``<unk>`` are never
    said.

    Args:
        captioner: in eval mode.
        grid: features of B photos, ``[B, C, h, w]``.
        beam: hypotheses kept for each photo.
        max_length: most words of a caption.
        trace: notes down all steps.
    """
    vocabulary = captioner.vocabulary
    photos, device = grid.shape[0], grid.device
    start = captioner.start(grid)
    state = start.select(torch.arange(photos, device=device).repeat_interleave(beam))
    trace = Trace() if trace is None else trace
    trace.start = start
    tokens = torch.full((photos, beam, 0), vocabulary.pad, dtype=torch.long, device=device)
    paths = tokens
    previous = torch.full((photos * beam,), vocabulary.start, dtype=torch.long, device=device)
    scores = torch.full((photos, beam), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all hypotheses are the same at first: keep one
    found: list[list[Caption]] = [[] for _ in range(photos)]
    first_row = torch.arange(photos, device=device)[:, None] * beam
    for length in range(max_length + 1):
        trace.states.append(state)
        hidden, state, attention = captioner.step(state, previous)
        trace.hidden.append(hidden)
        trace.attention.append(attention)
        logprobs = captioner.project(hidden).float().log_softmax(-1).unflatten(0, (photos, beam))
        logprobs[..., [vocabulary.pad, vocabulary.start, vocabulary.unknown]] = -torch.inf
        total = scores[..., None] + logprobs
        scores, flat = total.flatten(1).topk(beam, dim=1)
        parent, word = flat // total.shape[2], flat % total.shape[2]
        before = parent[..., None].expand(-1, -1, length)
        tokens = torch.cat([tokens.gather(1, before), word[..., None]], dim=2)
        paths = torch.cat([paths.gather(1, before), parent[..., None]], dim=2)
        state = state.select((first_row + parent).flatten())
        previous = word.flatten()
        ended = (word == vocabulary.end) & torch.isfinite(scores)
        for photo, row in ended.nonzero().tolist():
            said, path = tokens[photo, row, :-1].tolist(), paths[photo, row].tolist()
            found[photo].append(Caption(said, float(scores[photo, row]), True, path))
        over = torch.tensor([len(captions) >= beam for captions in found], device=device)
        live = scores.masked_fill((word == vocabulary.end) | over[:, None], -torch.inf)
        if length == max_length or not torch.isfinite(live).any():
            break
        scores = live
    for photo, captions in enumerate(found):
        if not captions:
            row = int(scores[photo].argmax())
            said, path = tokens[photo, row, :max_length].tolist(), paths[photo, row].tolist()
            captions.append(Caption(said, float(scores[photo, row]), False, path))
    return [sorted(captions, key=lambda caption: -caption.per_token) for captions in found]
