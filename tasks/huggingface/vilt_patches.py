"""ViLT's patches: how photos are cut into them, and the order that ViLT draws for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmexplain.geometry import Geometry, Size
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess

_SEED = 0
"""Of the order that ViLT draws for its patches, which changes no score."""


class ViltPreprocess(ProcessorPreprocess):
    """Photo → pixels whose sides are whole patches: the two are scaled apart, and nothing is cut off."""

    def __call__(self, photo: Any) -> tuple[Tensor, Geometry]:
        """``[3, h, w]`` float32, and how it lies over the original.

        Raises:
            InputError: a side would be less than a patch.
        """
        image = photo.image if isinstance(photo, Photo) else photo
        start = photo.geometry if isinstance(photo, Photo) else Geometry.identity(image.height, image.width)
        pixels = self.pixels(image)
        return pixels, start.resize(pixels.shape[-2], pixels.shape[-1])

    @property
    def size(self) -> Size:
        """``(h, w)`` of the input of a square photo."""
        height, width = self.pixels(Image.new("RGB", (224, 224))).shape[-2:]
        return height, width


def shuffled(model: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    """Embedded patches as ViLT has drawn them, after a class token, ``[B, 1 + N, D]``, and the place of each in the
    grid, ``[B, N]``.

    Args:
        model: ``ViltForQuestionAnswering``.
        image: ``[B, 3, h, w]``.
    """
    mask = torch.ones(len(image), *image.shape[-2:], dtype=torch.long, device=image.device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        tokens, _, (index, (_, width)) = model.vilt.embeddings.visual_embed(
            image, mask, max_image_length=model.config.max_image_length
        )
    return tokens, index[..., 0] * width + index[..., 1]


def in_reading_order(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens of :func:`shuffled`, sorted by their places; the class token stays first."""
    # A layer that is tapped inside may have had its rows repeated.
    order = 1 + places.argsort(1).repeat_interleave(len(tokens) // len(places), 0)
    found = tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    return torch.cat([tokens[:, :1], found], 1)


@dataclass(frozen=True)
class Patches:
    """Where the patches of one photo stand.

    Attributes:
        drawn: ``[h, w]``, which of ViLT's N patches stands at each place of the grid; -1 where none does.
        order: the same of patches in reading order.
    """

    drawn: Tensor
    order: Tensor

    @staticmethod
    def of(model: Any, image: Tensor) -> Patches:
        """Those of a photo ``[1, 3, h, w]``."""
        patch = model.config.patch_size
        grid = (image.shape[-2] // patch, image.shape[-1] // patch)
        places = shuffled(model, image)[1][0].cpu()
        return Patches(_order(places, grid), _order(places.sort().values, grid))

    def reader(self, layer: str, shape: Sequence[int], length: int) -> Reader | None:
        """Patches after a class token, and after a question of ``length`` tokens where it is there; within ViLT's own
        embedding of the photo in the order that it has drawn."""
        if len(shape) != 3:
            return None
        before = shape[1] - 1 - int(self.order.max())
        if before not in (1, 1 + length):
            return None
        order = self.drawn if layer == "vilt.embeddings.dropout" else self.order
        return Reader("tokens", grid=tuple(order.shape), order=torch.where(order >= 0, order + before, -1))


def _order(places: Tensor, grid: Size) -> Tensor:
    """Which of N patches stands at each place of a grid, ``[h, w]``; -1 where none does.

    Args:
        places: ``[N]``, where each patch stands in reading order.
        grid: ``(h, w)``.
    """
    order = torch.full((grid[0] * grid[1],), -1)
    order[places] = torch.arange(len(places))
    return order.view(grid)
