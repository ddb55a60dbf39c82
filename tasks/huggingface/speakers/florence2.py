"""Florence-2 (Xiao et al., CVPR 2024): a DaViT, and an encoder-decoder that reads its places before the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mmexplain.errors import LayerError
from mmexplain.geometry import Geometry
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.processors import geometry_of
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.image_text import ImageTextSpeaker
from mmexplain.tasks.huggingface.views import Views


class Florence2(ImageTextSpeaker):
    """``Florence2ForConditionalGeneration``. Prompts are its task tokens ("<CAPTION>", "<DETAILED_CAPTION>"), which the
    processor writes out as sentences.

    The encoder reads the photo and the prompt; the text is the decoder's, so a look's ``prompt`` is how that begins,
    and ``asked`` is what the encoder reads. The first image token is the mean over the places of all others, and no
    place itself.
    """

    asked: ClassVar[str] = "<CAPTION>"
    text: ClassVar[str] = "model.language_model.encoder"

    def plain(self, prompt: str) -> str:
        """The processor puts the photo before it."""
        return prompt

    def look(self, photo: Photo, prompt: str) -> Look:
        """The decoder begins with its start token and begin-of-text, which it was taught to say before all texts."""
        found = super().look(photo, prompt)
        config = self.model.config.text_config
        begin = found.prompt.new_tensor([[config.decoder_start_token_id, config.bos_token_id]])
        found.context["asked"] = found.prompt
        found.arguments["decoder_input_ids"] = begin
        found.prompt = begin
        return found

    def seen(self, photo: Photo, made: dict[str, Tensor]) -> tuple[Tensor, Geometry, Views, Tensor]:
        """One view, whose tokens follow the mean."""
        image = made["pixel_values"]
        grid = (self.places(image.shape[-2]), self.places(image.shape[-1]))
        order = 1 + torch.arange(grid[0] * grid[1]).view(grid)
        return image, geometry_of(self.checkpoint.image_processor, photo.geometry), Views(grid), order

    def places(self, side: int) -> int:
        """How many places the tower's convolutions make of a side in pixels."""
        vision = self.model.config.vision_config
        for kernel, stride, padding in zip(vision.patch_size, vision.patch_stride, vision.patch_padding, strict=True):
            side = (side + 2 * padding - kernel) // stride + 1
        return side

    def encode(self, image: Tensor, look: Look) -> Tensor:
        """The projector's tokens, ``[1, 1 + h · w, D]``."""
        features: Tensor = self.model.model.get_image_features(pixel_values=image).pooler_output
        return features

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """The encoder over the photo and what was asked, the decoder over the texts. The model's ``forward`` overlooks
        features that are handed to it, so they are put among the embedded tokens here."""
        asked, prompt = look["asked"], look["prompt"]
        embedded = self.model.get_input_embeddings()(asked)
        places = (asked == self.image_token).unsqueeze(-1)
        hidden: Tensor = self.model.model(
            inputs_embeds=embedded.masked_scatter(places, features.to(embedded)),
            attention_mask=torch.ones_like(asked),
            decoder_input_ids=torch.cat([prompt, said[:, :-1]], 1),
            use_cache=False,
        ).last_hidden_state
        return hidden[:, prompt.shape[1] - 1 :]

    # -- layers -----------------------------------------------------------------------------------------------------

    def layer(self) -> str:
        """The last block of the last stage: the projector reads all of its places."""
        stages = self.model.model.vision_tower.blocks
        return f"{self.tower}.blocks.{len(stages) - 1}.{len(stages[-1]) - 1}"

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """Maps of the tower, the projector's tokens after their mean, and image tokens among what the encoder reads.

        Raises:
            LayerError: another layer of the language model, where no token is a place.
        """
        if layer.startswith(self.text.rpartition(".")[0]):
            if layer.startswith(self.text) and len(shape) == 3 and shape[1] == look.context["asked"].shape[1]:
                return Reader("tokens", grid=look.views.shape, order=look.context["order"][0])
            raise LayerError(f"layer {layer!r} puts out no places of the photo")
        if layer.startswith(self.projector):
            return self.grid_reader(shape, look, look.views.grid, 1)
        return Reader("channels_first") if layer.startswith(self.tower) and len(shape) == 4 else None

    def text_layer(self) -> str:
        """The words' embedding in the decoder."""
        return "model.language_model.decoder.embed_tokens"

    def attention_layers(self) -> list[str]:
        """Cross-attention of all layers of the decoder, whose keys are what the encoder has read."""
        count = len(self.model.model.language_model.decoder.layers)
        return [f"model.language_model.decoder.layers.{number}.encoder_attn" for number in range(count)]
