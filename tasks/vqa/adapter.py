"""What a model must be able to do to have its answers explained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from mmexplain.tasks.captioning.vocabulary import tokenize
from mmexplain.tasks.vqa.answering import VQAOutput


class VQAAdapter(nn.Module):
    """Base of a user's own adapter: wrap the model and say three things.

    Keep the wrapped model as an attribute, so that its layers can be named; set the attributes; write :meth:`encode`
    and :meth:`decode`. The scores are differentiated with respect to layers that run inside either.

    Attributes:
        answers: the A answers in the order of the logits.
        words: number of each word that the model reads.
        pad: the number that fills up the shorter of several questions, at their end.
        unknown: the number of all words that are not in ``words``.
        embedding: dotted name of the module that embeds the question's tokens, ``[R, T] → [R, T, D]``; None if what
            each word added is never asked for.
    """

    answers: Sequence[str]
    words: dict[str, int]
    pad: int = 0
    unknown: int = 0
    embedding: str | None = None

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Photos ``[B, 3, H, W]`` → features ``[B, ...]``."""

    @abstractmethod
    def decode(self, features: Tensor, question: Tensor) -> Tensor | VQAOutput:
        """Features of R photos and a question for each, ``[R, T]`` → logits ``[R, A]``, or a
        :class:`~mmexplain.tasks.vqa.answering.VQAOutput` if the model attends. Rows must not mix."""

    def read(self, question: str) -> tuple[list[int], list[str]]:
        """The numbers of the words of a question, and the words as shown; lower-case words without punctuation here.
        Override it for another tokeniser."""
        shown = tokenize(question)
        return [self.words.get(word, self.unknown) for word in shown], shown
