"""BLIP for questions: a ViT, an encoder that reads the question with the photo, a decoder that reads the outcome.

The decoder never sees the photo, only the question's tokens as the photo has changed them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mmexplain.io import Photo
from mmexplain.tasks.huggingface.speaker import BETWEEN, Look
from mmexplain.tasks.huggingface.speakers.blip import BlipCaptioner
from mmexplain.tasks.huggingface.views import Views


class BlipAnswerer(BlipCaptioner):
    """``BlipForQuestionAnswering``."""

    question: ClassVar[str] = "{}"

    def look(self, photo: Photo, prompt: str) -> Look:
        """The question as the tokenizer has it, with its begin and end."""
        look = super().look(photo, "")
        look.prompt = torch.tensor([self.tokenizer(prompt).input_ids], device=self.device)
        look.arguments["input_ids"] = look.prompt
        return look

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """The question is read with the photo, and the answers with the question."""
        question = look["prompt"]
        states = self.model.text_encoder(
            input_ids=question,
            attention_mask=torch.ones_like(question),
            encoder_hidden_states=features,
            encoder_attention_mask=question.new_ones(features.shape[:2]),
        ).last_hidden_state
        start = said.new_full((len(said), 1), self.model.decoder_start_token_id)
        answers = torch.cat([start, said[:, :-1]], 1)
        hidden: Tensor = self.model.text_decoder.bert(
            input_ids=answers,
            attention_mask=torch.ones_like(answers),
            encoder_hidden_states=states,
            encoder_attention_mask=torch.ones_like(question),
            is_decoder=True,
            use_cache=False,
        ).last_hidden_state
        return hidden

    def own(self, found: Sequence[int], look: Look) -> list[int]:
        """``generate`` gives back the decoder's own first token, and not the question."""
        return super().own(found[1:], look)

    def text_layer(self) -> str:
        """The embedding of the question's words."""
        return self.name_of(self.model.text_encoder.embeddings.word_embeddings)

    def attention_between(self) -> list[str]:
        """From the question to the photo."""
        count = len(self.model.text_encoder.encoder.layer)
        return [f"text_encoder.encoder.layer.{number}.crossattention.self" for number in range(count)]

    def attention_over_photo(self, weights: Tensor, look: dict[str, Tensor], views: Views, steps: int) -> Tensor:
        """Attention to each token of the question times that token's attention to the patches. What the question's
        tokens told each other is left out."""
        return self.over_patches(weights[:, :steps] @ look[BETWEEN], views)
