"""COCO's layout: one JSON file of instances beside folders of photos; and the same as JSON Lines, a photo a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.evaluate.data.scene import Runs, Scene, Thing

LINES = "annotations.jsonl"


def instances(path: Path) -> list[Path]:
    """Files of instances that ``path`` is or has: ``instances_*.json`` in it or in its folder ``annotations``."""
    if path.suffix == ".json" and path.is_file():
        return [path]
    return sorted([*path.glob("instances*.json"), *path.glob("annotations/instances*.json")])


def read_instances(path: Path, folder: Path) -> list[Scene]:
    """The photos of one file of instances, in its order.

    Args:
        path: of the JSON file.
        folder: where photos are looked for, in folders named as the file (``val2017`` for ``instances_val2017.json``),
            in ``images`` and in itself.

    Raises:
        InputError: the file is no such JSON, or a photo is missing.
    """
    try:
        record = json.loads(path.read_bytes())
        classes = {entry["id"]: str(entry["name"]) for entry in record["categories"]}
        things: dict[Any, list[Thing]] = {}
        for entry in record["annotations"]:
            name = classes[entry["category_id"]]
            marks = entry.get("segmentation") or {}
            crowd = bool(entry.get("iscrowd"))
            things.setdefault(entry["image_id"], []).append(_thing(name, entry["bbox"], marks, crowd, str(path)))
        split = path.stem.removeprefix("instances_")
        places = [folder / split, folder / "images" / split, folder / "images", folder]
        return [
            Scene(
                str(entry["file_name"]),
                _photo(places, str(entry["file_name"])),
                (int(entry["height"]), int(entry["width"])),
                tuple(things.get(entry["id"], ())),
            )
            for entry in record["images"]
        ]
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def read_lines(path: Path) -> list[Scene]:
    """The photos of an ``annotations.jsonl``: on each line ``file, w, h, objects[{cat, bbox, polys | rle, crowd}]``,
    the photo in the folder ``images`` beside it. A mask ``rle`` may be of another size than the photo.

    Raises:
        InputError: the file is no such one, or a photo is missing.
    """
    return list(_read_lines(path))


def _read_lines(path: Path) -> Iterator[Scene]:
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            things = tuple(
                _thing(
                    str(found["cat"]),
                    found["bbox"],
                    found.get("polys") or found.get("rle") or {},
                    bool(found.get("crowd")),
                    str(path),
                )
                for found in entry["objects"]
            )
            file = str(entry["file"])
            photo = _photo([path.parent / "images", path.parent], file)
            yield Scene(file, photo, (int(entry["h"]), int(entry["w"])), things)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def _thing(name: str, bbox: Any, marks: Any, crowd: bool, path: str) -> Thing:
    x, y, width, height = (float(value) for value in bbox)
    if not all(map(math.isfinite, (x, y, width, height))):
        raise ValueError(f"a box {list(bbox)} that is nowhere")
    box = (x, y, x + width, y + height)
    if isinstance(marks, Mapping):
        return Thing(name, box, runs=_runs(marks, path) if marks else None, crowd=crowd)
    polygons = tuple(tuple(float(value) for value in polygon) for polygon in marks if len(polygon) >= 6)
    return Thing(name, box, polygons, crowd=crowd)


def _runs(record: Mapping[str, Any], path: str) -> Runs:
    if isinstance(record["counts"], str):
        raise InputError(f"{path!r} holds compressed masks; write their counts as lists, as COCO's own files do")
    height, width = (int(value) for value in record["size"])
    counts = tuple(int(value) for value in record["counts"])
    if sum(counts) != height * width or min(counts) < 0:
        raise ValueError(f"a mask of {sum(counts)} pixels for {height} × {width}")
    return Runs((height, width), counts)


def _photo(places: list[Path], name: str) -> Path:
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        raise InputError(f"the photo {name!r} is in none of {', '.join(repr(str(place)) for place in places)}")
    return found


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{str(path)!r} does not hold objects in COCO's layout ({type(error).__name__}: {error})")
