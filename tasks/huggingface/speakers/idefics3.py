"""Idefics3 (Laurençon et al. 2024) and SmolVLM (Marafioti et al. 2025): tiles and a thumbnail, each pixel-shuffled."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mmexplain.geometry import Geometry, Size
from mmexplain.io import Photo
from mmexplain.tasks.huggingface.checkpoint import quiet
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.image_text import ImageTextSpeaker
from mmexplain.tasks.huggingface.views import Views


class Idefics3(ImageTextSpeaker):
    """``Idefics3ForConditionalGeneration`` and ``SmolVLMForConditionalGeneration``.

    The photo is squashed to a mosaic of square tiles, which are read row by row; a thumbnail, the mosaic squashed to
    one tile, comes last. A photo that fits into one tile is that tile. The connector makes one token of a square of
    patches (pixel shuffle), so the tokens of a view are a coarser grid in reading order.
    """

    tower: ClassVar[str] = "model.vision_model"
    projector: ClassVar[str] = "model.connector"
    text: ClassVar[str] = "model.text_model"

    def plain(self, prompt: str) -> str:
        """As its chat template writes it."""
        return f"User:<image>{prompt}<end_of_utterance>\nAssistant:"

    def seen(self, photo: Photo, made: dict[str, Tensor]) -> tuple[Tensor, Geometry, Views, Tensor]:
        """One tile as a picture, ``[1, 3, h, w]``; several with their thumbnail as ``[1, T, 3, h, w]``."""
        pixels = made["pixel_values"]
        height, width = pixels.shape[-2:]
        config = self.model.config
        cell = config.vision_config.patch_size * config.scale_factor
        grid = (height // cell, width // cell)
        rows, columns = self.mosaic(photo)
        single = pixels.shape[1] == 1
        views = Views(grid) if single else Views(grid, (rows, columns), "last")
        order = torch.arange(views.count * grid[0] * grid[1]).view(views.shape)
        geometry = photo.geometry.resize(max(rows, 1) * height, max(columns, 1) * width)
        return pixels[:, 0] if single else pixels, geometry, views, order

    def mosaic(self, photo: Photo) -> Size:
        """``(rows, columns)`` of tiles as the image processor counts them, ``(0, 0)`` for a photo that it does not
        split. The processor of photo and prompt keeps this to itself."""
        with quiet():
            made = self.checkpoint.image_processor([[photo.image]], return_row_col_info=True, return_tensors="pt")
        return int(made["rows"][0][0]), int(made["cols"][0][0])

    def features(self, image: Tensor, look: Look) -> Any:
        """Tower and connector over all views. ``get_image_features`` is not asked, because it drops views that are 0
        everywhere as padding, which a photo that a method has blanked is not."""
        views = image.flatten(0, 1) if image.ndim == 5 else image
        hidden = self.model.model.vision_model(pixel_values=views).last_hidden_state
        return BaseModelOutputWithPooling(pooler_output=self.model.model.connector(hidden))
