"""The contract of models that write about a photo: what differs from family to family, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmexplain.geometry import Geometry
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.kernels import own_kernels
from mmexplain.tasks.huggingface.views import Views

BETWEEN = "attention between"
"""What a look has, while attention is listened to: see :meth:`Speaker.attention_between`."""


@dataclass
class Look:
    """A photo and a prompt as a model reads them.

    Attributes:
        image: ``[1, ...]``, four axes or more: what :meth:`Speaker.encode` is given. A picture ``[1, 3, h, w]`` where
            the photo is seen once: methods that change the photo work then.
        prompt: ``[1, P]``, the tokens before the text that is scored: begin-of-text, image tokens, what was asked.
        geometry: how the picture, or the mosaic of tiles, lies over the original.
        views: how tokens lie over it.
        context: further tensors ``[1, ...]`` that reading the text needs.
        arguments: of the model's own ``generate``.
    """

    image: Tensor
    prompt: Tensor
    geometry: Geometry
    views: Views
    context: dict[str, Tensor] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


class Speaker(ABC):
    """A model that writes about a photo, in two steps: its vision part runs once, and its text part reads what came out
    of it together with texts it is made to say (teacher forcing: one pass for all words).

    Args:
        checkpoint: model and processor.

    Attributes:
        asked: the prompt of a caption, if the user gives none.
        question: how a question becomes a prompt, with ``{}`` in its place.
        tower: dotted name of the vision part; "" stands for the whole model.
        prefix: leading tokens of the vision part that are no place in the photo.
    """

    asked: ClassVar[str] = ""
    question: ClassVar[str] = "{}"
    tower: ClassVar[str] = ""
    prefix: int = 0

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model: Any = checkpoint.model
        self.tokenizer: Any = checkpoint.tokenizer

    @abstractmethod
    def look(self, photo: Photo, prompt: str) -> Look:
        """The photo and the prompt as tensors on the model's device."""

    @abstractmethod
    def encode(self, image: Tensor, look: Look) -> Tensor:
        """Features ``[1, N, D]`` of a look's image, which may have been changed since."""

    @abstractmethod
    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """Read texts after the prompt.

        Args:
            features: ``[R, N, D]``.
            look: ``prompt`` and the other tensors of a look, R rows each.
            said: ``[R, T]``, the texts, padded at the end.

        Returns:
            ``[R, T, D]``: place t is what token ``said[:, t]`` is read off, before it is read.
        """

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[N, D]`` → logits ``[N, V]``."""
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits

    def generate(self, look: Look, beam: int, longest: int) -> list[int]:
        """What the model says, without its end: its own ``generate``, without sampling."""
        with own_kernels(self.model):
            found = self.model.generate(
                **self.fresh(look.arguments),
                do_sample=False,
                num_beams=beam,
                max_new_tokens=longest,
            )[0].tolist()
        return self.own(found, look)

    def fresh(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Copies: some models write into what ``generate`` is given."""
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in arguments.items()}

    def own(self, found: Sequence[int], look: Look) -> list[int]:
        """Of what ``generate`` returned the text alone: without the prompt, up to the end."""
        prompt = look.prompt[0].tolist()
        rest = list(found[len(prompt) :]) if list(found[: len(prompt)]) == prompt else list(found)
        end = next((number for number, token in enumerate(rest) if token in self.ends), len(rest))
        return rest[:end]

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""
        end = self.model.generation_config.eos_token_id
        if end is None:
            end = self.tokenizer.eos_token_id
        return frozenset(end if isinstance(end, (list, tuple)) else [end])

    @property
    def end(self) -> int:
        """The token that ends a text; of several the tokenizer's own."""
        own = self.tokenizer.eos_token_id
        return own if own in self.ends else min(self.ends)

    def tokens(self, text: str) -> list[int]:
        """Of a text that follows the prompt, without begin and end."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    # -- layers -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def layer(self) -> str:
        """Dotted name of the layer that is explained if none is named."""

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """How to read a layer's output of one photo as maps of the views' shape; None: as it looks like."""
        return None

    def text_layer(self) -> str | None:
        """Dotted name of what embeds the text, see :meth:`mmexplain.tasks.base.Task.text_layer`."""
        embedding = self.model.get_input_embeddings()
        return self.name_of(embedding)

    def first_place(self, look: Look) -> int:
        """Where the first token of a text stands among the places of the text layer."""
        return look.prompt.shape[1]

    def name_of(self, module: nn.Module) -> str:
        """Dotted name of a module of the model."""
        named: dict[nn.Module, str] = {found: name for name, found in self.model.named_modules()}
        return named[module]

    # -- attention --------------------------------------------------------------------------------------------------

    def attention_layers(self) -> list[str]:
        """Dotted names of the modules whose attention, from the text to the photo, is the model's own."""
        return []

    def attention_between(self) -> list[str]:
        """Where the text attends to tokens that attend to the photo: dotted names of the modules whose attention is
        that of these tokens. :meth:`attention_over_photo` finds its mean over heads and layers ``[R, Q, N]`` in the
        look, as :data:`BETWEEN`."""
        return []

    def attention_over_photo(self, weights: Tensor, look: dict[str, Tensor], views: Views, steps: int) -> Tensor:
        """Attention weights ``[R, queries, keys]`` → ``[R, T, *S]``, what each of T tokens was said with."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where photos are sent: to the vision part. Its parameters that are loaded when they are needed (offloaded by
        accelerate) are nowhere, which is passed over."""
        parts = (self.model.get_submodule(self.tower), self.model)
        devices = (parameter.device for part in parts for parameter in part.parameters())
        return next((device for device in devices if device.type != "meta"), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of what photos are sent as: that of the vision part."""
        parts = (self.model.get_submodule(self.tower), self.model)
        found: torch.dtype = next(p.dtype for part in parts for p in part.parameters() if p.is_floating_point())
        return found
