"""Photos whose classes are known, whether or not objects are marked in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.data.folder import files
from mmexplain.evaluate.data.imagenet import read_imagenet
from mmexplain.evaluate.data.objects import of_known_layout, read
from mmexplain.evaluate.data.scene import Scene


@dataclass(frozen=True)
class Labelled:
    """One photo.

    Attributes:
        key: names it among the others of its data.
        path: of the file.
        names: its classes, as the data has them; none where nothing is known.
        scene: the objects that were marked in it; None where none were.
    """

    key: str
    path: Path
    names: tuple[str, ...]
    scene: Scene | None = None


def read_labelled(path: Path) -> list[Labelled]:
    """The photos in a fixed order.

    Args:
        path: whatever :func:`mmexplain.evaluate.data.objects.read` takes, a photo being of the classes that are marked
            in it; or a folder of folders, each called as the class of the photos in it.

    Raises:
        InputError: there is no such path, it is of no known layout, it is damaged, or no photo has a class.
    """
    if of_known_layout(path):
        found = [Labelled(scene.key, scene.path, tuple(scene.names), scene) for scene in read(path)]
    else:
        found = _folders(path)
    if not any(photo.names for photo in found):
        raise InputError(
            f"no photo in {str(path)!r} has a label: put them in folders called as their classes, or give data of "
            "VOC's, COCO's or ImageNet's layout"
        )
    return found


def _folders(path: Path) -> list[Labelled]:
    """Photos in folders of classes. Where XML files mark objects, these tell the classes of their photos."""
    scenes = {scene.path: scene for scene in read_imagenet(path)} if any(path.rglob("*.xml")) else {}
    found = []
    for item in files(path):
        scene = scenes.get(item.content)
        folder = item.key.partition("/")[0] if "/" in item.key else None
        names = tuple(scene.names) if scene else (folder,) if folder else ()
        found.append(Labelled(item.key, item.content, names, scene))
    return found
