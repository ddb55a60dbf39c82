"""GIT (Wang et al., TMLR 2022): a CLIP ViT, and a text decoder that reads its tokens before the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mmexplain.errors import ModelError
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.vit import VitSpeaker
from mmexplain.tasks.huggingface.views import Views


class Git(VitSpeaker):
    """``GitForCausalLM``. A prompt is how the text begins: of a caption, or the question that an answer follows.

    Raises:
        ModelError: a model for clips.
    """

    tower: ClassVar[str] = "git.image_encoder"
    blocks: ClassVar[str] = "git.image_encoder.vision_model.encoder.layers"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        frames = self.model.config.num_image_with_embedding
        if frames is not None:
            raise ModelError(f"model {checkpoint.id!r} describes clips of {frames} frames, not photos")

    def look(self, photo: Photo, prompt: str) -> Look:
        """Begin-of-text and the prompt, without the end that the tokenizer puts after it."""
        image, geometry, views = self.pictured(photo)
        ids = torch.tensor([[self.model.config.bos_token_id, *self.tokens(prompt)]], device=self.device)
        return Look(image, ids, geometry, views, arguments={"pixel_values": image, "input_ids": ids})

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """Image tokens see each other, text sees them and what stands before it."""
        prompt, git = look["prompt"], self.model.git
        words = git.embeddings(input_ids=torch.cat([prompt, said[:, :-1]], 1))
        seen = git.visual_projection(features).to(words.dtype)
        count, length = seen.shape[1], seen.shape[1] + words.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool, device=words.device).tril()
        allowed[:count, :count] = True
        mask = torch.zeros(length, length, dtype=words.dtype, device=words.device)
        mask = mask.masked_fill(~allowed, torch.finfo(words.dtype).min)[None, None]
        hidden: Tensor = git.encoder(
            torch.cat([seen, words], 1), attention_mask=mask, past_key_values=None, use_cache=False
        ).last_hidden_state
        return hidden[:, count + prompt.shape[1] - 1 :]

    def project(self, hidden: Tensor) -> Tensor:
        """The head."""
        logits: Tensor = self.model.output(hidden)
        return logits

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """Patches after the class token, before the text in the decoder."""
        if not layer.startswith(("git.visual_projection", "git.encoder", "attention")):
            return super().reader(layer, shape, look)
        height, width = look.views.grid
        if len(shape) != 3 or shape[1] < 1 + height * width:
            return None
        return Reader("tokens", grid=look.views.grid, order=1 + torch.arange(height * width).view(height, width))

    def text_layer(self) -> str:
        """The words' embedding."""
        return self.name_of(self.model.git.embeddings.word_embeddings)

    def attention_layers(self) -> list[str]:
        """Self-attention of all layers of the decoder."""
        return [f"git.encoder.layer.{number}.attention.self" for number in range(len(self.model.git.encoder.layer))]

    def attention_over_photo(self, weights: Tensor, look: dict[str, Tensor], views: Views, steps: int) -> Tensor:
        """From the places that the texts are read off to the patches after the class token."""
        height, width = views.grid
        count = 1 + height * width
        start = count + look["prompt"].shape[1] - 1
        return self.over_patches(weights[:, start : start + steps, :count], views)
