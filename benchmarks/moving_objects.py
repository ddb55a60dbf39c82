"""Does a space-time map follow what moves? Real things, cut out, move over real photos; the truth is exact.

A small 3-D CNN learns from the clips which way the thing moves: left, right, up or down. The right direction is then
explained for clips of things and scenes that the network never saw. In each frame the map's maximum should lie on the
moving thing (its own pixels, or within some pixels of them), not on a second thing that stands still.

    python benchmarks/moving_objects.py --data $MMEXPLAIN_DATA/coco_mini
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, Others, describe, machine, save, table
from moving_clips import DIRECTIONS, Clip, Material, load_material, make_clip
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional

from mmexplain.explanation import Explanation
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action.task import Action

LAYER = "relu3"
METHODS = ("gradcam", "gradcam++")


class MotionNet(nn.Module):
    """The clip less its mean over time, three 3-D convolutions, averaged over space and time, and a linear layer.

    Time keeps its length up to the tapped layer, so that every frame has a map of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 12, (1, 5, 5), (1, 2, 2), (0, 2, 2), bias=False)
        self.norm1, self.relu1 = nn.BatchNorm3d(12), nn.ReLU()
        self.conv2 = nn.Conv3d(12, 24, 3, (1, 2, 2), 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm3d(24), nn.ReLU()
        self.conv3 = nn.Conv3d(24, 32, 3, 1, 1, bias=False)
        self.norm3, self.relu3 = nn.BatchNorm3d(32), nn.ReLU()
        self.choose = nn.Linear(32, len(DIRECTIONS))

    def forward(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, S, S]`` → logits ``[B, 4]``."""
        moving = clips - clips.mean(2, keepdim=True)  # what stands still is gone, which makes learning quick
        x = self.relu1(self.norm1(self.conv1(moving)))
        x = self.relu2(self.norm2(self.conv2(x)))
        x = self.relu3(self.norm3(self.conv3(x)))
        logits: Tensor = self.choose(x.mean((2, 3, 4)))
        return logits


def as_input(clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
    """Clips as the network takes them, ``[B, 3, T, S, S]`` in -1 .. 1, and the numbers of their directions."""
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips])).permute(0, 4, 1, 2, 3)
    return frames / 127.5 - 1, torch.tensor([DIRECTIONS.index(clip.direction) for clip in clips])


def train(material: Material, clips: int, epochs: int, frames: int, side: int, seed: int) -> MotionNet:
    """The network after ``epochs`` passes over ``clips`` clips, each mirrored anew every time."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    inputs, wanted = as_input([make_clip(material, random, frames, side) for _ in range(clips)])
    model = MotionNet()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    batch = 32
    steps = epochs * (clips // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(clips)[: clips // batch * batch].split(batch):
            x, y = mirrored(inputs[rows], wanted[rows])
            loss = functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def mirrored(clips: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Some clips left to right, some upside down, some backwards in time; their directions turn with them."""
    opposite = torch.tensor([1, 0, 3, 2])
    clips, wanted = clips.clone(), wanted.clone()
    for axis, turned in ((4, (0, 1)), (3, (2, 3)), (2, (0, 1, 2, 3))):
        chosen = torch.rand(len(clips)) < 0.5
        clips[chosen] = clips[chosen].flip(axis)
        turns = chosen & torch.isin(wanted, torch.tensor(turned))
        wanted[turns] = opposite[wanted[turns]]
    return clips, wanted


def evaluate(model: MotionNet, clips: Sequence[Clip], tolerance: int) -> dict[str, Any]:
    """Accuracy of the network, and how often the maps' maxima lie on the moving thing, frame by frame."""
    side = clips[0].frames.shape[1]
    plain = Preprocess(resize=(side, side), mean=(0.5,) * 3, std=(0.5,) * 3)
    task = Action(model, plain, list(DIRECTIONS), frames=len(clips[0].frames), stride=1, layer=LAYER)
    hits: dict[str, list[float]] = {}
    right = []
    for clip in clips:
        found: Explanation = task.explain(clip.frames, list(DIRECTIONS), methods=METHODS)
        right.append(found.scores.argmax().item() == DIRECTIONS.index(clip.direction))
        near = np.stack([distance_transform_edt(~mask) <= tolerance for mask in clip.moving])
        near_still = distance_transform_edt(~clip.still) <= tolerance if clip.still.any() else clip.still
        centre = np.full((len(near), 2), side // 2)
        opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}[clip.direction]
        for method in METHODS:
            places = peaks(found, clip.direction, method)
            record(hits, f"{method}: the moving thing", [near[t, y, x] for t, (x, y) in enumerate(places)])
            record(hits, f"{method}: the thing that stands still", [near_still[y, x] for x, y in places])
            record(hits, f"{method}: with the map of the same clip backwards in time", _reversed(near, places))
            other = peaks(found, opposite, method)
            record(hits, f"{method}: with the map of the opposite direction", _at(near, other))
        record(hits, "the centre", _at(near, [tuple(place) for place in centre]))
        record(hits, "a random place", list(near.mean((1, 2))))
    return {
        "clips": len(clips),
        "frames": sum(len(clip.frames) for clip in clips),
        "tolerance": tolerance,
        "accuracy": float(np.mean(right)),
        "hits": {name: float(np.mean(values)) for name, values in hits.items()},
    }


def peaks(found: Explanation, direction: str, method: str) -> list[tuple[int, int]]:
    """(x, y) of the map's maximum in every frame of the file."""
    maps = found.heatmap(direction, method=method)
    width = maps.shape[2]
    return [(int(best) % width, int(best) // width) for best in maps.flatten(1).argmax(1)]


def record(hits: dict[str, list[float]], name: str, values: Sequence[Any]) -> None:
    hits.setdefault(name, []).extend(float(value) for value in values)


def _at(near: Any, places: Sequence[Any]) -> list[Any]:
    return [near[t, y, x] for t, (x, y) in enumerate(places)]


def _reversed(near: Any, places: Sequence[tuple[int, int]]) -> list[Any]:
    return _at(near, places[::-1])


def report(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    result = found["test"]
    rows = [[name, f"{100 * rate:.1f} %"] for name, rate in result["hits"].items()]
    settings = found["settings"]
    return "\n".join(
        [
            "# Maps over space and time against things that move",
            "",
            f"{result['clips']} test clips of {settings['frames_of_a_clip']} frames at {settings['side']} × "
            f"{settings['side']} pixels; the network tells {100 * result['accuracy']:.1f} % of their directions. A hit "
            f"is a maximum within {result['tolerance']} pixels of the thing's own, in one frame.",
            "",
            table(["map's maximum lies on", "frames"], rows),
            "",
            f"Machine: {describe(found['machine'])}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder coco_mini")
    parser.add_argument("--clips", type=int, default=1000, help="to train on")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--test-clips", type=int, default=200)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--tolerance", type=int, default=3, help="pixels; 15 of a photo of 320")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    material = load_material(arguments.data)
    started = time.perf_counter()
    with Others() as others:
        model = train(
            material["train"], arguments.clips, arguments.epochs, arguments.frames, arguments.side, arguments.seed
        )
        seconds = time.perf_counter() - started
        random = np.random.default_rng(arguments.seed + 1)
        clips = [
            make_clip(material["test"], random, arguments.frames, arguments.side) for _ in range(arguments.test_clips)
        ]
        result = evaluate(model, clips, arguments.tolerance)
    found = {
        "machine": {**machine(), "others": others.share},
        "settings": {
            "clips": arguments.clips,
            "epochs": arguments.epochs,
            "frames_of_a_clip": arguments.frames,
            "side": arguments.side,
            "seed": arguments.seed,
            "training_seconds": round(seconds),
        },
        "test": result,
    }
    markdown = report(found)
    print(markdown)
    save("moving_objects", found, markdown, arguments.out)


if __name__ == "__main__":
    main()
