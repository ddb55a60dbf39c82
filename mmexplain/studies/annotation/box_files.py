"""Boxes as files that labelling tools and trainers of detectors read.

COCO::

    instances.json                    images, annotations (with score and contrast), categories

YOLO::

    labels/NAME.txt                   class x y w h (middle and extent as shares of the photo), a box a line
    classes.txt, data.yaml            names of the classes, from 0 on

Both: ``images/NAME.jpg``, the photos, upright, if they are asked for. Pixels are those of the upright file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mmexplain.errors import InputError
from mmexplain.render.whole import whole
from mmexplain.studies.annotation.boxes import Annotated
from mmexplain.studies.annotation.photo_files import copy_upright, flat_names

INSTANCES = "instances.json"


def classes(photos: Sequence[Annotated]) -> list[str]:
    """Names of the classes that have boxes, in alphabetical order."""
    return sorted({box.name for photo in photos for box in photo.boxes})


def file_names(photos: Sequence[Annotated], copied: bool) -> list[str]:
    """How photos are called beside the boxes: their path in the data, or that of their copy.

    Raises:
        InputError: two photos cannot be told apart.
    """
    if copied:
        return [f"{name}.jpg" for name in flat_names([one.photo for one in photos])]
    keys = [PurePosixPath(one.photo.key) for one in photos]
    return [
        str(key if key.name == one.photo.path.name else key.with_name(one.photo.path.name))
        for key, one in zip(keys, photos, strict=True)
    ]


def copy_photos(folder: Path, photos: Sequence[Annotated]) -> Path:
    """Copies of all photos in ``images``, which is returned.

    Raises:
        InputError: the system refused.
    """
    for name, one in zip(file_names(photos, True), photos, strict=True):
        copy_upright(one.photo.path, folder / "images" / name)
    return folder / "images"


def write_coco(folder: Path, photos: Sequence[Annotated], names: Sequence[str], about: str) -> Path:
    """Write COCO's JSON of instances.

    Args:
        folder: to write to.
        photos: with their boxes.
        names: of their files, see :func:`file_names`.
        about: how the boxes were made.

    Raises:
        InputError: the system refused.
    """
    numbers = {name: number for number, name in enumerate(classes(photos), start=1)}
    annotations = [
        {
            "image_id": number,
            "category_id": numbers[found.name],
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
            "iscrowd": 0,
            "score": found.score,
            "contrast": round(found.contrast, 4),
        }
        for number, photo in enumerate(photos, start=1)
        for found in photo.boxes
        for left, top, right, bottom in [found.box]
    ]
    record = {
        "info": {"description": about},
        "images": [
            {"id": number, "file_name": name, "height": photo.size[0], "width": photo.size[1]}
            for number, (name, photo) in enumerate(zip(names, photos, strict=True), start=1)
        ],
        "annotations": [{"id": number, **one} for number, one in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
    }
    with whole(folder / INSTANCES) as partial:
        partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return folder / INSTANCES


def write_yolo(folder: Path, photos: Sequence[Annotated], names: Sequence[str], confidence: bool) -> list[Path]:
    """Write YOLO's labels: a text file for each photo, empty for one without boxes, and the lists of classes.

    Args:
        folder: to write to.
        photos: with their boxes.
        names: of their files, see :func:`file_names`; labels lie as the photos do, in ``labels`` for ``images``.
        confidence: add the score as a sixth number, as predictions have it; trainers want five.

    Raises:
        InputError: two photos differ by their suffix only, the model has no scores, or the system refused.
    """
    numbers = {name: number for number, name in enumerate(classes(photos))}
    written: dict[Path, str] = {}
    for name, photo in zip(names, photos, strict=True):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{name!r} lies outside of the data, and its labels would outside of --out: use --photos")
        path = (folder / "labels" / name).with_suffix(".txt")
        if path in written:
            raise InputError(f"{written[path]!r} and {name!r} would share one file of labels: rename one")
        written[path] = name
        height, width = photo.size
        lines = []
        for found in photo.boxes:
            left, top, right, bottom = found.box
            shares = [(left + right) / 2 / width, (top + bottom) / 2 / height]
            shares += [(right - left) / width, (bottom - top) / height]
            if confidence:
                if found.score is None:
                    raise InputError("the model has no probabilities that could be written beside boxes")
                shares.append(found.score)
            lines.append(" ".join([str(numbers[found.name]), *(f"{share:.8f}" for share in shares)]) + "\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            partial.write_text("".join(lines), encoding="utf-8")
    listed = "".join(f"{name}\n" for name in numbers)
    # a name in JSON's quotes is one in YAML's
    yaml = "path: .\ntrain: images\nval: images  # the same photos: name others\nnames:\n" + "".join(
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for name, number in numbers.items()
    )
    for file, text in (("classes.txt", listed), ("data.yaml", yaml)):
        with whole(folder / file) as partial:
            partial.write_text(text, encoding="utf-8")
    return [folder / "labels", folder / "classes.txt", folder / "data.yaml"]
