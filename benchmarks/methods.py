"""What maps of gradient × activation cost: four stages of ResNet-50 and five classes, a method at a time and six in one
call, against one forward and backward pass with the gradients of all parameters.

python benchmarks/methods.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, Others, alternate, describe, machine, save, table, with_spread
from PIL import Image
from torchvision import models

from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification import Classifier

LAYERS = ("layer1", "layer2", "layer3", "layer4")
TARGETS = 5
SIX = ("gradcam", "hirescam", "layercam", "xgradcam", "eigencam", "eigengradcam")
MORE = ("gradcam++", "layercam-fused", "finercam")


def contenders(architecture: str, size: int) -> tuple[Callable[[], Any], dict[str, Callable[[], Any]]]:
    """The yardstick, and a call for each method and for six at once, of a photo of noise and random weights."""
    torch.manual_seed(0)
    model = getattr(models, architecture)(num_classes=1000).eval()
    task = Classifier(model, Preprocess(resize=(size, size), mean=(0.5,) * 3, std=(0.5,) * 3))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8))
    image = task.prepare(photo).inputs["image"]

    def plain() -> None:
        model.zero_grad()
        model(image)[0, 0].backward()

    def explain(*methods: str) -> Callable[[], Any]:
        return lambda: task.explain(photo, range(TARGETS), layers=LAYERS, methods=methods)

    runs = {f"{len(SIX)} methods": explain(*SIX)}
    return plain, runs | {method: explain(method) for method in (*SIX, *MORE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="resnet50", help="a ResNet of torchvision")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    plain, runs = contenders(arguments.architecture, arguments.size)
    with Others() as others:
        stick, timings = alternate(plain, runs, arguments.rounds)
    found = {label: timing.record() for label, timing in {"forward and backward": stick, **timings}.items()}
    rows = [[label, with_spread(entry["ms"]), with_spread(entry["ratio"], 2)] for label, entry in found.items()]
    record = {
        "machine": {**machine(), "others": others.share},
        "architecture": arguments.architecture,
        "size": arguments.size,
        "layers": LAYERS,
        "targets": TARGETS,
        "six": SIX,
        "runs": found,
    }
    markdown = "\n".join(
        [
            "# What maps of gradient × activation cost",
            "",
            f"{len(LAYERS)} stages of {arguments.architecture}, {TARGETS} classes, {arguments.size} pixels, one call "
            f"to `explain`; the {len(SIX)} methods are {', '.join(SIX)}.",
            "",
            table(["explained by", "ms (quartiles)", "x forward and backward (quartiles)"], rows),
            "",
            f"Machine: {describe(record['machine'])}.",
        ]
    )
    print(markdown)
    save("methods", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
