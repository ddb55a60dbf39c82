"""Objects cut out of COCO photos by their boxes, in groups that are alike: material for a small classifier."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GROUPS = {
    "animal": ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"),
    "appliance": ("keyboard", "laptop", "microwave", "oven", "refrigerator", "sink", "toaster", "tv"),
    "food": ("apple", "banana", "broccoli", "cake", "carrot", "donut", "hot dog", "orange", "pizza", "sandwich"),
    "furniture": ("bed", "bench", "chair", "couch", "dining table", "potted plant"),
    "person": ("person",),
    "tableware": ("bottle", "bowl", "cup", "fork", "knife", "spoon", "wine glass"),
    "vehicle": ("airplane", "bicycle", "boat", "bus", "car", "motorcycle", "train", "truck"),
}
"""Group → categories of COCO, after its supercategories: single ones have too few objects in a few photos."""

LEAST_SIDE = 24
"""Objects that are smaller in their photo, in pixels, are left out."""


@dataclass(frozen=True)
class Crop:
    """One object.

    Attributes:
        photo: the file it was cut from.
        group: its name in :data:`GROUPS`.
        views: ``[n, S, S, 3]`` uint8, the first with the object in its middle.
    """

    photo: str
    group: str
    views: NDArray[np.uint8]


def load_crops(
    data: Path, groups: Sequence[str], side: int, views: int, most: tuple[int, int], seed: int = 0
) -> tuple[list[Crop], list[Crop]]:
    """Crops of ``coco_mini``, of disjoint photos: to train on, and held out (a quarter of the photos).

    Args:
        data: the folder with annotations.jsonl and images/.
        groups: of :data:`GROUPS`.
        side: of a view, pixels.
        views: of each object to train on; all but the first are shifted and scaled, every other one is mirrored. A
            held-out object has one.
        most: objects of a group to train on, and held out.
        seed: of the shifts.
    """
    kinds = {category: group for group in groups for category in GROUPS[group]}
    random = np.random.default_rng(seed)
    parts: tuple[list[Crop], list[Crop]] = ([], [])
    counts = (Counter[str](), Counter[str]())
    lines = (data / "annotations.jsonl").read_text(encoding="utf-8").splitlines()
    for number, record in enumerate(map(json.loads, lines)):
        held_out = number % 4 == 3
        for item in record["objects"]:
            group = kinds.get(item["cat"])
            if group is None or item.get("crowd") or min(item["bbox"][2:]) < LEAST_SIDE:
                continue
            if counts[held_out][group] == most[held_out]:
                continue
            counts[held_out][group] += 1
            photo = Image.open(data / "images" / record["file"]).convert("RGB")
            count = 1 if held_out else views
            taken = [_view(photo, item, side, random if view else None) for view in range(count)]
            cut = np.stack([view[:, ::-1] if odd % 2 else view for odd, view in enumerate(taken)])
            parts[held_out].append(Crop(record["file"], group, cut))
    return parts


def _view(photo: Image.Image, item: dict[str, Any], side: int, random: np.random.Generator | None) -> NDArray[np.uint8]:
    """A square around the object's box, a fifth larger than its longer side, moved to lie within the photo."""
    x, y, width, height = item["bbox"]
    scale, dx, dy = (1.2, 0.0, 0.0) if random is None else (random.uniform(1, 1.5), *random.uniform(-0.1, 0.1, 2))
    extent = min(scale * max(width, height), *photo.size)
    left = min(max(x + width / 2 + dx * extent - extent / 2, 0), photo.width - extent)
    top = min(max(y + height / 2 + dy * extent - extent / 2, 0), photo.height - extent)
    box = (left, top, left + extent, top + extent)
    return np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, box=box))
