"""What further targets cost: one answer to a question against sixteen, one action in a clip against sixteen.

python benchmarks/targets.py
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
from torchvision.models import video

from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action import Action
from mmexplain.tasks.registry import DEFAULTS, load

FEW, MANY = 1, 16


def answers(model: str, question: str) -> dict[str, Callable[[], Any]]:
    """One answer and sixteen, of a photo of noise: what a forward pass costs does not depend on what is seen."""
    task: Any = load(model, task="vqa", device="cpu")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8))
    names = list(task.labels)[:MANY]

    def explain(count: int, text: str | tuple[str, ...] = ()) -> Any:
        return task.explain(photo, question, names[:count], top=0, text=text)

    return {
        f"{FEW} answer": lambda: explain(FEW),
        f"{len(names)} answers": lambda: explain(MANY),
        f"{FEW} answer and the words": lambda: explain(FEW, "all"),
        f"{len(names)} answers and the words": lambda: explain(MANY, "all"),
    }


def actions(name: str, frames: int, side: int) -> dict[str, Callable[[], Any]]:
    """One action and sixteen, of a clip of noise and a torchvision model with random weights."""
    model = getattr(video, name)(num_classes=400).eval()
    task = Action(model, Preprocess(resize=(side, side), mean=(0.5,) * 3, std=(0.5,) * 3), frames=frames)
    clip = np.random.default_rng(0).integers(0, 255, (frames, side, side, 3), dtype=np.uint8)
    return {
        f"{FEW} action": lambda: task.explain(clip, range(FEW)),
        f"{MANY} actions": lambda: task.explain(clip, range(MANY)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vqa", nargs="*", default=[DEFAULTS["vqa"]], help="bundled models, or files of weights")
    parser.add_argument("--question", default="what is the colour of the shirt")
    parser.add_argument("--video", nargs="*", default=["r3d_18"], help="names of torchvision")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows: list[list[str]] = []
    found: dict[str, dict[str, Any]] = {}
    with Others() as others:
        cases = {name: answers(name, arguments.question) for name in arguments.vqa}
        cases |= {name: actions(name, arguments.frames, arguments.side) for name in arguments.video}
        for model, runs in cases.items():
            (one, yardstick), *others_of_model = runs.items()
            stick, timings = alternate(yardstick, dict(others_of_model), arguments.rounds)
            name = Path(model).name
            found[name] = {label: timing.record() for label, timing in {one: stick, **timings}.items()}
            rows += [
                [name, label, with_spread(entry["ms"]), with_spread(entry["ratio"], 2)]
                for label, entry in found[name].items()
            ]
    record = {"machine": {**machine(), "others": others.share}, "models": found}
    markdown = "\n".join(
        [
            "# What further targets cost",
            "",
            table(["model", "explained", "ms (quartiles)", "x one (quartiles)"], rows),
            "",
            f"Machine: {describe(record['machine'])}.",
        ]
    )
    print(markdown)
    save("targets", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
