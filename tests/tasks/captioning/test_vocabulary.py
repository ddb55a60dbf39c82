from __future__ import annotations

import json

import pytest

from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog runs .", ["a", "dog", "runs"]),
        ("Two boys, one in a T-shirt!", ["two", "boys", "one", "in", "a", "t-shirt"]),
        ("the man 's hat", ["the", "man", "s", "hat"]),
        ("the man’s hat", ["the", "man's", "hat"]),
        (' -- "" ', []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary.build(["a dog runs", "a cat runs", "a zebra"], min_count=2)


def test_rare_words_are_left_out_and_frequent_ones_come_first(vocabulary: Vocabulary) -> None:
    assert vocabulary.tokens == [*SPECIAL, "a", "runs"]
    assert "dog" not in vocabulary and "a" in vocabulary and len(vocabulary) == 6


def test_encoding_ends_and_decoding_stops_there(vocabulary: Vocabulary) -> None:
    tokens = vocabulary.encode("A zebra runs.")
    assert tokens == [4, vocabulary.unknown, 5, vocabulary.end]
    assert vocabulary.encode("a", end=False) == [4]
    assert vocabulary.decode([vocabulary.start, *tokens, 4, vocabulary.pad]) == "a <unk> runs"


def test_a_vocabulary_survives_json(vocabulary: Vocabulary) -> None:
    assert Vocabulary(json.loads(json.dumps(vocabulary.tokens))) == vocabulary


@pytest.mark.parametrize("tokens", [["a", "b"], [*SPECIAL, "a", "a"]])
def test_what_is_no_vocabulary_is_refused(tokens: list[str]) -> None:
    with pytest.raises(ValueError):
        Vocabulary(tokens)
