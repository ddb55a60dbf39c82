"""LLaVA-NeXT (Liu et al. 2024): the whole photo as one view, and a mosaic of tiles of it without its padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmexplain.geometry import Geometry, Size
from mmexplain.io import Photo
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.llava import Llava
from mmexplain.tasks.huggingface.views import Views


class LlavaNext(Llava):
    """``LlavaNextForConditionalGeneration``."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        # Towers without a class token hand on all that they put out.
        self.prefix = int(self.model.config.vision_feature_select_strategy == "default")

    def seen(self, photo: Photo, made: dict[str, Tensor]) -> tuple[Tensor, Geometry, Views, Tensor]:
        """The photo squashed to one tile; then, padded to the sides of a mosaic, in tiles."""
        image = made["pixel_values"]
        vision = self.model.config.vision_config
        tile, side = vision.image_size, vision.image_size // vision.patch_size
        geometry = mosaic(photo.geometry, self.checkpoint.image_processor.image_grid_pinpoints)
        rows, columns = (length // tile for length in geometry.input)
        height, width = geometry.input
        left, top, right, bottom = geometry.box_to_input(torch.tensor(photo.geometry.box, dtype=torch.float64)).tolist()
        box = (left / width, top / height, right / width, bottom / height)
        whole = torch.arange(side * side).view(1, side, side)
        tiles = unpadded_order((rows * side, columns * side), photo.geometry.input, side * side)
        tiles = tiles.unflatten(0, (rows, side)).unflatten(2, (columns, side)).transpose(1, 2).flatten(0, 1)
        return image, geometry, Views((side, side), (rows, columns), "first", box), torch.cat([whole, tiles])

    def features(self, image: Tensor, look: Look) -> Any:
        """Of the views, packed by the model: without padding, and with a token that ends each row of the mosaic."""
        sizes = look.arguments["image_sizes"].expand(len(image), -1)
        return self.model.model.get_image_features(pixel_values=image, image_sizes=sizes)


def mosaic(geometry: Geometry, resolutions: list[list[int]]) -> Geometry:
    """How the mosaic of tiles lies over a photo: scaled without distortion into the best of the resolutions
    ``(h, w)``, the rest of which is padding on both sides."""
    from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
    from transformers.image_utils import ChannelDimension

    size = geometry.input
    target = select_best_resolution(size, resolutions)
    blank = torch.empty(1, *size, device="meta")
    height, width = get_patch_output_size(blank, target, ChannelDimension.FIRST)
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    return geometry.resize(height, width).crop(-top, -left, *target)


def unpadded_order(cells: Size, photo: Size, first: int) -> Tensor:
    """Which token stands at each cell of a mosaic: int64 of shape ``cells``, -1 where the cell was cut off.

    The model cuts padding off by its own rounding, which may leave or take a row of cells that is photo in part.

    Args:
        cells: ``(h, w)`` of the mosaic, in tokens.
        photo: ``(h, w)`` of the photo, in pixels.
        first: number of the first token; after the last one of each row stands one that ends it.
    """
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    numbers = torch.arange(cells[0] * cells[1]).view(1, *cells)
    kept: Tensor = unpad_image(numbers, photo)[0]
    height, width = kept.shape
    tokens = first + torch.arange(height * (width + 1)).view(height, width + 1)[:, :-1]
    order = torch.full((cells[0] * cells[1],), -1)
    order[kept.flatten()] = tokens.flatten()
    return order.view(cells)
