"""Words of a question among the tokens of a prompt."""

from __future__ import annotations

import pytest

from mmexplain.tasks.huggingface.words import locate
from tests.tasks.huggingface.tiny_speakers import bert_tokenizer, bpe_tokenizer


def located(tokenizer: object, prompt: str, text: str) -> list[tuple[str, str]]:
    """Each word with what its tokens say."""
    ids = tokenizer(prompt).input_ids  # type: ignore[operator]
    return [
        (word.text, tokenizer.decode(ids[word.start : word.stop]).strip())  # type: ignore[attr-defined]
        for word in locate(tokenizer, ids, text)
    ]


@pytest.mark.parametrize("prompt", ["{}", "Question: {} Answer:", "USER: a dog {}\nAnswer."])
def test_words_have_their_own_tokens(prompt: str) -> None:
    text = "Is a red ball running?"
    found = located(bpe_tokenizer(), prompt.format(text), text)
    assert found == [(word, word) for word in ("Is", "a", "red", "ball", "running")]


def test_tokens_without_capitals_and_accents() -> None:
    assert located(bert_tokenizer(), "What cólor are the Dogs?", "What cólor are the Dogs?") == [
        ("What", "what"),
        ("cólor", "color"),
        ("are", "are"),
        ("the", "the"),
        ("Dogs", "dogs"),
    ]


def test_what_an_apostrophe_holds_together_is_one_word() -> None:
    tokenizer = bert_tokenizer("'", "s")
    assert located(tokenizer, "the dog's ball", "the dog's ball") == [
        ("the", "the"),
        ("dog's", "dog ' s"),
        ("ball", "ball"),
    ]


def test_the_last_place_that_is_no_part_of_a_word() -> None:
    tokenizer = bpe_tokenizer()
    ids = tokenizer("a cat a dog Answer:").input_ids
    (word,) = locate(tokenizer, ids, "a")
    assert tokenizer.decode(ids[word.start :]).strip() == "a dog Answer:"


def test_what_is_not_there_is_not_found() -> None:
    tokenizer = bpe_tokenizer()
    assert locate(tokenizer, tokenizer("a red ball").input_ids, "a blue ball") == []
    assert locate(tokenizer, tokenizer("a red ball").input_ids, "?!") == []
