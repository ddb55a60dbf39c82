"""Where the tokens of a vision transformer lie over its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmexplain.reader import Reader
from mmexplain.tasks.base import Batch, PhotoTask

_EXTRA = ("cls_token", "class_token", "class_embedding", "distillation_token", "register_tokens")
_FEWEST = 4


@dataclass(frozen=True)
class Tokens:
    """How a model cuts its input into patches.

    Attributes:
        patch: ``(height, width)`` in pixels; None where it does not.
        prefix: class, distillation and register tokens, which stand before the patches.
        merges: whether patches are merged two by two on the way, an odd one with padding, as in Swin.
    """

    patch: tuple[int, int] | None
    prefix: int = 0
    merges: bool = False

    @classmethod
    def of(cls, model: nn.Module, config: Any) -> Tokens:
        """As the parameters and the configuration of the part that sees the photo tell.

        Args:
            model: that part, or all of a model that does nothing else.
            config: its configuration.
        """
        size = getattr(config, "patch_size", None)
        pair = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
        patch = pair if len(pair) == 2 and all(isinstance(side, int) for side in pair) else None
        extra = {name.rpartition(".")[2]: parameter for name, parameter in model.named_parameters()}
        kept = [parameter for name, parameter in extra.items() if name in _EXTRA]
        prefix = sum(parameter.shape[-2] if parameter.ndim > 1 else 1 for parameter in kept)
        return cls(patch, prefix, hasattr(config, "depths"))

    def reader(self, shape: Sequence[int], image: Sequence[int]) -> Reader | None:
        """How an output ``[B, T, C]`` is read for photos of ``(height, width)`` pixels: tokens in reading order, behind
        the prefix or (before that joins them) without it. None for other numbers of tokens and other shapes."""
        if self.patch is None or len(shape) != 3:
            return None
        # Swin pads what does not fill a patch; others take whole patches only.
        grid = (-(-image[0] // self.patch[0]), -(-image[1] // self.patch[1]))
        if shape[1] == grid[0] * grid[1] + self.prefix:
            return Reader("tokens", self.prefix, grid)
        while grid[0] * grid[1] >= _FEWEST:
            if shape[1] == grid[0] * grid[1]:
                return Reader("tokens", 0, grid)
            if not self.merges:
                break
            grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        return None


class PatchTask(PhotoTask):
    """A task whose model cuts photos into patches.

    Attributes:
        tokens: how it does.
    """

    tokens: Tokens

    def prepare(self, images: Any) -> Batch:
        """As for every photo task; layers are read for the size that these photos have become."""
        batch = super().prepare(images)
        size = tuple(batch.inputs["image"].shape[2:])
        batch.reader = lambda layer, shape: self.tokens.reader(shape, size)
        return batch

    def reader(self, layer: str, shape: Sequence[int]) -> Reader | None:
        """As for photos of the usual size."""
        return self.tokens.reader(shape, self.preprocess.size)
