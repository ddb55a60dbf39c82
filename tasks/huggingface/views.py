"""What a model sees of a photo: all of it, or tiles and a thumbnail; and how maps over these views become one.

Tokens of all views are read as one stack ``[T, h, w]``, the tiles row by row and the thumbnail where the model has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Views:
    """How tokens lie over a photo.

    Attributes:
        grid: ``(h, w)``, the tokens of each view.
        tiles: ``(rows, columns)`` of the mosaic that the tiles make.
        thumbnail: whether a view of the whole photo comes before or after the tiles, or not at all.
        photo: ``(left, top, right, bottom)``, where the photo lies in the mosaic, which may be padded: fractions of
            its sides.
    """

    grid: tuple[int, int]
    tiles: tuple[int, int] = (1, 1)
    thumbnail: Literal["first", "last"] | None = None
    photo: Box = (0.0, 0.0, 1.0, 1.0)

    @property
    def count(self) -> int:
        """How many views there are."""
        rows, columns = self.tiles
        return rows * columns + (self.thumbnail is not None)

    @property
    def single(self) -> bool:
        """Whether the photo is seen once, as one picture."""
        return self.count == 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of maps over the tokens, ``(h, w)``, or ``(T, h, w)`` for several views."""
        return self.grid if self.single else (self.count, *self.grid)

    def lay_out(self, maps: Tensor) -> Tensor:
        """Maps over the tokens as maps over the mosaic.

        A place has what its tile's token says and, in the finer grid, what the thumbnail's token says of it: both are
        added, because the score depends on both.

        Args:
            maps: ``[..., *shape]``.

        Returns:
            ``[..., rows · h, columns · w]``.
        """
        if self.single:
            return maps
        stack = maps.movedim(-3, 0)
        first = 1 if self.thumbnail == "first" else 0
        rows, columns = self.tiles
        tiles = stack[first : first + rows * columns].unflatten(0, (rows, columns))
        mosaic: Tensor = tiles.movedim((0, 1), (-4, -2)).flatten(-4, -3).flatten(-2, -1)
        if self.thumbnail is None:
            return mosaic
        return mosaic + self._over_mosaic(stack[0 if first else -1], mosaic.shape[-2:])

    def _over_mosaic(self, thumbnail: Tensor, size: torch.Size) -> Tensor:
        """The thumbnail's map where the photo lies in the mosaic, 0 beside it; bilinear between centres of tokens."""
        left, top, right, bottom = self.photo
        height, width = size
        y = ((torch.arange(height) + 0.5) / height - top) / (bottom - top)
        x = ((torch.arange(width) + 0.5) / width - left) / (right - left)
        inside = ((y > 0) & (y < 1))[:, None] & ((x > 0) & (x < 1))
        grid = torch.stack((2 * x.expand(height, -1) - 1, (2 * y - 1)[:, None].expand(-1, width)), -1)
        flat = thumbnail.float().reshape(1, -1, *thumbnail.shape[-2:])
        found = functional.grid_sample(
            flat, grid[None].to(flat.device), mode="bilinear", padding_mode="border", align_corners=False
        )
        return (found[0] * inside.to(flat.device)).reshape(*thumbnail.shape[:-2], height, width).to(thumbnail.dtype)
