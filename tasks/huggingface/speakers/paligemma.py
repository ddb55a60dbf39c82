"""PaliGemma (Beyer et al. 2024) and PaliGemma 2 (Steiner et al. 2024): a SigLIP ViT, projected patch by patch."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mmexplain.tasks.huggingface.speakers.image_text import ImageTextSpeaker


class PaliGemma(ImageTextSpeaker):
    """``PaliGemmaForConditionalGeneration``.

    The photo and the prompt see each other in both directions; the text after them, which has token type 1, is causal.
    Prompts are the tasks it was taught: "caption en", "answer en where is the cat?".
    """

    asked: ClassVar[str] = "caption en"
    question: ClassVar[str] = "answer en {}"
    suffix: ClassVar[dict[str, int]] = {"token_type_ids": 1}

    def plain(self, prompt: str) -> str:
        """The processor adds begin-of-text after the photo, and the line break that ends a prompt."""
        return f"<image>{prompt}"

    def encoded(self, features: Tensor) -> Any:
        """It takes one tensor, not a list."""
        return BaseModelOutputWithPooling(pooler_output=features)
