"""Qwen2-VL (Wang et al. 2024), Qwen2.5-VL (Bai et al. 2025) and Qwen3-VL: photos of any resolution in patches, of
which blocks of 2 × 2 become one token of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmexplain.geometry import Geometry
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.image_text import ImageTextSpeaker
from mmexplain.tasks.huggingface.views import Views


class QwenVL(ImageTextSpeaker):
    """``Qwen2VLForConditionalGeneration``.

    The tower has no axis for photos: its layers put out ``[R · n, C]``, patches block by block.
    """

    tower: ClassVar[str] = "model.visual"
    projector: ClassVar[str] = "model.visual.merger"
    suffix: ClassVar[dict[str, int]] = {"mm_token_type_ids": 0}
    beside: ClassVar[tuple[str, ...]] = ("image_grid_thw", "position_ids")

    # -- the photo --------------------------------------------------------------------------------------------------

    def seen(self, photo: Photo, made: dict[str, Tensor]) -> tuple[Tensor, Geometry, Views, Tensor]:
        """The photo, each side scaled to whole blocks of patches."""
        _, rows, columns = made["image_grid_thw"][0].tolist()
        image = self.unpack(made["pixel_values"], rows, columns)
        grid = (rows // self.merge, columns // self.merge)
        order = torch.arange(grid[0] * grid[1]).view(grid)
        return image, photo.geometry.resize(*image.shape[-2:]), Views(grid), order

    @property
    def merge(self) -> int:
        """Patches along each side of a block."""
        number: int = self.model.config.vision_config.spatial_merge_size
        return number

    def pack(self, image: Tensor) -> Tensor:
        """Pictures ``[R, 3, h, w]`` as the tower takes them: ``[R · n, 3 · t · p · p]``, patches of p × p pixels block
        by block, in t frames that are alike."""
        vision = self.model.config.vision_config
        patch, merge = vision.patch_size, self.merge
        blocks = image.unflatten(3, (-1, merge, patch)).unflatten(2, (-1, merge, patch))
        patches = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)  # photo, block, patch of the block, channel, pixel
        still = patches.unsqueeze(6).expand(*patches.shape[:6], vision.temporal_patch_size, patch, patch)
        packed: Tensor = still.flatten(5).flatten(0, 4)
        return packed

    def unpack(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """The picture ``[1, 3, h, w]`` that patches were cut out of."""
        vision = self.model.config.vision_config
        patch, merge = vision.patch_size, self.merge
        shape = (rows // merge, columns // merge, merge, merge, -1, vision.temporal_patch_size, patch, patch)
        picture: Tensor = patches.view(shape)[..., 0, :, :].permute(4, 0, 2, 5, 1, 3, 6)
        return picture.flatten(4, 6).flatten(1, 3)[None]

    def features(self, image: Tensor, look: Look) -> Any:
        """Of pictures, all of one size."""
        grids = look.context["image_grid_thw"].expand(len(image), -1)
        return self.model.model.get_image_features(pixel_values=self.pack(image), image_grid_thw=grids)

    # -- the text ---------------------------------------------------------------------------------------------------

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """As of all families; places in the rotary embedding are told, or the model would keep them for later calls."""
        ids = torch.cat([look["prompt"], said[:, :-1]], 1)
        kinds = torch.cat([look["mm_token_type_ids"], torch.zeros_like(said[:, :-1])], 1)
        places, _ = self.model.model.get_rope_index(ids, kinds, image_grid_thw=look["image_grid_thw"])
        return super().read(features, {**look, "position_ids": places}, said)

    def generate(self, look: Look, beam: int, longest: int) -> list[int]:
        """As of all families; what the model keeps of the last prompt is put back."""
        inner = self.model.model
        before = inner.rope_deltas
        try:
            return super().generate(look, beam, longest)
        finally:
            inner.rope_deltas = before

    # -- layers -----------------------------------------------------------------------------------------------------

    def blocks(self) -> str:
        """The tower's."""
        return f"{self.tower}.blocks"

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """Blocks of patches after the merger, patches before."""
        if not layer.startswith(self.tower):
            return super().reader(layer, shape, look)
        merged = layer.startswith((self.projector, f"{self.tower}.deepstack_merger_list"))
        order = self.block_order(layer, look)
        if not merged:
            order = self.patch_order(order)
        if len(shape) != 2 or shape[0] % order.numel():
            return None
        return Reader("tokens", grid=tuple(order.shape), rows=order.numel(), order=order)

    def block_order(self, layer: str, look: Look) -> Tensor:
        """The number of each block in a layer of the tower, ``[h, w]``: row by row."""
        height, width = look.views.grid
        return torch.arange(height * width).view(height, width)

    def patch_order(self, blocks: Tensor) -> Tensor:
        """Numbers of blocks ``[h, w]`` → of their patches ``[h · m, w · m]``, which stand together."""
        inside = torch.arange(self.merge**2).view(self.merge, self.merge)
        numbers = blocks[:, None, :, None] * self.merge**2 + inside[None, :, None, :]
        return numbers.flatten(2, 3).flatten(0, 1)


class Qwen25VL(QwenVL):
    """``Qwen2_5_VLForConditionalGeneration``: blocks of patches stand window by window in the tower."""

    def block_order(self, layer: str, look: Look) -> Tensor:
        """By window, but for the embedding, which comes before blocks are sorted."""
        from transformers.vision_utils import get_vision_window_index

        if layer.startswith(f"{self.tower}.patch_embed"):
            return super().block_order(layer, look)
        vision = self.model.config.vision_config
        grid = look.context["image_grid_thw"].cpu()
        sorted_, _ = get_vision_window_index(grid, self.merge, vision.window_size, vision.patch_size)
        numbers: Tensor = sorted_.argsort()
        return numbers.view(look.views.grid)


class Qwen3VL(QwenVL):
    """``Qwen3VLForConditionalGeneration``: the first layers of the language model are given features of earlier blocks
    of the tower too (DeepStack, Meng et al., NeurIPS 2024). They stand beside the last ones, along the last axis."""

    def encode(self, image: Tensor, look: Look) -> Tensor:
        """``[R, N, D · (1 + k)]`` of k blocks besides the last one."""
        found = self.features(image, look)
        return torch.cat([torch.stack(tuple(part)) for part in (found.pooler_output, *found.deepstack_features)], -1)

    def encoded(self, features: Tensor) -> Any:
        """Taken apart again."""
        found = super().encoded(features)
        last, *earlier = features.split(self.model.config.vision_config.out_hidden_size, -1)
        found.pooler_output, found.deepstack_features = list(last), [list(part) for part in earlier]
        return found
