"""LLaVA 1.5 (Liu et al. 2023): the patches of a CLIP ViT, projected one by one."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mmexplain.geometry import Geometry
from mmexplain.io import Photo
from mmexplain.tasks.huggingface.processors import geometry_of
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.image_text import ImageTextSpeaker
from mmexplain.tasks.huggingface.views import Views


class Llava(ImageTextSpeaker):
    """``LlavaForConditionalGeneration``."""

    question: ClassVar[str] = "{}\nAnswer the question using a single word or phrase."
    prefix = 1

    def plain(self, prompt: str) -> str:
        """As LLaVA 1.5 was taught."""
        return f"USER: <image>\n{prompt} ASSISTANT:"

    def seen(self, photo: Photo, made: dict[str, Tensor]) -> tuple[Tensor, Geometry, Views, Tensor]:
        """One view, whose sides the processor may have cut off."""
        image = made["pixel_values"]
        patch = self.model.config.vision_config.patch_size
        height, width = image.shape[-2] // patch, image.shape[-1] // patch
        order = torch.arange(height * width).view(height, width)
        return image, geometry_of(self.checkpoint.image_processor, photo.geometry), Views((height, width)), order

    def features(self, image: Tensor, look: Look) -> Any:
        """Of the one view."""
        return self.model.model.get_image_features(pixel_values=image)

    def layer(self) -> str:
        """The block whose output is projected: those after it have no say."""
        number = self.model.config.vision_feature_layer
        number = max(number) if isinstance(number, (list, tuple)) else number
        blocks = len(self.model.get_submodule(self.blocks()))
        return f"{self.blocks()}.{number - 1 if number > 0 else blocks + number}"
