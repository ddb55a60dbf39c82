"""Searches over a language small enough to enumerate."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mmexplain.tasks.captioning.search import alternatives, beam_search, greedy
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary


class Memory(NamedTuple):
    photo: Tensor

    def select(self, rows: Tensor) -> Memory:
        return Memory(self.photo[rows])


class Markov:
    """The next word depends on the word before and on the photo, whose number is all there is to see."""

    def __init__(self, photos: int, words: int = 3, seed: int = 0) -> None:
        self.vocabulary = Vocabulary([*SPECIAL, *(f"w{i}" for i in range(words))])
        size = len(self.vocabulary)
        self.table = torch.randn(photos, size, size, generator=torch.Generator().manual_seed(seed)) * 2

    def start(self, grid: Tensor, copies: int = 1) -> Memory:
        return Memory(grid[:, 0, 0, 0].long().repeat_interleave(copies))

    def step(self, state: Memory, previous: Tensor) -> tuple[Tensor, Memory, None]:
        return self.table[state.photo, previous], state, None

    def project(self, hidden: Tensor) -> Tensor:
        return hidden

    def logprob(self, photo: int, tokens: list[int]) -> float:
        steps = self.table[photo].log_softmax(-1)
        return float(sum(steps[a, b] for a, b in itertools.pairwise([self.vocabulary.start, *tokens])))


def grid(photos: int) -> Tensor:
    return torch.arange(photos).float().view(-1, 1, 1, 1)


def test_a_wide_beam_finds_the_best_caption_of_all() -> None:
    model = Markov(photos=6)
    end, words = model.vocabulary.end, range(4, 7)
    for photo, found in enumerate(beam_search(model, grid(6), beam=400, max_length=4)):
        every = [[*some, end] for n in range(5) for some in itertools.product(words, repeat=n)]
        best = max(every, key=lambda tokens: model.logprob(photo, tokens) / len(tokens))
        assert [*found.tokens, end] == best
        assert found.finished
        assert found.logprob == pytest.approx(model.logprob(photo, best), abs=1e-4)


def test_alternatives_are_all_captions_from_the_best_down() -> None:
    model = Markov(photos=3, seed=4)
    end = model.vocabulary.end
    best = beam_search(model, grid(3), beam=5)
    for photo, found in enumerate(alternatives(model, grid(3), beam=5)):
        assert found[0] == best[photo] and len(found) >= 2
        assert len({tuple(caption.tokens) for caption in found}) == len(found)
        for caption in found:
            tokens = [*caption.tokens, end]
            assert caption.per_token == pytest.approx(model.logprob(photo, tokens) / len(tokens), abs=1e-4)
        assert [caption.per_token for caption in found] == sorted((c.per_token for c in found), reverse=True)


def test_greedy_takes_the_likeliest_word_each_time() -> None:
    model = Markov(photos=8, seed=1)
    for photo, found in enumerate(greedy(model, grid(8), max_length=5)):
        tokens, previous = [], model.vocabulary.start
        while len(tokens) < 6 and previous != model.vocabulary.end:
            scores = model.table[photo, previous].clone()
            scores[[0, 1, 3]] = -torch.inf
            previous = int(scores.argmax())
            tokens.append(previous)
        assert found.finished == (tokens[-1] == model.vocabulary.end)
        assert found.tokens == [token for token in tokens if token != model.vocabulary.end][:5]


def test_a_photo_does_not_depend_on_its_neighbours() -> None:
    model = Markov(photos=5, seed=2)
    together = beam_search(model, grid(5), beam=3)
    for photo, found in enumerate(together):
        alone = beam_search(model, grid(5)[photo : photo + 1], beam=3)[0]
        assert alone.tokens == found.tokens
        assert alone.logprob == pytest.approx(found.logprob, abs=1e-5)


def test_a_caption_that_never_ends_is_cut_off() -> None:
    model = Markov(photos=1)
    model.table[..., model.vocabulary.end] = -100.0
    (found,) = beam_search(model, grid(1), beam=2, max_length=4)
    assert not found.finished and len(found.tokens) == 4


def test_special_tokens_are_never_said() -> None:
    model = Markov(photos=3)
    model.table[..., [0, 1, 3]] = 50.0
    for found in beam_search(model, grid(3), beam=3, max_length=6):
        assert min(found.tokens, default=4) >= 4
