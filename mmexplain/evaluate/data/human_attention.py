"""Reader of photos with human attention maps of several kinds: eye tracking, mouse, clicks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmexplain.errors import InputError

ANNOTATIONS = "annotations.jsonl"


@dataclass(frozen=True)
class Attended:
    """A photo and where people looked on it.

    Attributes:
        key: names it among the others.
        photo: its file.
        maps: kind (how it was recorded, or by whom) → file of the map, which covers the whole photo.
        points: kind → fixations or clicks ``[[x, y], …]`` of all viewers, in pixels of the photo, where they were kept.
        question: what people were asked to answer; None for free viewing.
    """

    key: str
    photo: Path
    maps: dict[str, Path]
    points: dict[str, list[list[float]]] = field(default_factory=dict)
    question: str | None = None


def read_human_attention(folder: Path) -> Sequence[Attended]:
    """The layout of ``human_attention``: ``annotations.jsonl`` with ``file``, ``maps {kind: png}`` and, where they were
    kept, ``points {kind: [[[x, y], …] of each viewer]}``; photos in ``images/``, maps in ``maps/``.

    Raises:
        InputError: the annotations or a file that they name are missing or damaged.
    """
    found = []
    for number, record in enumerate(_records(folder / ANNOTATIONS), 1):
        try:
            points = {
                kind: [[float(x), float(y)] for viewer in viewers for x, y in viewer]
                for kind, viewers in record.get("points", {}).items()
            }
            maps = {kind: _existing(folder / "maps" / name) for kind, name in record["maps"].items()}
            photo = _existing(folder / "images" / record["file"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                f"line {number} of {str(folder / ANNOTATIONS)!r} is no photo with maps: "
                "'file' in images/ and 'maps' {kind: file in maps/}"
            ) from None
        found.append(Attended(photo.stem, photo, maps, {kind: held for kind, held in points.items() if held}))
    return found


def read_map(path: Path) -> Tensor:
    """A human map as float64 ``[H, W]``, from an 8-bit or 16-bit picture; colours are averaged.

    Raises:
        InputError: the file is no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = image.convert("L") if image.mode in ("P", "1", "LA", "RGB", "RGBA") else image
            return torch.from_numpy(np.array(pixels, dtype=np.float64))
    except OSError as error:
        raise InputError(f"cannot read the map {str(path)!r}: {error}") from None


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError(
            f"{str(path.parent)!r} holds no {path.name}: photos with human maps are an {path.name} with 'file' and "
            "'maps' on each line, beside images/ and maps/; or VQA-HAT's maps, questions (*questions*.json) and photos"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}") from None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"the annotations name {str(path)!r}, which is not there")
    return path
