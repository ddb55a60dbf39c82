"""Words of what tokens make: characters of several tokens, blanks, points, marks."""

from __future__ import annotations

from typing import Any

import pytest

from mmexplain.tasks.huggingface.words import spell, split
from tests.tasks.huggingface.tiny_bytes import sentencepiece
from tests.tasks.huggingface.tiny_speakers import bert_tokenizer, bpe_tokenizer

TOKENIZERS = {
    "byte-level": bpe_tokenizer(),
    "unigram": sentencepiece(),
    "byte fallback": sentencepiece(kind="bpe"),
}
tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found


@tokenizers
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("café", ["café"]),
        ("狗在跑", ["狗", "在", "跑"]),
        ("dog 🐶 runs", ["dog", "runs"]),
        ("🐶🐶 a 狗", ["a", "狗"]),
        ("हिन्दी की", ["हिन्दी", "की"]),
        ("a dog,red cat: 3.5", ["a", "dog", "red", "cat", "3.5"]),
    ],
)
def test_a_word_has_all_of_its_tokens(tokenizer: Any, text: str, words: list[str]) -> None:
    ids = ids_of(tokenizer, text)
    found, spelled = spell(tokenizer, ids)
    assert found == text
    assert [word.text for word in spelled] == words
    assert [tokenizer.decode(ids[word.start : word.stop]).strip() for word in spelled] == words


@tokenizers
def test_all_tokens_of_plain_words_are_owned(tokenizer: Any) -> None:
    """Scores of words add up to that of the text: no blank token is lost between them."""
    ids = ids_of(tokenizer, "a  狗 zebra café")
    _, words = spell(tokenizer, ids)
    assert [word.start for word in words] == [0, *(word.stop for word in words[:-1])]
    assert words[-1].stop == len(ids)


@tokenizers
def test_a_text_cut_off_within_a_character(tokenizer: Any) -> None:
    """Bytes that make no character belong to no word."""
    ids = ids_of(tokenizer, "a dog 狗")[:-1]
    _, words = spell(tokenizer, ids)
    assert [word.text for word in words] == ["a", "dog"]
    assert tokenizer.decode(ids[: words[-1].stop]) == "a dog"


def test_a_token_of_several_characters() -> None:
    tokenizer = sentencepiece("一只", "▁一只")
    ids = ids_of(tokenizer, "一只狗")
    _, words = spell(tokenizer, ids)
    assert [word.text for word in words] == ["一只", "狗"]
    assert [tokenizer.decode(ids[word.start : word.stop]) for word in words] == ["一只", "狗"]


def test_a_blank_token_belongs_to_the_word_after_it() -> None:
    tokenizer = bpe_tokenizer()
    blank, *rest = ids_of(tokenizer, " 狗")
    assert tokenizer.decode([blank]) == " "
    _, words = spell(tokenizer, [*ids_of(tokenizer, "a"), blank, *rest])
    assert [(word.text, word.start, word.stop) for word in words] == [("a", 0, 1), ("狗", 1, 2 + len(rest))]


class Counting:
    """A tokenizer that counts the tokens it is made to decode."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.count = tokenizer, 0
        self.all_special_ids = tokenizer.all_special_ids

    def decode(self, ids: list[int], **options: Any) -> str:
        self.count += len(ids)
        text: str = self.tokenizer.decode(ids, **options)
        return text


@tokenizers
def test_time_grows_with_the_length(tokenizer: Any) -> None:
    counts = []
    for times in (20, 40):
        counting = Counting(tokenizer)
        ids = ids_of(tokenizer, " ".join(["a café 狗 runs"] * times))
        spell(counting, ids)
        counts.append(counting.count / len(ids))
    assert counts[1] < 1.2 * counts[0]


def test_a_tokenizer_that_changes_what_stands_further_back() -> None:
    """A character may change with what follows; its token is the one that wrote it first."""
    tokenizer = bert_tokenizer("'", "s")

    class Joining(Counting):
        def decode(self, ids: list[int], **options: Any) -> str:
            return super().decode(ids, **options).replace(" ' s", "'s")

    ids = ids_of(tokenizer, "the dog's ball")
    found, words = spell(Joining(tokenizer), ids)
    assert found == "the dog's ball"
    assert [(word.text, word.start, word.stop) for word in words] == [("the", 0, 1), ("dog's", 1, 4), ("ball", 4, 5)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog,dog red,blue Mr.Smith", ["dog", "dog", "red", "blue", "Mr", "Smith"]),
        ("1,000.5 U.S.A. e.g. a.b", ["1,000.5", "U.S.A", "e.g", "a.b"]),
        ("it's a well-known dog's", ["it's", "a", "well-known", "dog's"]),
        ("ab.c a.bc", ["ab", "c", "a", "bc"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("ไม่", ["ไ", "ม่"]),
    ],
)
def test_what_a_word_is(text: str, words: list[str]) -> None:
    assert split(text) == words
