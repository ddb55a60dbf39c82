"""LLaVA 1.5 (Liu et al. 2023): the patches of a CLIP ViT, projected one by one."""

from __future__ import annotations

from typing import ClassVar

from mmexplain.tasks.huggingface.speakers.image_text import ImageTextSpeaker


class Llava(ImageTextSpeaker):
    """``LlavaForConditionalGeneration``."""

    question: ClassVar[str] = "{}\nAnswer the question using a single word or phrase."
    prefix = 1

    def plain(self, prompt: str) -> str:
        """As LLaVA 1.5 was taught."""
        return f"USER: <image>\n{prompt} ASSISTANT:"

    def layer(self) -> str:
        """The block whose output is projected: those after it have no say."""
        number = self.model.config.vision_feature_layer
        number = max(number) if isinstance(number, (list, tuple)) else number
        blocks = len(self.model.get_submodule(self.blocks()))
        return f"{self.blocks()}.{number - 1 if number > 0 else blocks + number}"
