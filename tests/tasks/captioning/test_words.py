from __future__ import annotations

import pytest

from mmexplain.tasks.captioning.words import is_content_word

CONTENT = "dog Dog man water red jumping t-shirt snowy frisbee grass"
FUNCTION = "a The of with is being two another which its <unk> <end> 3 s through while"


@pytest.mark.parametrize("word", CONTENT.split())
def test_words_that_name_something(word: str) -> None:
    assert is_content_word(word)


@pytest.mark.parametrize("word", FUNCTION.split())
def test_words_that_hold_a_sentence_together(word: str) -> None:
    assert not is_content_word(word)
