"""Runs so small that they take a moment: photos of a few pixels, a classifier of two convolutions, and stores of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from timm.models import is_model, register_model
from torch import Tensor, nn

CLASSES = ["ant", "bee", "cat", "dog", "eel"]


class Tiny(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 5]``, by a map of 4×4."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, classes)
        self.num_classes = classes
        self.pretrained_cfg = {"input_size": (3, 16, 16), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.25,) * 3}

    def forward(self, images: Tensor) -> Tensor:
        found = self.last(self.first(images).relu()).relu()
        return self.head(found.mean((2, 3)))


if not is_model("tiny_of_two"):

    @register_model
    def tiny_of_two(pretrained: bool = False, num_classes: int = len(CLASSES), **_: Any) -> Tiny:
        return Tiny(num_classes)


def save_tiny(path: Path, seed: int = 0) -> str:
    """Random weights with a card; returns the model's identifier."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    state = {name: value * 3 for name, value in Tiny().state_dict().items()}
    save_file(state, path)
    path.with_suffix(".json").write_text(json.dumps({"architecture": "timm:tiny_of_two", "labels": CLASSES}))
    return str(path)


def photos(folder: Path, count: int, size: int = 16, seed: int = 0) -> Path:
    """PNGs of noise, ``0000.png`` and on."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(noise.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(folder / f"{number:04d}.png")
    return folder


def tables(store: Path) -> dict[str, Any]:
    """Every shard as it is on disk, but for what differs from run to run."""
    return {path.name: pq.read_table(path) for path in sorted((store / "rows").glob("*.parquet"))}
