"""BLIP-2 (Li et al., ICML 2023): a ViT, a Q-Former whose queries attend to all of its tokens, and a language model that
reads the queries before the text.

A query is no place in the photo: maps live in the ViT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmexplain.io import Photo
from mmexplain.tasks.huggingface.speaker import BETWEEN, Look
from mmexplain.tasks.huggingface.speakers.vit import VitSpeaker
from mmexplain.tasks.huggingface.views import Views


class Blip2(VitSpeaker):
    """``Blip2ForConditionalGeneration``. A prompt is how the caption begins ("a photo of"), or what is asked.

    The language model continues the prompt (OPT), or reads it with its encoder and writes with its decoder (T5). For
    the second, the places of the text layer are those of the prompt, the decoder's first token, and the text.
    """

    question: ClassVar[str] = "Question: {} Answer:"

    @property
    def encodes(self) -> bool:
        """Whether the language model has an encoder."""
        return bool(self.model.language_model.config.is_encoder_decoder)

    @property
    def queries(self) -> int:
        """How many queries the Q-Former has."""
        count: int = self.model.query_tokens.shape[1]
        return count

    # -- the photo and the prompt -----------------------------------------------------------------------------------

    def look(self, photo: Photo, prompt: str) -> Look:
        """The squashed photo; the queries' tokens stand before all of the tokenizer's."""
        image, geometry, views = self.pictured(photo)
        ids = [self.model.config.image_token_id] * self.queries + self.tokenizer(prompt).input_ids
        tokens = torch.tensor([ids], device=self.device)
        context = self.instruction(prompt)
        arguments = {"pixel_values": image, "input_ids": tokens, **context}
        return Look(image, tokens, geometry, views, context, arguments)

    def instruction(self, prompt: str) -> dict[str, Tensor]:
        """What the Q-Former reads of the prompt."""
        return {}

    def own(self, found: Sequence[int], look: Look) -> list[int]:
        """A decoder's text begins with its own first token."""
        return super().own(found[1:] if self.encodes else found, look)

    # -- two steps --------------------------------------------------------------------------------------------------

    def queried(self, features: Tensor, look: dict[str, Tensor]) -> Tensor:
        """What the queries found in the features, ``[R, Q, D]``."""
        queries = self.model.query_tokens.expand(features.shape[0], -1, -1)
        hidden: Tensor = self.model.qformer(
            query_embeds=queries,
            encoder_hidden_states=features.to(queries.dtype),
            encoder_attention_mask=look["prompt"].new_ones(features.shape[:2]),
            **self.instructed(look),
        ).last_hidden_state
        return hidden[:, : self.queries]

    def instructed(self, look: dict[str, Tensor]) -> dict[str, Tensor]:
        """The Q-Former's arguments beside queries and features."""
        return {}

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """One pass of the Q-Former, and one of the language model."""
        prompt = look["prompt"]
        length = prompt.shape[1]
        start = [prompt.new_full((len(prompt), 1), self._start)] if self.encodes else []
        embedded = self.model.get_input_embeddings()(torch.cat([prompt, *start, said[:, :-1]], 1))
        projection = self.model.language_projection
        seen = projection(self.queried(features, look).to(projection.weight.dtype)).to(embedded)
        embedded = torch.cat([seen, embedded[:, self.queries :]], 1)
        language: Any = self.model.language_model
        if self.encodes:
            logits: Tensor = language(
                inputs_embeds=embedded[:, :length],
                attention_mask=torch.ones_like(prompt),
                decoder_inputs_embeds=embedded[:, length:],
                use_cache=False,
            ).logits
            return logits
        hidden: Tensor = language.model(
            inputs_embeds=embedded, attention_mask=prompt.new_ones(embedded.shape[:2]), use_cache=False
        ).last_hidden_state
        return hidden[:, length - 1 :]

    def project(self, hidden: Tensor) -> Tensor:
        """T5 scales what its head reads, and has given logits already."""
        return hidden if self.encodes else super().project(hidden)

    @property
    def _start(self) -> int:
        number: int = self.model.language_model.config.decoder_start_token_id
        return number

    @property
    def ends(self) -> frozenset[int]:
        """As the language model, which generates, has it."""
        end = self.model.language_model.generation_config.eos_token_id
        return frozenset(end if isinstance(end, (list, tuple)) else [end])

    # -- layers -----------------------------------------------------------------------------------------------------

    def first_place(self, look: Look) -> int:
        """After the prompt, and after the decoder's first token where there is a decoder."""
        return look.prompt.shape[1] + self.encodes

    # -- attention --------------------------------------------------------------------------------------------------

    def attention_layers(self) -> list[str]:
        """The decoder's cross-attention, or the self-attention of a language model without encoder."""
        language = self.model.language_model
        if self.encodes:
            return [
                f"language_model.decoder.block.{n}.layer.1.EncDecAttention" for n in range(len(language.decoder.block))
            ]
        return [self.name_of(m) for n, m in language.named_modules() if n.endswith(".self_attn")]

    def attention_between(self) -> list[str]:
        """The Q-Former's cross-attention, which not all of its layers have."""
        return [name for name, _ in self.model.named_modules() if name.endswith(".crossattention.attention")]

    def attention_over_photo(self, weights: Tensor, look: dict[str, Tensor], views: Views, steps: int) -> Tensor:
        """Attention to each query times the query's attention to the patches. What the queries told each other, and
        what an encoder mixed, is left out."""
        start = 0 if self.encodes else look["prompt"].shape[1] - 1
        queries = weights[:, start : start + steps, : self.queries]
        return self.over_patches(queries @ look[BETWEEN], views)
