"""Photos, and which of a model's classes are known to be in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.evaluate.data.classes import match
from mmexplain.evaluate.data.folder import files
from mmexplain.evaluate.data.objects import marks_objects, read
from mmexplain.evaluate.data.scene import Scene


@dataclass(frozen=True)
class KnownPhoto:
    """A photo and the classes that are in it.

    Attributes:
        key: names it among the others.
        path: of the file.
        scene: the objects that people marked; None where nobody did.
        classes: name of a class in the data → numbers of the model's labels that mean it.
    """

    key: str
    path: Path
    scene: Scene | None = None
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def known_photos(task: Any, data: Path) -> tuple[list[KnownPhoto], list[str]]:
    """The photos of a folder in a fixed order, and what a reader must know of them.

    Of photos with marked objects those are left out that hold no class of the model, or only objects that are marked
    as hardly to be recognised.

    Args:
        task: a classifier with class names.
        data: a folder of photos, or what :func:`mmexplain.evaluate.data.objects.read` takes.

    Raises:
        InputError: the data cannot be read, or the model has none of its classes.
    """
    if not marks_objects(data):
        note = "No objects are marked in these photos: the true class of each is the likeliest one before the attack."
        return [KnownPhoto(item.key, item.content) for item in files(data)], [note]
    scenes = read(data)
    names = list(dict.fromkeys(name for scene in scenes for name in scene.names))
    labels = match(names, task.labels)
    if not labels:
        raise InputError(f"model {task.model_id!r} has none of the {len(names)} classes of {str(data)!r}")
    photos = [KnownPhoto(scene.key, scene.path, scene, _present(scene, labels)) for scene in scenes]
    known = [photo for photo in photos if photo.classes]
    notes = ["A class that several of the model's labels mean is explained by the likeliest of them in each photo."]
    if len(known) < len(photos):
        notes.append(f"Left out: {len(photos) - len(known):,} of {len(photos):,} photos, without a class of the model.")
    return known, notes


def without(photos: Sequence[KnownPhoto], label: int) -> list[KnownPhoto]:
    """The photos that are not known to hold what a label means."""
    return [photo for photo in photos if not any(label in numbers for numbers in photo.classes.values())]


def _present(scene: Scene, labels: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {
        name: labels[name]
        for name in scene.names
        if name in labels and not all(thing.difficult or not thing.area for thing in scene.of(name))
    }
