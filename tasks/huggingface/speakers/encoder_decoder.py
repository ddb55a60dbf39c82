"""Any encoder of photos with any decoder of text that attends to its output (ViT-GPT2 and its like)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from mmexplain.errors import LayerError, ModelError
from mmexplain.forward import model_runs
from mmexplain.geometry import Size
from mmexplain.io import Photo
from mmexplain.reader import Reader, reader_for
from mmexplain.surroundings import undisturbed
from mmexplain.taps import suggest
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess
from mmexplain.tasks.huggingface.speaker import Look, Speaker
from mmexplain.tasks.huggingface.views import Views
from mmexplain.tasks.huggingface.windows import windows_kept

_CROSS = re.compile(r"\.(crossattention|crossattention\.self|encoder_attn)$")
"""What decoders call their attention to the encoder's output; the innermost module gives the weights."""


class EncoderDecoder(Speaker):
    """``VisionEncoderDecoderModel``. A prompt is how the caption begins.

    How the encoder's output lies over the photo is found by running it once on an empty one of the same size: tokens
    that fold to a grid, or the maps of a CNN, whose places become tokens.

    Raises:
        CheckpointError: no image processor, or no tokenizer, comes with the model.
    """

    tower = "encoder"

    def __init__(self, checkpoint: Checkpoint) -> None:
        checkpoint.require("image_processor", "tokenizer")
        super().__init__(checkpoint)
        self.preprocess = ProcessorPreprocess(checkpoint.image_processor)
        self._readers: dict[Size, Reader] = {}
        self._layer: str | None = None

    # -- the photo and the prompt -----------------------------------------------------------------------------------

    def look(self, photo: Photo, prompt: str) -> Look:
        """The prompt begins with the decoder's own first token."""
        pixels, geometry = self.preprocess(photo)
        image = pixels[None].to(self.device, self.dtype)
        ids = torch.tensor([[self._start, *self.tokens(prompt)]], device=self.device)
        grid = self._reader((image.shape[-2], image.shape[-1])).grid
        assert grid is not None
        arguments = {"pixel_values": image, "decoder_input_ids": ids}
        return Look(image, ids, geometry, Views((grid[0], grid[1])), arguments=arguments)

    def fresh(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """``generate`` is given the encoder's output, because a CNN's is no row of tokens."""
        copies = super().fresh(arguments)
        with torch.no_grad():
            features = self.encode(copies.pop("pixel_values"))
        return {**copies, "encoder_outputs": BaseModelOutput(last_hidden_state=features)}

    @property
    def _start(self) -> int:
        config = self.model.config
        named = (getattr(c, "decoder_start_token_id", None) for c in (self.model.generation_config, config))
        first: int = next((number for number in named if number is not None), config.decoder.bos_token_id)
        return first

    # -- two steps --------------------------------------------------------------------------------------------------

    def encode(self, image: Tensor, look: Look | None = None) -> Tensor:
        """Tokens of the encoder, ``[1, N, D]``; of a CNN's maps the places in reading order."""
        found = self.encoded(image)
        return found.flatten(2).transpose(1, 2) if found.ndim == 4 else found

    def encoded(self, image: Tensor) -> Tensor:
        """What the encoder puts out: ``[1, N, D]``, or ``[1, D, h, w]``."""
        with windows_kept(self.model):
            found: Tensor = self.model.encoder(pixel_values=image).last_hidden_state
        return found

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """Logits: what a decoder's head is called, and does, differs from decoder to decoder."""
        prompt = look["prompt"]
        logits: Tensor = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=features),
            decoder_input_ids=torch.cat([prompt, said[:, :-1]], 1),
            use_cache=False,
        ).logits
        return logits[:, prompt.shape[1] - 1 :]

    def project(self, hidden: Tensor) -> Tensor:
        """Nothing is left to do."""
        return hidden

    # -- layers -----------------------------------------------------------------------------------------------------

    def layer(self) -> str:
        """The last layer of the encoder that is a grid and has a say in what the decoder reads."""
        if self._layer is None:
            empty = self._empty(self.preprocess.size)
            found = suggest(self.model.encoder, lambda: self.encoded(empty), self.preprocess.size)
            self._layer = f"encoder.{found}"
        return self._layer

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """As the encoder's last tokens lie; its other grids by their shape."""
        if layer.startswith("decoder"):
            raise LayerError(f"{layer!r} puts out words, no places in the photo; use {self.layer()!r}")
        last, (height, width) = self._reader((look.image.shape[-2], look.image.shape[-1])), look.views.grid
        same = last.layout == "tokens" and len(shape) == 3 and shape[1] == last.prefix + height * width
        return last if same else None

    def _reader(self, size: Size) -> Reader:
        """How the encoder's output lies over a photo of ``size``; maps are read as tokens.

        Raises:
            ModelError: it is no grid.
        """
        if size not in self._readers:
            empty = self._empty(size)
            with undisturbed(self.model, empty.device), model_runs(empty.shape), torch.no_grad():
                shape = self.encoded(empty).shape
            maps = len(shape) == 4
            reader = Reader("channels_first", grid=(shape[2], shape[3])) if maps else reader_for(shape, size)
            if reader is None:
                raise ModelError(f"the encoder of {self.checkpoint.id!r} puts out {list(shape)}, no grid of places")
            self._readers[size] = reader
        return self._readers[size]

    def _empty(self, size: Size) -> Tensor:
        return torch.zeros(1, 3, *size, device=self.device, dtype=self.dtype)

    def attention_layers(self) -> list[str]:
        """The decoder's cross-attention."""
        names = [name for name, _ in self.model.named_modules() if _CROSS.search(name)]
        return [name for name in names if f"{name}.self" not in names]

    def attention_over_photo(self, weights: Tensor, look: dict[str, Tensor], views: Views, steps: int) -> Tensor:
        """From the places that the texts are read off to the encoder's grid."""
        start, places = look["prompt"].shape[1] - 1, views.grid[0] * views.grid[1]
        found: Tensor = weights[:, start : start + steps, -places:].unflatten(2, views.grid)
        return found
