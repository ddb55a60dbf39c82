"""Finding a probable caption: greedy and beam search, many photos at once."""

from __future__ import annotations

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
    """

    tokens: list[int]
    logprob: float
    finished: bool

    @property
    def per_token(self) -> float:
        """Log-probability per token, ``<end>`` counted as one: what captions compete by."""
        return self.logprob / (len(self.tokens) + 1)


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
    captioner: Searchable, grid: Tensor, beam: int = 3, max_length: int = 20, begun: Any = None
) -> list[Caption]:
    """The best caption that a beam finds for each photo; see :func:`alternatives`."""
    return [captions[0] for captions in alternatives(captioner, grid, beam, max_length, begun)]


@torch.no_grad()
def alternatives(
    captioner: Searchable, grid: Tensor, beam: int = 3, max_length: int = 20, begun: Any = None
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
        begun: the state of one caption for each photo, where it is known already.
    """
    vocabulary = captioner.vocabulary
    photos, device = grid.shape[0], grid.device
    if begun is None:
        state = captioner.start(grid, beam)
    else:
        state = begun.select(torch.arange(photos, device=device).repeat_interleave(beam))
    tokens = torch.full((photos, beam, 0), vocabulary.pad, dtype=torch.long, device=device)
    previous = torch.full((photos * beam,), vocabulary.start, dtype=torch.long, device=device)
    scores = torch.full((photos, beam), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all hypotheses are the same at first: keep one
    found: list[list[Caption]] = [[] for _ in range(photos)]
    first_row = torch.arange(photos, device=device)[:, None] * beam
    for length in range(max_length + 1):
        hidden, state, _ = captioner.step(state, previous)
        logprobs = captioner.project(hidden).float().log_softmax(-1).unflatten(0, (photos, beam))
        logprobs[..., [vocabulary.pad, vocabulary.start, vocabulary.unknown]] = -torch.inf
        total = scores[..., None] + logprobs
        scores, flat = total.flatten(1).topk(beam, dim=1)
        parent, word = flat // total.shape[2], flat % total.shape[2]
        tokens = torch.cat([tokens.gather(1, parent[..., None].expand(-1, -1, length)), word[..., None]], dim=2)
        state = state.select((first_row + parent).flatten())
        previous = word.flatten()
        ended = (word == vocabulary.end) & torch.isfinite(scores)
        for photo, row in ended.nonzero().tolist():
            found[photo].append(Caption(tokens[photo, row, :-1].tolist(), float(scores[photo, row]), True))
        over = torch.tensor([len(captions) >= beam for captions in found], device=device)
        live = scores.masked_fill((word == vocabulary.end) | over[:, None], -torch.inf)
        if length == max_length or not torch.isfinite(live).any():
            break
        scores = live
    for photo, captions in enumerate(found):
        if not captions:
            row = int(scores[photo].argmax())
            captions.append(Caption(tokens[photo, row, :max_length].tolist(), float(scores[photo, row]), False))
    return [sorted(captions, key=lambda caption: -caption.per_token) for captions in found]
