"""BLIP (Li et al., ICML 2022): a ViT, and a text decoder with cross-attention to all of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from mmexplain.io import Photo
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.vit import VitSpeaker
from mmexplain.tasks.huggingface.views import Views


class BlipCaptioner(VitSpeaker):
    """``BlipForConditionalGeneration``. A prompt is how the caption begins ("a photo of")."""

    def look(self, photo: Photo, prompt: str) -> Look:
        """The squashed photo; the prompt begins with the decoder's own first token."""
        image, geometry, views = self.pictured(photo)
        ids = torch.tensor([[self.model.config.text_config.bos_token_id, *self.tokens(prompt)]], device=self.device)
        arguments = {"pixel_values": image}
        if prompt:
            # ``generate`` drops the last token, which it takes for the tokenizer's end.
            arguments["input_ids"] = torch.cat([ids, ids.new_full((1, 1), self.end)], 1)
        return Look(image, ids, geometry, views, arguments=arguments)

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """Causal attention over the text, cross-attention to the features."""
        prompt = look["prompt"]
        ids = torch.cat([prompt, said[:, :-1]], 1)
        hidden: Tensor = self.model.text_decoder.bert(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            encoder_hidden_states=features,
            encoder_attention_mask=ids.new_ones(features.shape[:2]),
            is_decoder=True,
            use_cache=False,
        ).last_hidden_state
        return hidden[:, prompt.shape[1] - 1 :]

    def project(self, hidden: Tensor) -> Tensor:
        """The head of the text decoder."""
        logits: Tensor = self.model.text_decoder.cls(hidden)
        return logits

    @property
    def ends(self) -> frozenset[int]:
        """BLIP ends a text with the separator."""
        return frozenset([self.model.config.text_config.sep_token_id])

    def text_layer(self) -> str:
        """The words' embedding."""
        return self.name_of(self.model.text_decoder.bert.embeddings.word_embeddings)

    def attention_layers(self) -> list[str]:
        """Cross-attention of all layers."""
        count = len(self.model.text_decoder.bert.encoder.layer)
        return [f"text_decoder.bert.encoder.layer.{number}.crossattention.self" for number in range(count)]

    def attention_over_photo(self, weights: Tensor, look: dict[str, Tensor], views: Views, steps: int) -> Tensor:
        """Patches after the class token, as the places that the texts are read off saw them."""
        start = look["prompt"].shape[1] - 1
        placed: Tensor = weights[:, start : start + steps, 1:].unflatten(2, views.grid)
        return placed
