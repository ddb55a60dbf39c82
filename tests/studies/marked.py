"""Made-up photos with drawn outlines, for studies of masks and boxes: blocks of colour, and a model that sees them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.evaluate.objects import photo

SIZE = 32
"""Of the photos, and of what :func:`tests.evaluate.objects.colours` looks at: its maps are the photo's own channels."""

Block = tuple[int, int, int, int]


def outline(block: Block) -> list[float]:
    left, top, right, bottom = block
    return [left, top, right, top, right, bottom, left, bottom]


def marked(folder: Path, photos: dict[str, list[tuple[str, Block]]], size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    """``annotations.jsonl`` with outlines, and the photos; blocks are ``(left, top, right, bottom)``."""
    text = ""
    for name, blocks in photos.items():
        photo(folder / "images" / name, *blocks, size=size)
        objects = [
            {
                "cat": colour,
                "bbox": [block[0], block[1], block[2] - block[0], block[3] - block[1]],
                "polys": [outline(block)],
                "crowd": 0,
            }
            for colour, block in blocks
        ]
        text += json.dumps({"file": name, "w": size[0], "h": size[1], "objects": objects}) + "\n"
    (folder / "annotations.jsonl").write_text(text, encoding="utf-8")
    return folder


def scattered(folder: Path, count: int = 12) -> Path:
    """Photos with one red and one green block each, somewhere in the left and in the right half."""
    random = np.random.default_rng(0)
    photos: dict[str, list[tuple[str, Block]]] = {}
    for number in range(count):
        blocks = []
        for colour, start in (("red", 0), ("green", SIZE // 2)):
            width, height = (int(value) for value in random.integers(4, 13, 2))
            left = start + int(random.integers(0, SIZE // 2 - width + 1))
            top = int(random.integers(0, SIZE - height + 1))
            blocks.append((colour, (left, top, left + width, top + height)))
        photos[f"{number:02}.png"] = blocks
    return marked(folder, photos)
