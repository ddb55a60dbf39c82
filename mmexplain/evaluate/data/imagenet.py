"""ImageNet's layout: photos in folders of classes, and boxes in VOC's XML."""

from __future__ import annotations

from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.data.voc_xml import parse

_FIRST_PIXEL = 0
_PHOTOS = (".jpeg", ".jpg", ".png")


def read_imagenet(path: Path) -> list[Scene]:
    """The photos that have boxes, sorted by their paths.

    A photo's XML file has its name and lies anywhere under ``path``: beside it, in ``Annotations/n02123159/``, or in a
    folder for all of them, as ILSVRC's validation set has it. Photos without one (most of ILSVRC's training set) are
    left out. Pixels are counted from 0, as ILSVRC does. Classes are what the XML calls them: ``n02123159``.

    Raises:
        InputError: no photo has boxes, two XML files bear the same name, or one is damaged.
    """
    files = sorted(found for found in path.rglob("*") if found.is_file())
    boxes: dict[str, Path] = {}
    for file in files:
        if file.suffix.lower() == ".xml" and (other := boxes.setdefault(file.stem, file)) != file:
            raise InputError(
                f"{str(other)!r} and {str(file)!r} bear the same name: a photo's boxes must be in one file"
            )
    photos = [file for file in files if file.suffix.lower() in _PHOTOS and file.stem in boxes]
    if not photos:
        raise InputError(
            f"{str(path)!r} holds no photos with boxes: expected VOC, COCO, or photos and XML files of the same names"
        )
    found = [(file, parse(boxes[file.stem], _FIRST_PIXEL)) for file in photos]
    return [Scene(str(file.relative_to(path)), file, one.size, one.things) for file, one in found]
