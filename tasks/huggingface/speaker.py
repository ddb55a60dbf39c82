"""The contract of models that write about a photo: what differs from family to family, and nothing else."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmexplain.errors import InputError, TargetError
from mmexplain.geometry import Geometry
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.kernels import own_kernels
from mmexplain.tasks.huggingface.views import Views
from mmexplain.tasks.huggingface.words import decoded, unspaced

BETWEEN = "attention between"
"""What a look has, while attention is listened to; see :meth:`Speaker.attention_between`."""

_NEAR = 16
"""Tokens before a text that tell whether a space has to stand in between."""


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
            ``[R, T, D]``, of which place t is what token ``said[:, t]`` is read off, before it is read.
        """

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[N, D]`` → logits ``[N, V]``."""
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits

    def generate(self, look: Look, beam: int, longest: int) -> list[int]:
        """What the model says, without its end: its own ``generate``, without sampling.

        Args:
            look: the photo and the prompt.
            beam: width of the search.
            longest: most tokens that it may say.
        """
        with own_kernels(self.model):
            found = self.model.generate(
                **self.fresh(look.arguments),
                do_sample=False,
                num_beams=beam,
                max_new_tokens=longest,
                **self.unsaid(),
            )[0].tolist()
        return self.own(found, look)

    def unsaid(self) -> dict[str, Any]:
        """The argument of ``generate`` that keeps it from saying a photo's token."""
        own = self.model.generation_config.suppress_tokens or ()
        return {"suppress_tokens": sorted({*own, *self.marks})} if self.marks else {}

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

    def tokens(self, text: str, after: Sequence[int] | None = None) -> list[int]:
        """Of a text, without begin and end.

        Args:
            text: as the user wrote it.
            after: tokens that it follows, if it is to be scored: it then begins with a space where one has to stand
                between the two, and marks in it that look like special tokens are read as plain characters. None for
                a prompt.

        Raises:
            TargetError: a text to be scored holds what the tokenizer does not know, or the token of the photo.
        """
        text = unicodedata.normalize("NFC", text)
        if after is None:
            return self._plain(text)
        before = decoded(self.tokenizer, after[-_NEAR:])
        apart = before and not before[-1].isspace() and after[-1] not in self.tokenizer.all_special_ids
        gap = " " if apart and not text[:1].isspace() and not (unspaced(before[-1]) and unspaced(text[:1])) else ""
        found = self.continued(after, gap, text)
        self._refuse(text, found)
        return found

    def continued(self, before: Sequence[int], gap: str, text: str) -> list[int]:
        """Tokens of a text to be scored that stands ``gap`` after other tokens. Some tokenizers begin every text with
        a space, some keep those they are given, some know of none."""
        near = list(before[-_NEAR:])
        start = decoded(self.tokenizer, near)
        for written in (text, gap + text) if gap else ():
            found = self._plain(written, split_special_tokens=True)
            joined = decoded(self.tokenizer, [*near, *found])
            if joined.startswith(start) and joined[len(start) : len(start) + len(gap)].isspace():
                return found
        return self._plain(text, split_special_tokens=True)

    def _plain(self, text: str, **options: Any) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False, **options).input_ids
        return found

    def _refuse(self, text: str, ids: Sequence[int]) -> None:
        unknown = self.tokenizer.unk_token_id
        if unknown in ids and text.strip() != self.tokenizer.unk_token:
            word = next(
                (word for word in text.split() if unknown in self._plain(word, split_special_tokens=True)), text
            )
            raise TargetError(f"the model's tokenizer does not know {word!r}; write {text!r:.80} without it")
        if not self.marks.isdisjoint(ids):
            mark = next(iter(self.marks & set(ids)))
            raise TargetError(
                f"{text!r:.80} holds {self.tokenizer.convert_ids_to_tokens(mark)!r}, which stands for the photo; "
                "leave it out"
            )

    @property
    def marks(self) -> frozenset[int]:
        """Tokens that stand for a photo or a clip, which no text holds."""
        named = (getattr(self.model.config, f"{kind}_token_id", None) for kind in ("image", "video"))
        return frozenset(number for number in named if number is not None)

    @property
    def reads(self) -> int | None:
        """How many tokens the text part reads, prompt and text together; None where nothing bounds them."""
        config = self.model.config.get_text_config(decoder=True)
        most: int | None = getattr(config, "max_position_embeddings", None)
        return most

    def room(self, look: Look) -> int | None:
        """How many tokens a text after a look's prompt may have.

        Raises:
            InputError: none: the prompt is too long.
        """
        if self.reads is None:
            return None
        ids = look.arguments.get("input_ids", look.prompt)
        length = max(look.prompt.shape[1], ids.shape[1])
        if length >= self.reads:
            raise InputError(
                f"the prompt has {length} tokens, and {self.checkpoint.id!r} reads {self.reads}: shorten it"
            )
        return self.reads - look.prompt.shape[1]

    def fits(self, ids: Sequence[int], text: str, look: Look) -> None:
        """Check a text's length.

        Args:
            ids: its tokens.
            text: as the user wrote it, for the message.
            look: the photo and the prompt that it follows.

        Raises:
            InputError: it is too long.
        """
        room = self.room(look)
        if room is not None and len(ids) > room:
            raise InputError(
                f"{text!r:.60} has {len(ids)} tokens, and {self.checkpoint.id!r} reads {room} after its prompt; "
                "shorten it"
            )

    # -- layers -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def layer(self) -> str:
        """Dotted name of the layer that is explained if none is named."""

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """How to read a layer's output of one photo as maps of the views' shape.

        Args:
            layer: dotted name.
            shape: of what it puts out.
            look: the photo and the prompt.

        Returns:
            None where its shape tells enough.
        """
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
        """What each of T tokens was said with.

        Args:
            weights: of attention, ``[R, queries, keys]``.
            look: ``prompt`` and the other tensors of a look, R rows each.
            views: how tokens lie over the photo.
            steps: T.

        Returns:
            ``[R, T, *S]``.
        """
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where photos are sent, which is to the vision part. Its parameters that are loaded when they are needed
        (offloaded by accelerate) are nowhere, which is passed over."""
        parts = (self.model.get_submodule(self.tower), self.model)
        devices = (parameter.device for part in parts for parameter in part.parameters())
        return next((device for device in devices if device.type != "meta"), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of what photos are sent as, that of the vision part."""
        parts = (self.model.get_submodule(self.tower), self.model)
        found: torch.dtype = next(p.dtype for part in parts for p in part.parameters() if p.is_floating_point())
        return found
