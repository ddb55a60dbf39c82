"""I3D, the Inception-v1 network inflated to three dimensions: Carreira and Zisserman, "Quo Vadis, Action Recognition? A
New Model and the Kinetics Dataset", CVPR 2017, arXiv:1705.07750, figure 3. The stream that sees colours.

Layers have the names of the authors' code, ``Conv3d_1a_7x7`` to ``Mixed_5c`` (github.com/google-deepmind/kinetics-i3d).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import ModelError

Triple = tuple[int, int, int]
Widths = tuple[int, int, int, int, int, int]

MIXED: dict[str, Widths] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Output channels within each inception block: branch 0; branch 1, 1x1x1 and 3x3x3; branch 2, likewise; branch 3."""

POOLED_STEPS = 2
MIN_FRAMES = 9
"""Fewer leave :data:`POOLED_STEPS` steps in time no room: three strides of 2 make 8 frames one step."""


def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's "SAME" padding in the order of :func:`torch.nn.functional.pad` (last axis first).

    The output has ``ceil(size / stride)`` places, and where the padding is odd, its larger half comes last.

    Args:
        size: ``(T, H, W)``.
        kernel: of the convolution or pooling, along the same axes.
        stride: likewise.
    """
    pads: list[int] = []
    for length, window, step in zip(reversed(size), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-length // step) - 1) * step + window - length, 0)
        pads += [total // 2, total - total // 2]
    return pads


class MaxPool(nn.Module):
    """Max pooling with "SAME" padding."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` → the same with ``T, H, W`` divided by the stride, rounded up."""
        pads = same_padding(clip.shape[2:], self.kernel, self.stride)
        before, after = pads[::2], pads[1::2]
        if before == after:  # the pooling's own padding is spared the copy
            return F.max_pool3d(clip, self.kernel, self.stride, before[::-1])
        return F.max_pool3d(F.pad(clip, pads, value=-inf), self.kernel, self.stride)


class Unit3D(nn.Module):
    """Convolution with "SAME" padding, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        # At stride 1 the padding of an odd kernel is the same on both sides; at stride 2 it depends on the size.
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, "same" if stride == 1 else 0, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)  # Sonnet's default
        self.relu = nn.ReLU()

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, inputs, T, H, W]`` → ``[B, outputs, T, H, W]``, the last three divided by the stride, rounded up."""
        if self.conv.stride[0] > 1:
            kernel, stride = self.conv.kernel_size, self.conv.stride
            clip = F.pad(clip, same_padding(clip.shape[2:], kernel, stride))
        activations: Tensor = self.relu(self.bn(self.conv(clip)))
        return activations


class Mixed(nn.Module):
    """An inception block: four branches side by side, one after another in the channels."""

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        w0, w1a, w1b, w2a, w2b, w3 = widths
        self.Branch_0 = _chain(Conv3d_0a_1x1=Unit3D(inputs, w0, 1))
        self.Branch_1 = _chain(Conv3d_0a_1x1=Unit3D(inputs, w1a, 1), Conv3d_0b_3x3=Unit3D(w1a, w1b, 3))
        self.Branch_2 = _chain(Conv3d_0a_1x1=Unit3D(inputs, w2a, 1), Conv3d_0b_3x3=Unit3D(w2a, w2b, 3))
        pool = MaxPool((3, 3, 3), (1, 1, 1))
        self.Branch_3 = _chain(MaxPool3d_0a_3x3=pool, Conv3d_0b_1x1=Unit3D(inputs, w3, 1))

    def forward(self, clip: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` → the same with the branches' channels together."""
        return torch.cat([self.Branch_0(clip), self.Branch_1(clip), self.Branch_2(clip), self.Branch_3(clip)], dim=1)


class Head(nn.Module):
    """The mean over space and two steps in time, a linear layer for each, and the mean of their logits."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout()
        self.Conv3d_0c_1x1 = nn.Conv3d(inputs, classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` → logits ``[B, classes]``."""
        window = (POOLED_STEPS, *features.shape[3:])  # (2, 7, 7) of the published 224 pixels
        logits: Tensor = self.Conv3d_0c_1x1(self.dropout(F.avg_pool3d(features, window, stride=1)))
        return logits.mean(dim=(2, 3, 4))


class I3D(nn.Module):
    """Clips → logits.

    Args:
        classes: how many.
    """

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, stride=2)
        self.MaxPool3d_2a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        self.MaxPool3d_3a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        channels = 192
        for name, widths in MIXED.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = MaxPool((3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = MaxPool((2, 2, 2), (2, 2, 2))
            self.add_module(name, Mixed(channels, widths))
            channels = widths[0] + widths[2] + widths[4] + widths[5]
        self.Logits = Head(channels, classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits, averaged over time.

        Args:
            clip: ``[B, 3, T, H, W]``, RGB from -1 to 1; published for 224 x 224, T of 9 and more.

        Returns:
            ``[B, classes]``.

        Raises:
            ModelError: a clip of fewer frames.
        """
        if clip.shape[2] < MIN_FRAMES:
            raise ModelError(f"I3D needs at least {MIN_FRAMES} frames, got {clip.shape[2]}; take a longer clip")
        for layer in self.children():
            clip = layer(clip)
        return clip


def _chain(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
