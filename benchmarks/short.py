"""The table of the README, from what ``bench.py`` has measured.

python benchmarks/short.py
"""

from __future__ import annotations

import json
from typing import Any

from cases.case import OWN
from common import RESULTS, describe, table
from verdicts import ratio

CASES = (
    "ResNet-50, 1 image, 1 class",
    "ResNet-50, 1 image, 5 classes",
    "ResNet-50, 1 image, 100 classes",
    "ResNet-50, 32 images, 1 class",
    "VGG-16, 1 image, 100 classes",
    "EfficientNet-Lite0, 32 images, 5 classes",
    "ViT-B/16, 1 image, 5 classes",
    "ViT-B/16, 1 image, 100 classes",
    "ResNet-50 + LSTM, 12 words",
    "VGG-16 + LSTM, 12 words",
    "LSTM with attention (show-attend-tell), 12 words",
    "BLIP-base, 12 words",
    "deeper-lstm-norm-i, 16 answers",
    "r3d_18, 16 frames of 112 pixels, 16 actions",
    "I3D, 16 frames of 224 pixels, 16 actions",
    "ResNet-50, layer1 to layer4, 5 classes",
    "JPEG to JPEG, ResNet-50, 1 class",
)
CONTENDERS = (OWN, "torch-cam", "captum", "pytorch-grad-cam", "naive loop")


def row(name: str, case: dict[str, Any]) -> list[str]:
    """Multiples of the forward pass, the least of them bold."""
    found = {one: ratio(case, one) for one in CONTENDERS if one in case["contenders"]}
    least = min(found.values())
    cells = []
    for one in CONTENDERS:
        value = found.get(one)
        told = "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2f}"
        cells.append(f"**{told}**" if value == least else told)
    return [name, f"{case['forward']['ms']['median']:.0f}", *cells]


def main() -> None:
    record = json.loads((RESULTS / "bench.json").read_text())
    rows = [row(name, record["cases"][name]) for name in CASES if name in record["cases"]]
    print(table(["", "forward pass, ms", *CONTENDERS], rows))
    print()
    for run in record["runs"]:
        print(f"{describe(run['machine'])}; {run['command']}")


if __name__ == "__main__":
    main()
