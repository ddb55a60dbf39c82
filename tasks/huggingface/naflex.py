"""Photos for SigLIP 2 NaFlex: as many whole patches as fit, in the photo's own aspect."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmexplain.errors import ModelError
from mmexplain.geometry import Geometry, Size
from mmexplain.io import Photo
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess


class NaFlexPreprocess(ProcessorPreprocess):
    """Photo → the image ``[3, rows · patch, columns · patch]`` that the processor's patches make up.

    Each side is scaled on its own to a whole number of patches: nothing is cropped or padded. See
    :class:`~mmexplain.tasks.huggingface.processors.ProcessorPreprocess`.

    Args:
        image_processor: ``Siglip2ImageProcessor``.
    """

    def __call__(self, photo: Photo | Image.Image) -> tuple[Tensor, Geometry]:
        """One photo (upright RGB) as the model's input, and how it lies over the original."""
        image = photo.image if isinstance(photo, Photo) else photo
        start = photo.geometry if isinstance(photo, Photo) else Geometry.identity(image.height, image.width)
        pixels = self.pixels(image)
        return pixels, start.resize(*pixels.shape[-2:])

    def pixels(self, image: Image.Image) -> Tensor:
        """The processor's patches of one photo, laid side by side, ``[3, h, w]`` float32."""
        made = self.made(image)
        rows, columns = made["spatial_shapes"][0].tolist()
        patches = made["pixel_values"][0, : rows * columns].float()
        return unpacked(patches[None], (rows, columns), self.patch)[0]

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""
        return int(self.image_processor.patch_size)

    @property
    def size(self) -> Size:
        """``(h, w)`` of the input of a square photo."""
        height, width = self.pixels(Image.new("RGB", (224, 224))).shape[-2:]
        return height, width


def packed(image: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """``[B, 3, h, w]`` → patches ``[B, rows · columns, patch · patch · 3]`` (the channel runs fastest) and
    ``spatial_shapes [B, 2]``; differentiable.

    Raises:
        ModelError: a side is no whole number of patches.
    """
    if image.shape[-2] % patch or image.shape[-1] % patch:
        raise ModelError(f"an input of {list(image.shape[-2:])} pixels is no whole number of patches of {patch}")
    cut = image.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # [B, 3, rows, patch, columns, patch]
    rows, columns = cut.shape[2], cut.shape[4]
    patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return patches, torch.tensor([[rows, columns]] * len(image), device=image.device)


def unpacked(patches: Tensor, grid: Size, patch: int) -> Tensor:
    """The inverse of :func:`packed` for patches of one ``grid``: ``[B, 3, h, w]``."""
    cut: Any = patches.unflatten(1, grid).unflatten(-1, (patch, patch, -1))
    image: Tensor = cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
    return image
