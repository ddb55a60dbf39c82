"""ViLT (Kim et al., ICML 2021): question and patches stand in one row before a transformer, which chooses an answer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.geometry import Geometry, Size
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, PhotoTask
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess
from mmexplain.tasks.huggingface.words import locate, split
from mmexplain.tasks.labels import Labels
from mmexplain.tasks.outcomes import Link, Name
from mmexplain.tasks.vqa.answering import VQAOutput
from mmexplain.tasks.vqa.task import VQA
from mmexplain.tasks.vqa.tokens import TokenizedQuestion

_SEED = 0
"""Of the order that ViLT draws for its patches, which changes no score."""


class ViltPreprocess(ProcessorPreprocess):
    """Photo → pixels whose sides are whole patches: the two are scaled apart, and nothing is cut off."""

    def __call__(self, photo: Any) -> tuple[Tensor, Geometry]:
        """``[3, h, w]`` float32, and how it lies over the original.

        Raises:
            InputError: a side would be less than a patch.
        """
        image = photo.image if isinstance(photo, Photo) else photo
        start = photo.geometry if isinstance(photo, Photo) else Geometry.identity(image.height, image.width)
        pixels = self.pixels(image)
        return pixels, start.resize(pixels.shape[-2], pixels.shape[-1])

    @property
    def size(self) -> Size:
        """``(h, w)`` of the input of a square photo."""
        height, width = self.pixels(Image.new("RGB", (224, 224))).shape[-2:]
        return height, width


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
        self._grid: tuple[int, int] = (0, 0)
        self._length = 0
        self._order: Tensor | None = None
        self._drawn: Tensor | None = None
        self._places: list[range] = []

    # -- the model --------------------------------------------------------------------------------------------------

    def prepare(self, images: Any) -> Batch:
        """One photo."""
        batch = super().prepare(images)
        image = batch.inputs["image"]
        patch = self.vilt.config.patch_size
        self._grid = (image.shape[-2] // patch, image.shape[-1] // patch)
        places = self._shuffled(image[:1])[1][0].cpu()
        self._drawn, self._order = (_order(drawn, self._grid) for drawn in (places, places.sort().values))
        return batch

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Embedded patches in reading order after a class token, ``[B, 1 + N, D]``."""
        tokens, places = self._shuffled(inputs["image"])
        # A layer that is tapped inside may have had its rows repeated.
        order = 1 + places.argsort(1).repeat_interleave(len(tokens) // len(places), 0)
        sorted_tokens = tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        return torch.cat([tokens[:, :1], sorted_tokens], 1)

    def _shuffled(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded patches as ViLT has drawn them, ``[B, 1 + N, D]``, and the place of each in the grid, ``[B, N]``."""
        mask = torch.ones(len(image), *image.shape[-2:], dtype=torch.long, device=image.device)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_SEED)
            tokens, _, (index, (_, width)) = self.vilt.vilt.embeddings.visual_embed(
                image, mask, max_image_length=self.vilt.config.max_image_length
            )
        return tokens, index[..., 0] * width + index[..., 1]

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
        """Patches after a class token, and after the question where it is there; within ViLT's own embedding of the
        photo in the order that it has drawn."""
        if self._order is None or self._drawn is None or len(shape) != 3:
            return None
        before = shape[1] - 1 - int(self._order.max())
        if before not in (1, 1 + self._length):
            return None
        drawn = self._drawn if layer == "vilt.embeddings.dropout" else self._order
        return Reader("tokens", grid=self._grid, order=torch.where(drawn >= 0, drawn + before, -1))

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
        """A map for every answer over each photo, see :meth:`mmexplain.tasks.vqa.task.VQA.explain`."""
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


def _order(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which of N patches stands at each place of a grid, ``[h, w]``; -1 where none does.

    Args:
        places: ``[N]``, where each patch stands in reading order.
        grid: ``(h, w)``.
    """
    order = torch.full((grid[0] * grid[1],), -1)
    order[places] = torch.arange(len(places))
    return order.view(grid)
