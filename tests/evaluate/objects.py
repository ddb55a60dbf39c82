"""Made-up data with marked objects in the layouts of VOC, ImageNet and COCO, and a classifier that looks at colours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.task import Classifier

Box = tuple[float, float, float, float]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Colours(nn.Module):
    """The logit of each colour is the mean of its channel, so that its class activation map is the channel itself."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1, bias=False)
        self.fc = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3)[:, :, None, None])
            self.fc.weight.copy_(torch.eye(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def colours(names: Sequence[str] = ("red", "green", "blue")) -> Classifier:
    """A classifier that sees the whole photo at 32 × 32, black as 0."""
    preprocess = Preprocess.from_timm(
        {
            "input_size": (3, 32, 32),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
        }
    )
    return Classifier(Colours().eval(), preprocess, names, layer="features", model_id="colours")


def photo(path: Path, *blocks: tuple[str, tuple[int, int, int, int]], size: tuple[int, int] = (64, 64)) -> None:
    """A black photo ``(w, h)`` with blocks of colour."""
    image = Image.new("RGB", size)
    for colour, box in blocks:
        image.paste(COLOURS[colour], box)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def xml(path: Path, size: tuple[int, int], *things: tuple[str, tuple[int, int, int, int], int]) -> None:
    """VOC's XML: ``(w, h)``, and of each thing the name, the numbers that are written, the difficult flag."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{flag}</difficult><part><name>head</name><bndbox><xmin>1</xmin></bndbox>"
        f"</part><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
        "</object>"
        for name, box, flag in things
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>",
        encoding="utf-8",
    )


def lines(folder: Path, *entries: tuple[str, Sequence[tuple[str, Box]]], size: tuple[int, int] = (64, 64)) -> Path:
    """``annotations.jsonl`` with boxes ``(x, y, w, h)`` for the photos of ``images``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = ""
    for file, things in entries:
        objects = [{"cat": name, "bbox": list(box), "crowd": 0} for name, box in things]
        text += json.dumps({"file": file, "w": size[0], "h": size[1], "objects": objects}) + "\n"
    (folder / "annotations.jsonl").write_text(text, encoding="utf-8")
    return folder
