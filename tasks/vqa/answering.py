"""What a model that answers questions gives back, and how it reads questions of different lengths together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmexplain.tasks.captioning.vocabulary import Vocabulary


@dataclass(frozen=True)
class VQAOutput:
    """The answers to R questions.

    Attributes:
        logits: ``[R, A]``, a score for each answer.
        attention: ``[R, h, w]``, where over the photo the model itself attended, with the whole question in mind: the
            last of ``levels``; None if it does not attend.
        levels: ``[R, L, h, w]``, the attention at each level of the question (word, phrase, question), each summing
            to 1; None if the model does not attend.
    """

    logits: Tensor
    attention: Tensor | None = None
    levels: Tensor | None = None


def real_words(question: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Which places hold words: ``[R, T]`` → bool ``[R, T]``; padding stands at the end."""
    return question != vocabulary.pad


def copies_of(features: Tensor, question: Tensor) -> int:
    """How many of the R questions each of the B photos has; the questions of a photo are neighbours."""
    return question.shape[0] // features.shape[0]


def question_tokens(questions: Sequence[str], vocabulary: Vocabulary) -> Tensor:
    """Questions as the models read them: int64 ``[R, T]``, padded at the end; unknown words become ``<unk>``.

    Args:
        questions: R texts.
        vocabulary: the model's words.
    """
    rows = [torch.tensor(vocabulary.encode(text, end=False), dtype=torch.int64) for text in questions]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=vocabulary.pad)
