"""Wide residual networks for photos of 32 × 32 pixels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmexplain.errors import CheckpointError, InputError
from mmexplain.tasks.captioning.checkpoint import load_strictly, read_tensors, write_tensors


class _Block(nn.Module):
    """BN, ReLU, 3 × 3, BN, ReLU, 3 × 3, and a shortcut around it: the basic block of table 1, before the activation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.bn1(x))
        residual: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        # Where the width changes, the shortcut reads what is activated, as in the authors' code.
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """WRN-d-k: three groups of (d − 4) / 6 basic blocks, k times as wide as a ResNet for CIFAR.

    Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv 1605.07146), table 1 with blocks B(3, 3) and no
    dropout. Global average pooling and one linear layer follow the last ReLU, :attr:`LAYER`, whose maps ``[B, 64 k,
    h / 4, w / 4]`` are not negative, as Grad-CAM++ asks for.

    Args:
        depth: d, 6 n + 4.
        width: k.
        classes: N.

    Raises:
        InputError: there is no network of that depth or width.
    """

    LAYER: ClassVar[str] = "relu"

    def __init__(self, depth: int, width: int, classes: int) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise InputError(
                f"there is no WRN-{depth}-{width}: a depth is 10, 16, 22, 28, 34, 40, … and a width at least 1"
            )
        self.depth, self.width, self.classes = depth, width, classes
        blocks: list[nn.Module] = []
        channels = 16
        for group in range(3):
            for number in range((depth - 4) // 6):
                stride = 2 if group and not number else 1
                blocks.append(_Block(channels, 16 * width * 2**group, stride))
                channels = 16 * width * 2**group
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    @property
    def name(self) -> str:
        """WRN-d-k."""
        return f"WRN-{self.depth}-{self.width}"

    def forward(self, x: Tensor) -> Tensor:
        """Photos ``[B, 3, h, w]`` → logits ``[B, N]``."""
        x = self.relu(self.bn(self.blocks(self.conv(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits

    def save(self, path: Path, **more: Any) -> None:
        """Write the weights as safetensors, with what it takes to build the network, and ``more``, in the header."""
        header = {"depth": self.depth, "width": self.width, "classes": self.classes}
        write_tensors(path, self.state_dict(), {"wide_resnet": header, **more})

    @classmethod
    def load(cls, path: Path) -> WideResNet:
        """The network that :meth:`save` wrote, in eval mode.

        Raises:
            CheckpointError: the file is missing, unreadable or holds something else; one line says how.
        """
        tensors, header = read_tensors(path)
        try:
            model = cls(**{name: int(value) for name, value in header["wide_resnet"].items()})
        except (KeyError, TypeError, ValueError, AttributeError, InputError):
            raise CheckpointError(f"'{path}' holds no wide residual network that `WideResNet.save` wrote") from None
        load_strictly(model, tensors, path)
        return model.eval()


def depth_and_width(text: str) -> tuple[int, int]:
    """Depth and width of "40-2" or "WRN-40-2".

    Raises:
        InputError: it is written otherwise, or there is no such network.
    """
    found = re.fullmatch(r"(?:WRN-)?(\d{1,3})-(\d{1,3})", text.strip(), re.IGNORECASE)
    if found is None:
        raise InputError(f"{text!r} names no wide residual network; write depth and width, as in 40-2")
    depth, width = int(found[1]), int(found[2])
    with torch.device("meta"):
        WideResNet(depth, width, 2)
    return depth, width
