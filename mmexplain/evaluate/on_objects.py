"""What protocols on photos with marked objects share: the data, its classes among the model's labels, and the maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.data.classes import match
from mmexplain.evaluate.data.objects import read
from mmexplain.evaluate.data.scene import Scene
from mmexplain.evaluate.protocol import Item, Protocol, Row
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import select
from mmexplain.targets import Target


@dataclass(frozen=True)
class Looked:
    """A photo and what the model made of it.

    Attributes:
        scene: the photo.
        ranked: classes of the data that the model has, likeliest first.
        label: class → number of its likeliest label in this photo.
        top: numbers of the model's likeliest labels of all, likeliest first.
        explanation: maps of the labels that were asked for.
        targets: label number → number of its target in the explanation.
    """

    scene: Scene
    ranked: tuple[str, ...]
    label: Mapping[str, int]
    top: tuple[int, ...]
    explanation: Explanation
    targets: Mapping[int, int]

    def values(self, label: int, method: str) -> Tensor:
        """The map of a label at the layer's own resolution."""
        return self.explanation.map(self.targets[label], None, method)

    def heat(self, label: int, method: str) -> NDArray[np.float32]:
        """What speaks for a label, in the pixels of the photo; NaN where the model saw nothing."""
        positive = self.values(label, method).detach().float().clamp(min=0)
        found: NDArray[np.float32] = self.explanation.geometry.to_original(positive).cpu().numpy()
        return found

    def finite(self, label: int, method: str) -> bool:
        """Whether the map is: one that is not says nothing that could be measured."""
        return bool(self.values(label, method).isfinite().all())

    def peak(self, label: int, method: str) -> tuple[int, ...] | None:
        """``(x, y)`` of the map's maximum; None for a flat map."""
        return self.explanation.peak(self.targets[label], None, method)


class OnObjects(Protocol):
    """A protocol of maps of a classifier on photos with marked objects.

    A class that several labels mean ("dog") is explained by the likeliest of them in the photo at hand.

    Args:
        task: a classifier with class names.
        data: see :func:`mmexplain.evaluate.data.objects.read`.
        methods: names from the registry.
        layer: where maps are read; the model's default if None.
        seed: of methods that draw at random.

    Raises:
        InputError: the task is no classifier with names, the data cannot be read, or the model has none of its classes.
        MethodError: no such method.
    """

    @classmethod
    def wants(cls, data: Path) -> str | None:
        """Classes are mapped."""
        return "classify"

    def __init__(
        self, task: Any, data: str | Path, methods: Sequence[str], *, layer: str | None = None, seed: int = 0
    ) -> None:
        if getattr(task, "name", "") != "classify" or task.labels is None:
            raise InputError(f"protocol {self.name!r} is for classifiers with class names, such as efficientnet-lite0")
        self._methods = [method.name for method in select(methods)]
        if not self._methods:
            raise InputError(f"protocol {self.name!r} needs a method to measure")
        self.task, self.data, self._layer, self._seed = task, Path(data), layer, seed
        self._scenes = read(self.data)
        self._names = list(dict.fromkeys(name for scene in self._scenes for name in scene.names))
        self._labels = match(self._names, task.labels)
        if not self._labels:
            raise InputError(f"model {task.model_id!r} has none of the {len(self._names)} classes of {str(data)!r}")
        self._class_of: dict[int, list[str]] = {}
        for name, numbers in self._labels.items():
            for number in numbers:
                self._class_of.setdefault(number, []).append(name)

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer and seed."""
        return {
            "model": self.task.model_id,
            "methods": list(self._methods),
            "layer": self._layer or "default",
            "seed": self._seed,
        }

    def items(self) -> Sequence[Item]:
        """The photos that hold an object of a class that the model has."""
        return [Item(scene.key, scene) for scene in self._scenes if self._present(scene)]

    def notes(self) -> Sequence[str]:
        """What was left out, and how classes became labels."""
        missing = [name for name in self._names if name not in self._labels]
        left = sum(not self._present(scene) for scene in self._scenes)
        notes = [
            "A class that several of the model's labels mean is explained by the likeliest of them in each photo "
            "(kinds by WordNet's hypernyms for ImageNet's labels)."
        ]
        if missing:
            notes.append(
                f"Left out: {len(missing)} of {len(self._names)} classes, which the model does not have "
                f"({', '.join(missing[:12])}{', …' if len(missing) > 12 else ''}), and {left:,} of "
                f"{len(self._scenes):,} photos, which hold no other."
            )
        notes.append("Photos whose size is not the one that they were marked at are left out.")
        return notes

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """The rows of each photo."""
        scenes = [item.content for item in items]
        return [
            list(self.rows(looked)) if looked.explanation.geometry.original == looked.scene.size else []
            for looked in self._look(scenes)
        ]

    @abstractmethod
    def rows(self, looked: Looked) -> Iterator[Row]:
        """The rows of one photo."""

    @abstractmethod
    def wanted(
        self, present: Sequence[str], ranked: Sequence[str], label: Mapping[str, int], top: Sequence[int]
    ) -> list[int]:
        """Numbers of the labels that must be explained in a photo; see :class:`Looked`."""

    def _present(self, scene: Scene) -> list[str]:
        """Classes of a photo that the model has, less those whose objects are all marked as hardly to be recognised
        (TorchRay skips them too)."""
        return [
            name
            for name in scene.names
            if name in self._labels and not all(thing.difficult or not thing.area for thing in scene.of(name))
        ]

    def _look(self, scenes: Sequence[Scene]) -> Iterator[Looked]:
        chosen: list[tuple[tuple[str, ...], dict[str, int], tuple[int, ...], list[int]]] = []

        def choose(logits: Tensor) -> list[list[Target]]:
            for scene, row in zip(scenes, columns(logits).float().cpu(), strict=True):
                label = {
                    name: max(numbers, key=lambda number: float(row[number])) for name, numbers in self._labels.items()
                }
                ranked = tuple(sorted(label, key=lambda name: -float(row[label[name]])))
                top = tuple(row.topk(min(5, len(row))).indices.tolist())
                wanted = list(dict.fromkeys(self.wanted(self._present(scene), ranked, label, top)))
                chosen.append((ranked, label, top, wanted))
            return [[self.task.target(number) for number in wanted] for *_, wanted in chosen]

        explanations = explain(
            self.task,
            self.task.prepare([scene.path for scene in scenes]),
            choose,
            layers=None if self._layer is None else [self._layer],
            methods=self._methods,
            seed=self._seed,
        )
        for scene, explanation, (ranked, label, top, wanted) in zip(scenes, explanations, chosen, strict=True):
            yield Looked(scene, ranked, label, top, explanation, {number: place for place, number in enumerate(wanted)})


def columns(logits: Tensor) -> Tensor:
    """Logits ``[B, N]`` with a column for each label: a single logit is that of the second of two."""
    return torch.cat((-logits, logits), 1) if logits.shape[1] == 1 else logits
