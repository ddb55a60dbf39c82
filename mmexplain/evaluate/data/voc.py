"""PASCAL VOC's layout: ``Annotations/*.xml``, ``JPEGImages/*``, ``ImageSets/Main/<split>.txt``."""

from __future__ import annotations

from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.data.voc_xml import parse

_FIRST_PIXEL = 1


def is_voc(path: Path) -> bool:
    """Whether a folder has VOC's layout, or a file is one of its splits."""
    return ((path / "Annotations").is_dir() and (path / "JPEGImages").is_dir()) or _is_split(path)


def read_voc(path: Path) -> list[Scene]:
    """The photos of VOC data.

    Args:
        path: the folder (``VOC2007``) for all photos that have annotations; or one of its files of splits
            (``VOC2007/ImageSets/Main/test.txt``) for the photos that are named there, in that order.

    Raises:
        InputError: a file is missing or damaged.
    """
    folder = path.parents[2] if _is_split(path) else path
    if _is_split(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        names = [line.split()[0] for line in lines if line.strip()]
    else:
        names = sorted(found.stem for found in (path / "Annotations").glob("*.xml"))
    return [_scene(folder, name) for name in names]


def _is_split(path: Path) -> bool:
    return path.suffix == ".txt" and path.is_file() and path.parent.parent.name == "ImageSets"


def _scene(folder: Path, name: str) -> Scene:
    if Path(name).name != name:
        raise InputError(f"{name!r} in {str(folder / 'ImageSets')!r} is no name of a photo")
    found = parse(folder / "Annotations" / f"{name}.xml", _FIRST_PIXEL)
    candidates = [folder / "JPEGImages" / f"{name}{suffix}" for suffix in (".jpg", ".jpeg", ".JPEG", ".png")]
    photo = next((candidate for candidate in candidates if candidate.is_file()), None)
    if photo is None:
        raise InputError(f"the photo {str(candidates[0])!r}, which has annotations, is missing")
    return Scene(name, photo, found.size, found.things)
