"""Models whose ViT sees the photo once: patches in reading order after a class token, all of which are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from mmexplain.errors import LayerError
from mmexplain.geometry import Geometry
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess
from mmexplain.tasks.huggingface.speaker import Look, Speaker
from mmexplain.tasks.huggingface.views import Views


class VitSpeaker(Speaker):
    """What these families share.

    Attributes:
        tower: dotted name of the ViT.
        blocks: of the list of its blocks.

    Raises:
        CheckpointError: no image processor, or no tokenizer, comes with the model.
    """

    asked: ClassVar[str] = ""
    tower: ClassVar[str] = "vision_model"
    blocks: ClassVar[str] = "vision_model.encoder.layers"
    prefix = 1

    def __init__(self, checkpoint: Checkpoint) -> None:
        checkpoint.require("image_processor", "tokenizer")
        super().__init__(checkpoint)

    def pictured(self, photo: Photo) -> tuple[Tensor, Geometry, Views]:
        """The photo as the ViT's picture ``[1, 3, h, w]``, and how pixels and patches lie over it."""
        pixels, geometry = ProcessorPreprocess(self.checkpoint.image_processor)(photo)
        image = pixels[None].to(self.device, self.dtype)
        patch = self.model.config.vision_config.patch_size
        return image, geometry, Views((image.shape[-2] // patch, image.shape[-1] // patch))

    def encode(self, image: Tensor, look: Look) -> Tensor:
        """All tokens of the ViT, ``[1, 1 + h · w, D]``."""
        features: Tensor = self.model.get_submodule(self.tower)(pixel_values=image).last_hidden_state
        return features

    def layer(self) -> str:
        """The last block of the ViT."""
        return f"{self.blocks}.{len(self.model.get_submodule(self.blocks)) - 1}"

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """Patches after the class token; behind the ViT no place is left.

        Raises:
            LayerError: it is behind the ViT.
        """
        if not layer.startswith((self.tower, "attention")):
            raise LayerError(f"{layer!r} puts out what was made of words, no places in the photo; use {self.layer()!r}")
        height, width = look.views.grid
        patches = len(shape) == 3 and shape[1] == 1 + height * width
        return Reader("tokens", prefix=1, grid=look.views.grid) if patches else None

    @staticmethod
    def over_patches(weights: Tensor, views: Views) -> Tensor:
        """Attention to all tokens of the ViT ``[R, T, 1 + h · w]`` → ``[R, T, h, w]``, without the class token."""
        found: Tensor = weights[:, :, 1:].unflatten(2, views.grid)
        return found
