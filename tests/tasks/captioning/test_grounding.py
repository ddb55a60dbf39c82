from __future__ import annotations

import pytest
import torch

from mmexplain.tasks.captioning.flickr8k import Phrase, Sentence
from mmexplain.tasks.captioning.grounding import (
    GroundedWord,
    baselines,
    covered,
    grounded_words,
    head_position,
    hit_rates,
    inside,
    peaks,
)
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary

LEFT = ((0.0, 0.0, 0.5, 1.0),)


def test_a_peak_is_where_the_map_is_highest() -> None:
    maps = torch.zeros(2, 7, 7)
    maps[0, 1, 5] = 1.0
    maps[1, 6, 0] = 1.0
    expected = torch.tensor([[5.5 / 7, 1.5 / 7], [0.0, 1.0]])
    assert (peaks(maps) - expected).abs().max() < 0.08  # the corner's maximum may lie anywhere in its outer half


def test_points_and_boxes() -> None:
    two = ((0.0, 0.0, 0.25, 0.5), (0.75, 0.5, 1.0, 1.0))
    assert inside(0.1, 0.1, two) and inside(0.9, 0.9, two) and not inside(0.5, 0.5, two)
    assert covered(two) == pytest.approx(0.25, abs=0.01)
    assert covered((*two, two[0])) == covered(two)  # overlap counts once


def test_the_head_is_the_last_known_content_word() -> None:
    vocabulary = Vocabulary([*SPECIAL, "red", "ball", "of", "a"])
    sentence = Sentence(("a", "red", "ball", "of", "wool"), (Phrase(0, 4, "other", LEFT),))
    assert head_position(sentence, sentence.phrases[0], vocabulary) == 2
    assert head_position(sentence, Phrase(3, 4, "other", LEFT), vocabulary) is None
    (word,) = grounded_words([(7, [sentence])], vocabulary)
    assert (word.photo, word.sentence, word.position, word.token) == (7, 0, 2, 5)


def test_rates_by_kind_and_the_baselines() -> None:
    words = [
        GroundedWord(0, 0, 0, 4, "animals", LEFT),
        GroundedWord(0, 0, 2, 5, "animals", ((0.4, 0.4, 0.6, 0.6),)),
        GroundedWord(1, 0, 0, 4, "people", LEFT),
    ]
    assert hit_rates([(0.1, 0.1), (0.1, 0.1), (0.9, 0.1)], words) == {
        "all": 0.3333,
        "animals": 0.5,
        "people": 0.0,
    }
    free = baselines(words)
    assert free["centre"]["animals"] == 1.0
    assert free["random"]["people"] == pytest.approx(0.5, abs=0.01)
