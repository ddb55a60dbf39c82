"""Weak supervision: photos of which no more is known than the classes that are in them, and their maps.

What people marked in them, where the data has it, is for measuring only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.errors import InputError, MethodError
from mmexplain.evaluate.data.classes import match
from mmexplain.evaluate.data.folder import files
from mmexplain.evaluate.data.labelled import Labelled
from mmexplain.evaluate.data.objects import marks_objects
from mmexplain.evaluate.data.objects import read as read_objects
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.on_objects import columns
from mmexplain.evaluate.protocol import Progress
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import select

BATCH = 8


@dataclass(frozen=True)
class Seen:
    """A photo, and the maps of the labels that were asked for.

    Attributes:
        photo: the photo.
        explanation: a target for each label.
        targets: label number → number of its target.
    """

    photo: Labelled
    explanation: Explanation
    targets: Mapping[int, int]

    def heat(self, label: int, method: str) -> NDArray[np.float32]:
        """What speaks for a label, ``[H, W]`` in the upright pixels of the file; NaN where the model saw nothing."""
        positive = self.explanation.map(self.targets[label], None, method).detach().float().clamp(min=0)
        found: NDArray[np.float32] = self.explanation.geometry.to_original(positive).cpu().numpy()
        return found

    def probability(self, label: int) -> float | None:
        """How likely the model finds a label; None for a model without probabilities."""
        found = self.explanation.probabilities
        return None if found is None else float(found[self.targets[label]])

    @property
    def measurable(self) -> bool:
        """Whether people marked it, at the size that it has."""
        scene = self.photo.scene
        return scene is not None and scene.size == self.explanation.geometry.original


def read(path: Path) -> list[Labelled]:
    """Photos with their classes, in a fixed order.

    Args:
        path: what :func:`mmexplain.evaluate.data.objects.read` takes (classes are those of the marked objects, crowds
            excepted); or a folder of photos: those in folders are of the class that the outermost is called by, of
            others nothing is known.

    Raises:
        InputError: there is no such path, it holds no photos, or it is damaged.
    """
    if marks_objects(path):
        scenes = read_objects(path)
        return [Labelled(scene.key, scene.path, _names(scene), scene) for scene in scenes]
    found = [(item.key, item.content) for item in files(path)]
    return [Labelled(key, photo, Path(key).parts[:-1][:1]) for key, photo in found]


def _names(scene: Scene) -> tuple[str, ...]:
    return tuple(name for name in scene.names if any(thing.area and not thing.crowd for thing in scene.of(name)))


def require_classifier(task: Any, study: str) -> None:
    """Refuse what has no classes to make maps of.

    Raises:
        InputError: the task is no classifier with class names.
    """
    if getattr(task, "name", "") != "classify" or task.labels is None:
        raise InputError(f"study {study!r} is for classifiers with class names, such as efficientnet-lite0")


def one_method(name: str) -> str:
    """The full name of a method.

    Raises:
        MethodError: there is none of that name, or several are meant.
    """
    found = [method.name for method in select(name)]
    if len(found) != 1:
        raise MethodError(f"{name!r} names {len(found)} methods: give one")
    return found[0]


def labels_of(task: Any, photos: Sequence[Labelled], path: Path) -> dict[str, tuple[int, ...]]:
    """Class of the data → numbers of the model's labels that mean it; without those that the model does not have.

    Raises:
        InputError: nothing is known of the photos, or the model has none of their classes.
    """
    names = list(dict.fromkeys(name for photo in photos for name in photo.names))
    if not names:
        raise InputError(
            f"nothing says what is in the photos of {str(path)!r}: put them into folders called as their classes"
        )
    found = match(names, task.labels)
    if not found:
        raise InputError(f"model {task.model_id!r} has none of the {len(names)} classes of {str(path)!r}")
    return found


def left_out(names: Sequence[str], labels: Mapping[str, Any]) -> list[str]:
    """A note on the classes that the model does not have, if there are any."""
    missing = [name for name in dict.fromkeys(names) if name not in labels]
    if not missing:
        return []
    listed = ", ".join(missing[:12]) + (", …" if len(missing) > 12 else "")
    return [f"Left out: {len(missing)} classes that the model does not have ({listed})."]


@dataclass(frozen=True)
class Wanted:
    """What is explained for one class of a photo.

    Attributes:
        name: of the class.
        label: number of the model's label.
        other: number of a label drawn at random from those that mean no class of the photo; None if there is none.
    """

    name: str
    label: int
    other: int | None = None

    @property
    def numbers(self) -> list[int]:
        """Of the labels."""
        return [self.label] if self.other is None else [self.label, self.other]


def wanted(photo: Labelled, labels: Mapping[str, Sequence[int]], logits: Tensor, seed: int) -> list[Wanted]:
    """For each class of a photo that the model has, its likeliest label, and a random one beside it; each class another
    one, unless there are fewer. The draw is the same for a photo whichever other photos there are.

    Args:
        photo: the photo.
        labels: class → numbers of labels.
        logits: of the photo, ``[N]``.
        seed: of the draw.
    """
    present = [name for name in photo.names if name in labels]
    own = {number for name in present for number in labels[name]}
    left = [number for number in range(len(logits)) if number not in own]
    # the key takes part, so that a photo's draw is not another's
    draws = np.random.default_rng([seed, crc32(photo.key.encode())])
    count = len(present)
    others = [int(n) for n in draws.choice(left, count, replace=len(left) < count)] if left else [None] * count
    return [
        Wanted(name, max(labels[name], key=lambda number: float(logits[number])), other)
        for name, other in zip(present, others, strict=True)
    ]


Choose = Callable[[Labelled, Tensor], Sequence[int]]
"""A photo and the model's logits for it, ``[N]`` → at least one label number to make maps of."""


def look(
    task: Any,
    photos: Sequence[Labelled],
    choose: Choose,
    methods: Sequence[str],
    layer: str | None,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[Seen]:
    """Maps of chosen labels of each photo; the choice is made by the same forward pass.

    Raises:
        InputError, MethodError, LayerError, ModelError, DeviceError: see :func:`mmexplain.explain`.
    """
    for start in range(0, len(photos), BATCH):
        part = photos[start : start + BATCH]
        chosen: list[list[int]] = []

        def targets(logits: Tensor, part: Sequence[Labelled] = part, chosen: list[list[int]] = chosen) -> list[Any]:
            rows = columns(logits).float().cpu()
            chosen.extend(list(dict.fromkeys(choose(*pair))) for pair in zip(part, rows, strict=True))
            return [[task.target(number) for number in numbers] for numbers in chosen]

        explanations = explain(
            task,
            task.prepare([photo.path for photo in part]),
            targets,
            layers=None if layer is None else [layer],
            methods=methods,
            seed=seed,
        )
        for photo, explanation, numbers in zip(part, explanations, chosen, strict=True):
            yield Seen(photo, explanation, {number: place for place, number in enumerate(numbers)})
        if progress is not None:
            progress(start + len(part), len(photos))


def top(logits: Tensor, count: int) -> list[int]:
    """Numbers of the likeliest labels."""
    return [int(number) for number in torch.topk(logits, min(count, len(logits))).indices]
