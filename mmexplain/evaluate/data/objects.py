"""Photos with marked objects, of whichever of the known layouts a path has."""

from __future__ import annotations

from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.data.coco import LINES, instances, read_instances, read_lines
from mmexplain.evaluate.data.imagenet import read_imagenet
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.data.voc import is_voc, read_voc


def read(path: Path) -> list[Scene]:
    """The photos in a fixed order.

    Args:
        path: a VOC folder or one of its files of splits; a folder of COCO or one of its ``instances_*.json``; a folder
            with ``annotations.jsonl``, or that file; a folder of photos in folders of classes with XML boxes.

    Raises:
        InputError: there is no such path, it is of no known layout, or it is damaged.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {str(path)!r}")
    if is_voc(path):
        return read_voc(path)
    lines = path / LINES if path.is_dir() else path
    if lines.suffix == ".jsonl" and lines.is_file():
        return read_lines(lines)
    files = instances(path)
    if len(files) > 1:
        raise InputError(f"{str(path)!r} holds {len(files)} files of instances; name one, as {str(files[0])!r}")
    if files:
        return read_instances(files[0], _beside(files[0]))
    if path.is_dir():
        return read_imagenet(path)
    raise InputError(
        f"{str(path)!r} is no data with boxes: give a folder, VOC's ImageSets/Main/*.txt or COCO's instances_*.json"
    )


def marks_objects(path: Path) -> bool:
    """Whether a path is of a layout that :func:`read` takes for more than its folders' names."""
    return of_known_layout(path) or next(path.rglob("*.xml"), None) is not None


def of_known_layout(path: Path) -> bool:
    """Whether a path is VOC's, COCO's or of a file of annotations; any file is taken for one."""
    return not path.is_dir() or is_voc(path) or (path / LINES).is_file() or bool(instances(path))


def _beside(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "annotations" else file.parent
