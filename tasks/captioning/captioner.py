"""What a captioner must be able to do to be explained: the bundled ones do it, and so can a user's own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmexplain.problem import PooledVJP


class Words(Protocol):
    """The words that a captioner knows. :class:`~mmexplain.tasks.captioning.vocabulary.Vocabulary` is one.

    Attributes:
        tokens: the token with number i reads ``tokens[i]``.
    """

    tokens: list[str]

    @property
    def end(self) -> int:
        """Number of the token that ends a caption."""
        ...


@dataclass(frozen=True)
class WordList:
    """The simplest :class:`Words`.

    Attributes:
        tokens: the token with number i reads ``tokens[i]``.
        end: number of the token that ends a caption.
    """

    tokens: list[str]
    end: int


@dataclass(frozen=True)
class DecoderOutput:
    """What a decoder knew when it said each of T tokens, for R captions.

    Attributes:
        hidden: ``[R, T, D]``; row t is what the t-th token is predicted from.
        attention: ``[R, T, h, w]``, the model's own attention, or None.
        projected: targets and the logits of their words, once worked out: projecting the same steps onto a large
            vocabulary again, for probabilities to read, would cost more than most else.
    """

    hidden: Tensor
    attention: Tensor | None = None
    projected: list[tuple[object, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)


class CaptionerAdapter(nn.Module):
    """Base of a user's own adapter: wrap the model and say three things.

    Keep the wrapped model as an attribute, so that its layers can be named; set ``vocabulary``; write :meth:`encode`
    and :meth:`decode`. The scores are differentiated with respect to layers that run inside :meth:`encode`. Override
    :meth:`generate` to search the way your model does. To have the words explained that led to each word, name what
    embeds them.

    Attributes:
        vocabulary: the words that the model knows.
        embedding: dotted name of the module, called once in :meth:`decode`, that embeds the words said before; it puts
            out ``[R, places, size]``. None if what each word added is never asked for.
        first_word: the place among these where a caption's first word stands: 1 after a start token, 0 without one.
    """

    vocabulary: Words
    embedding: str | None = None
    first_word: int = 1

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Photos ``[B, 3, H, W]`` → features ``[B, ...]`` that the decoder reads."""

    @abstractmethod
    def decode(self, features: Tensor, tokens: Tensor) -> Tensor | DecoderOutput:
        """Teacher forcing: features of R photos and the tokens ``[R, T]`` that are said → what each token is predicted
        from: logits ``[R, T, V]``, or a :class:`DecoderOutput` if :meth:`project` makes the logits. Row t may depend
        on the tokens before t only."""

    def pooled_vjp(self, features: Tensor, tokens: Tensor, begun: Any = None) -> PooledVJP | None:
        """:meth:`decode`, run without a graph, and the gradients of what it returned with respect to ``features
        [B, C, h, w]``, summed over ``h, w``. Grad-CAM of whatever layer :meth:`encode` returns needs no more, and there
        may be a shorter way to it than autograd's; the bundled captioners write theirs out. None: there is none.

        Args:
            features: of B photos.
            tokens: ``[B, T]``.
            begun: what the bundled captioners' search saw on the way to these tokens; None after another's.
        """
        return None

    def project(self, hidden: Tensor) -> Tensor:
        """What :meth:`decode` returned for some steps ``[N, D]`` → logits ``[N, V]``."""
        return hidden

    def generate(self, features: Tensor, beam: int, max_length: int) -> list[list[int]]:
        """A caption for each photo: its tokens without the end token. Here the likeliest word at each step, whatever
        ``beam`` says.

        Args:
            features: of B photos, as :meth:`encode` returned them.
            beam: width of the search.
            max_length: most words of a caption.
        """
        tokens = torch.full((len(features), 1), self.vocabulary.end, device=features.device)
        for step in range(max_length):
            output = self.decode(features, tokens)
            hidden = output if isinstance(output, Tensor) else output.hidden
            tokens[:, step] = self.project(hidden[:, step]).argmax(-1)
            tokens = torch.cat([tokens, torch.full_like(tokens[:, :1], self.vocabulary.end)], 1)
        rows = tokens.tolist()
        return [row[: row.index(self.vocabulary.end)] for row in rows]
