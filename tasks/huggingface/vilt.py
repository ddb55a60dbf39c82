"""ViLT (Kim et al., ICML 2021): question and patches stand in one row before a transformer, which chooses an answer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.reader import Reader
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, PhotoTask
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.vilt_patches import Patches, ViltPreprocess, in_reading_order, shuffled
from mmexplain.tasks.huggingface.words import locate, split
from mmexplain.tasks.labels import Labels
from mmexplain.tasks.outcomes import Link, Name
from mmexplain.tasks.vqa.answering import VQAOutput
from mmexplain.tasks.vqa.task import VQA
from mmexplain.tasks.vqa.tokens import TokenizedQuestion


class Vilt(VQA):
    """``ViltForQuestionAnswering``: one of the answers in ``config.id2label``, which do not exclude each other.

    Patches are embedded once for a photo, and read with the question; so the layers of the transformer run once for
    every question. Photos are explained one by one, because each has a grid of its own.

    ViLT draws the order of its patches anew whenever it runs. Each has its place added before, so the order has no
    say; here they stand in reading order. Where the configuration lets ViLT see some patches only, a fixed seed
    chooses them, and the others are 0 in the maps.

    Args:
        checkpoint: the model with its processor.

    Raises:
        CheckpointError: no image processor, or no tokenizer, comes with it.
    """

    link: Link | None = "sigmoid"
    heavy_decode = True
    one_by_one = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        checkpoint.require("image_processor", "tokenizer")
        self.model = checkpoint.model
        self.vilt: Any = checkpoint.model
        self.model_id = checkpoint.id
        self.tokenizer = checkpoint.tokenizer
        self.preprocess = ViltPreprocess(checkpoint.image_processor)
        names = checkpoint.config.id2label
        self.labels = Labels([names[number] for number in range(len(names))], noun=("answer", "answers"), whole=True)
        # Of the photo and the question that are being explained.
        self._patches: Patches | None = None
        self._length = 0
        self._places: list[range] = []

    # -- the model --------------------------------------------------------------------------------------------------

    def prepare(self, images: Any) -> Batch:
        """One photo."""
        batch = super().prepare(images)
        self._patches = Patches.of(self.vilt, batch.inputs["image"][:1])
        return batch

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Embedded patches in reading order after a class token, ``[B, 1 + N, D]``."""
        return in_reading_order(*shuffled(self.vilt, inputs["image"]))

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> VQAOutput:
        """The transformer over the question ``context["question"] [R, T]`` and the patches."""
        question = context["question"]
        logits: Tensor = self.vilt(
            input_ids=question,
            attention_mask=torch.ones_like(question),
            token_type_ids=torch.zeros_like(question),
            image_embeds=features,
            pixel_mask=question.new_ones(features.shape[:2]),
        ).logits
        return VQAOutput(logits)

    def on(self, image: Any) -> Vilt:
        """ViLT with a word to read, to look at its layers."""
        task = copy.copy(self)
        task.tokenized("a")
        return task

    def trial(self, inputs: dict[str, Tensor]) -> Tensor:
        """The whole model, with a word to read."""
        return self.decode(self.encode(inputs), self._padded([self.tokenized("a")])).logits

    def default_layer(self) -> str:
        """What enters the last block's attention: the answer is read off the question's first token, so that the
        patches that leave the block have no say."""
        return f"vilt.encoder.layer.{len(self.vilt.vilt.encoder.layer) - 1}.layernorm_before"

    def reader(self, layer: str, shape: Sequence[int]) -> Reader | None:
        """As the photo's patches stand."""
        return self._patches.reader(layer, shape, self._length) if self._patches else None

    def text_layer(self) -> str:
        """The embedding of the question's tokens."""
        return "vilt.embeddings.text_embeddings.word_embeddings"

    def text_places(self, target: Target, count: int) -> Sequence[Sequence[int]]:
        """The tokens of each word."""
        return self._places

    def provenance(self) -> dict[str, Any]:
        """The model's class and what was done to the photo."""
        return PhotoTask.provenance(self)

    # -- explaining -------------------------------------------------------------------------------------------------

    def explain(
        self,
        images: Any,
        question: str | Sequence[str],
        answers: Name | Sequence[Name] | None = (),
        **options: Any,
    ) -> Any:
        """A map for every answer over each photo, see :meth:`mmexplain.tasks.vqa.VQA.explain`.

        Args:
            images: one photo, or a list of photos, which are explained one by one.
            question: what is asked; for a list of photos, one for all of them or one for each.
            answers: answers that the model is made to consider.
            options: of :meth:`mmexplain.tasks.vqa.VQA.explain` and :func:`mmexplain.explain`.

        Raises:
            InputError: no photo, or another number of questions than of photos.
            TargetError, LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        if not isinstance(images, (list, tuple)):
            return self._alone(images, question, answers, options)
        asked = [question] * len(images) if question is None or isinstance(question, str) else list(question)
        if len(asked) != len(images):
            raise InputError(f"{len(asked)} question(s) for {len(images)} photo(s): give one for all, or one for each")
        if not images:
            raise InputError("no photo was given")
        return [self._alone(image, own, answers, options) for image, own in zip(images, asked, strict=True)]

    def _alone(self, image: Any, question: Any, answers: Any, options: dict[str, Any]) -> Any:
        # What is noted of one photo is seen by no other thread.
        return VQA.explain(copy.copy(self), image, question, answers, **options)

    def tokenized(self, question: str) -> TokenizedQuestion:
        """By the model's own tokenizer, with its begin and end.

        Raises:
            InputError: it has no words, or more than the model can read.
        """
        shown = split(question) if isinstance(question, str) else []
        if not shown:
            raise InputError(f"the question {question!r} holds no word; ask something, such as 'what is the dog doing'")
        ids = self.tokenizer(question).input_ids
        most = self.vilt.config.max_position_embeddings
        if len(ids) > most:
            raise InputError(f"the question has {len(ids)} tokens, and {self.model_id!r} reads {most}; shorten it")
        self._length = len(ids)
        self._places = [range(word.start, word.stop) for word in locate(self.tokenizer, ids, question)]
        return TokenizedQuestion(question, shown, ids, [])

    def _padded(self, questions: Sequence[TokenizedQuestion]) -> dict[str, Tensor]:
        return {"question": torch.tensor([asked.tokens for asked in questions], device=self.device)}
