"""Ramp photos: the colour that a token sees tells where in the photo it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIZES = [(240, 100), (90, 260), (120, 120), (160, 100), (100, 160), (333, 517), (50, 40), (300, 90)]
"""``(width, height)``: for LLaVA-NeXT in two, three and four tiles, with rows or columns of padding."""


def ramp(width: int, height: int) -> Image.Image:
    """Red is the place from left to right, green from top to bottom, and blue is full: padding has none."""
    x, y = ((np.arange(side) + 0.5) / side * 255 for side in (width, height))
    rows, columns = np.broadcast_to(y[:, None], (height, width)), np.broadcast_to(x, (height, width))
    return Image.fromarray(np.stack([columns, rows, np.full((height, width), 255.0)], -1).round().astype(np.uint8))


def colours(processor: Any, pixels: Tensor, patch: int) -> Tensor:
    """Mean colours of patches in ``[0, 1]``: pictures ``[N, 3, h, w]`` → ``[N, patches, 3]``."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    return torch.nn.functional.avg_pool2d(pixels * std + mean, patch).flatten(2).transpose(1, 2)


def expected(box: tuple[float, float, float, float], width: int, height: int) -> tuple[float, float, float]:
    """Mean colour of the ramp in a rectangle of the photo, black beside it."""
    left, top, right, bottom = box
    x0, y0, x1, y1 = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    share = max(x1 - x0, 0.0) * max(y1 - y0, 0.0) / ((right - left) * (bottom - top))
    return share * (x0 + x1) / 2 / width, share * (y0 + y1) / 2 / height, share
