"""How a question becomes the numbers that a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmexplain.errors import InputError
from mmexplain.tasks.captioning.vocabulary import tokenize
from mmexplain.tasks.vqa.adapter import VQAAdapter


@dataclass(frozen=True)
class TokenizedQuestion:
    """A question as a model reads it.

    Attributes:
        text: as it was asked.
        words: the T words, as shown.
        tokens: the model's number of each.
        unknown: those of the words that the model does not know and reads as one and the same stranger.
    """

    text: str
    words: list[str]
    tokens: list[int]
    unknown: list[str]


def tokenize_question(answerer: Any, question: str) -> TokenizedQuestion:
    """Read ``question`` with the vocabulary of a bundled model, or with an adapter's own ``read``.

    Raises:
        InputError: the question has no words, or none that the model knows.
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"the question {question!r} is empty; ask something, such as 'what is the dog doing'")
    if isinstance(answerer, VQAAdapter):
        tokens, words = answerer.read(question)
        unknown = [word for word, token in zip(words, tokens, strict=True) if token == answerer.unknown]
    else:
        words = tokenize(question)
        tokens = [answerer.vocabulary.index(word) for word in words]
        unknown = [word for word in words if word not in answerer.vocabulary]
    if not tokens or len(unknown) == len(words):
        raise InputError(f"the model knows no word of the question {question!r}; ask in plain English words")
    return TokenizedQuestion(question, list(words), list(tokens), list(dict.fromkeys(unknown)))
