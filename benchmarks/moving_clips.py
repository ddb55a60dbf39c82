"""Clips whose truth is exact: a real thing, cut out of a photo, moves over another real photo in a known direction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DIRECTIONS = ("left", "right", "up", "down")
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
LEAST_SIDE = 40
"""Things that are smaller in their photo, in pixels, are no use cut out."""


@dataclass(frozen=True)
class Clip:
    """One clip and where its moving thing is.

    Attributes:
        frames: ``[T, S, S, 3]`` uint8.
        direction: the way it moves.
        moving: ``[T, S, S]`` bool, the pixels of the moving thing in each frame.
        still: ``[S, S]`` bool, the pixels of another thing that stands still all the time.
    """

    frames: NDArray[np.uint8]
    direction: str
    moving: NDArray[np.bool_]
    still: NDArray[np.bool_]


@dataclass(frozen=True)
class Material:
    """What clips are made of: things cut out (RGBA) and photos to move them over."""

    things: Sequence[Image.Image]
    scenes: Sequence[Image.Image]


def load_material(data: Path) -> dict[str, Material]:
    """Things and scenes of ``coco_mini``, of disjoint photos for "train" and "test" (a quarter).

    Args:
        data: the folder with annotations.jsonl and images/.
    """
    records = [json.loads(line) for line in (data / "annotations.jsonl").read_text(encoding="utf-8").splitlines()]
    parts: dict[str, Material] = {}
    for name, chosen in (("train", lambda i: i % 4 != 3), ("test", lambda i: i % 4 == 3)):
        own = [record for i, record in enumerate(records) if chosen(i)]
        scenes = [Image.open(data / "images" / record["file"]).convert("RGB") for record in own]
        things = [
            thing
            for record, scene in zip(own, scenes, strict=True)
            for item in record["objects"]
            if (thing := _cut_out(scene, item)) is not None
        ]
        parts[name] = Material(things, scenes)
    return parts


def _cut_out(photo: Image.Image, item: dict[str, Any]) -> Image.Image | None:
    """A thing on transparent ground; None if it is too small, a crowd, or fills the photo."""
    x, y, width, height = item["bbox"]
    if item.get("crowd") or "polys" not in item or min(width, height) < LEAST_SIDE or width * height > 60_000:
        return None
    mask = Image.new("L", photo.size)
    for outline in item["polys"]:
        ImageDraw.Draw(mask).polygon([*map(float, outline)], fill=255)
    cut = photo.copy()
    cut.putalpha(mask)
    return cut.crop((int(x), int(y), int(x + width) + 1, int(y + height) + 1))


def make_clip(material: Material, random: np.random.Generator, frames: int, side: int) -> Clip:
    """One random clip: a thing of a fifth to a third of the side moves two thirds of the side, or less, at an even
    speed, on a random line; a second thing stands still somewhere; both vary in size. Noise hides the seams."""
    direction = DIRECTIONS[random.integers(4)]
    scene = _square(material.scenes[random.integers(len(material.scenes))], side, random)
    still, moving = (_sized(material.things[random.integers(len(material.things))], side, random) for _ in range(2))
    scene, still_mask = _paste(scene, still, *_anywhere(still, side, random))
    dx, dy = STEPS[direction]
    path = random.uniform(0.35, 0.65) * side
    x, y = _anywhere(moving, side, random, (dx * path, dy * path))
    images, masks = [], []
    for step in np.linspace(0, path, frames):
        image, mask = _paste(scene, moving, x + dx * step, y + dy * step)
        images.append(np.asarray(image, dtype=np.float32))
        masks.append(mask)
    noisy = np.stack(images) + random.normal(0, 4, (frames, side, side, 3))
    # The still thing is seen where the moving one does not cover it throughout.
    return Clip(noisy.clip(0, 255).astype(np.uint8), direction, np.stack(masks), still_mask & ~np.stack(masks).all(0))


def _square(photo: Image.Image, side: int, random: np.random.Generator) -> Image.Image:
    short = min(photo.size)
    left, top = (int(random.integers(extent - short + 1)) for extent in photo.size)
    square = photo.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BILINEAR)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else square


def _sized(thing: Image.Image, side: int, random: np.random.Generator) -> Image.Image:
    scale = random.uniform(0.2, 0.33) * side / max(thing.size)
    width, height = (max(4, round(extent * scale)) for extent in thing.size)
    return thing.resize((width, height), Image.Resampling.BILINEAR)


def _anywhere(
    thing: Image.Image, side: int, random: np.random.Generator, travel: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float]:
    """A place for its upper left corner from which it stays inside the frame as it travels."""
    place = []
    for extent, way in zip(thing.size, travel, strict=True):
        low, high = max(0.0, -way), side - extent - max(0.0, way)
        place.append(random.uniform(min(low, high), max(low, high)))
    return place[0], place[1]


def _paste(scene: Image.Image, thing: Image.Image, x: float, y: float) -> tuple[Image.Image, NDArray[np.bool_]]:
    """The scene with the thing at whole pixels next to (x, y), and the thing's pixels."""
    image, layer = scene.copy(), Image.new("L", scene.size)
    place = (round(x), round(y))
    image.paste(thing, place, thing)
    layer.paste(thing.getchannel("A"), place)
    return image, np.asarray(layer) > 127
