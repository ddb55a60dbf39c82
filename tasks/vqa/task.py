"""Visual question answering: the model's own answers and those it is made to consider, over one photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from mmexplain.errors import InputError, TargetError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.preprocess import Preprocess
from mmexplain.problem import Choice
from mmexplain.taps import suggest
from mmexplain.targets import Kind, Target
from mmexplain.tasks.base import Batch, PhotoTask
from mmexplain.tasks.captioning.checkpoint import sha256
from mmexplain.tasks.labels import Labels
from mmexplain.tasks.outcomes import Contrast, Name, OutcomeTask, ScoreName, listed, named
from mmexplain.tasks.vqa.adapter import VQAAdapter
from mmexplain.tasks.vqa.answering import VQAOutput
from mmexplain.tasks.vqa.tokens import TokenizedQuestion, tokenize_question


class VQA(OutcomeTask, PhotoTask):
    """A model that chooses an answer to a question on a photo.

    The score of an answer is its logit before the softmax; of a contrast of two, the difference. All answers come from
    one pass of the model's head.

    Args:
        answerer: one of the bundled models, or a user's :class:`~mmexplain.tasks.vqa.adapter.VQAAdapter`.
        preprocess: photo → tensor, with its geometry.
        layer: layer to explain by default; found by a look at the encoder if None.
        model_id: name of the model in what is shown and saved.
        weights: file that the model came from, for the record of what was explained.
    """

    name: ClassVar[str] = "vqa"
    kind: ClassVar[Kind] = "answer"
    numbered: ClassVar[bool] = False

    def __init__(
        self,
        answerer: nn.Module,
        preprocess: Preprocess,
        *,
        layer: str | None = None,
        model_id: str | None = None,
        weights: Path | None = None,
    ) -> None:
        self.model = answerer
        self.answerer = cast(Any, answerer)
        self.preprocess = preprocess
        self.model_id = model_id if model_id is not None else type(answerer).__name__
        # An answer is the whole of what the model can say: "red" is not short for "red and white".
        self.labels = Labels(self.answerer.answers, noun=("answer", "answers"), whole=True)
        self._layer = layer
        self._weights = None if weights is None else sha256(weights)

    # -- the model --------------------------------------------------------------------------------------------------

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Features of the photos, ``[B, ...]``."""
        features: Tensor = self.answerer.encode(inputs["image"])
        return features

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> VQAOutput:
        """Answers to the questions ``context["question"] [R, T]``."""
        output = self.answerer.decode(features, context["question"])
        return VQAOutput(output) if isinstance(output, Tensor) else output

    def outcomes(self, output: VQAOutput) -> Tensor:
        """Logits ``[R, A]``."""
        return output.logits

    def attention(self, output: VQAOutput, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """The model's own attention ``[R, K, h, w]``, the same for every answer; None without attention."""
        if output.attention is None:
            return None
        return output.attention[:, None].expand(-1, len(targets[0]), -1, -1)

    def default_layer(self) -> str:
        """The last layer of the encoder that still has a grid, found by running it once on an empty photo."""
        if self._layer is None:
            empty = self.empty()
            self._layer = suggest(self.model, lambda: self.answerer.encode(empty), self.preprocess.size)
        return self._layer

    def text_layer(self) -> str | None:
        """The embedding of the question's words."""
        layer: str | None = getattr(self.answerer, "embedding", "embed")
        return layer

    def provenance(self) -> dict[str, Any]:
        """The model's class, what was done to the photo, and the sha256 of the weights' file if there was one."""
        weights = {} if self._weights is None else {"weights_sha256": self._weights}
        return {**super().provenance(), **weights}

    # -- explaining -------------------------------------------------------------------------------------------------

    def explain(
        self,
        images: Any,
        question: str | Sequence[str],
        answers: Name | Sequence[Name] | None = (),
        *,
        versus: Name | Sequence[Contrast] | None = (),
        top: int | None = None,
        score: ScoreName = "logit",
        text: str | Sequence[str] = (),
        **options: Any,
    ) -> Any:
        """A map for every answer over each photo and, if asked for, what each word of the question added to it.

        Args:
            images: one photo, a list of photos, or what ``prepare`` made of one.
            question: what is asked; for a list of photos, one for all of them or one for each.
            answers: answers that the model is made to consider.
            versus: pairs of answers; each adds the contrast of the two, or, with a third number w, of the one and w of
                the other. Or one answer, which all are held against.
            top: how many of the model's own answers are explained besides, the likeliest first. None means one.
            score: what to differentiate: an answer's logit or its log-probability.
            text: methods for the question's words, or ``"all"``; each answer then costs some passes of the head.
            options: ``layers``, ``methods``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of photos.

        Raises:
            TargetError: an answer that the model cannot give; the closest are offered.
            InputError: a photo that cannot be read, or a question without a word that the model knows.
            LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        several = isinstance(images, list | tuple | Batch)
        count = len(images) if several else 1
        if question is None:
            raise InputError("there is no question; ask something, such as 'what is the dog doing'")
        questions = [question] * count if isinstance(question, str) else list(question)
        if len(questions) != count:
            raise InputError(f"{len(questions)} question(s) for {count} photo(s): give one for all, or one for each")
        wanted, against = named(self, listed(answers) if answers else None, versus or None)
        forced = wanted or []
        own = 1 if top is None else self.whole("top", top)
        if own < 0 or not (own or forced):
            raise TargetError("no answer to explain: name one (--answer), or let the model give its own (--top 1)")
        tokenized = [self.tokenized(asked) for asked in questions]
        batch = self.prepare(images)
        batch.context |= self._padded(tokenized)

        def choose(features: Tensor) -> Choice:
            logits = self.outcomes(self.decode(features, batch.context))
            likeliest = self.top(logits, own) if own else [[] for _ in questions]
            rows = [list(dict.fromkeys([*row, *forced])) for row in likeliest]
            if against is not None:
                rows = [[self.contrast(target, against) for target in row if target != against] for row in rows]
            return Choice(rows, texts=questions, words=[asked.words for asked in tokenized])

        found: list[Explanation] = explain(self, batch, choose, score=self.score_named(score), text=text, **options)
        for explanation, asked in zip(found, tokenized, strict=True):
            if asked.unknown:
                explanation.provenance["unknown_words"] = asked.unknown
        return found if several else found[0]

    def tokenized(self, question: str) -> TokenizedQuestion:
        """A question as the model reads it.

        Raises:
            InputError: it has no words, or none that the model knows.
        """
        return tokenize_question(self.answerer, question)

    def reads(self, question: str) -> bool:
        """Whether the model knows a word of a question: :meth:`tokenized` does not raise."""
        try:
            self.tokenized(question)
        except InputError:
            return False
        return True

    def target(self, name: Name) -> Target:
        """The answer that a name means.

        Raises:
            TargetError: the model cannot give it; the closest ones are offered.
        """
        try:
            return super().target(name)
        except TargetError as error:
            if isinstance(name, str) and name.strip().casefold() in ("yes", "no"):
                raise TargetError(
                    f"{name!r} is not among the model's {self._counted(len(self.labels or ()))}: it was not taught "
                    "to say yes or no; ask what, who, where or how many"
                ) from None
            raise error

    def context(self, questions: Sequence[str]) -> dict[str, Tensor]:
        """What :meth:`decode` reads beside the features of R photos: ``question``, int64 ``[R, T]``.

        Raises:
            InputError: a question without a word that the model knows.
        """
        return self._padded([self.tokenized(asked) for asked in questions])

    def _padded(self, questions: Sequence[TokenizedQuestion]) -> dict[str, Tensor]:
        """Token numbers ``[R, T]``, padded at the end."""
        longest = max(len(asked.tokens) for asked in questions)
        bundled = not isinstance(self.answerer, VQAAdapter)
        pad = self.answerer.vocabulary.pad if bundled else self.answerer.pad
        rows = [[*asked.tokens, *[pad] * (longest - len(asked.tokens))] for asked in questions]
        return {"question": torch.tensor(rows, device=self.device)}
