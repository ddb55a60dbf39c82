"""Photos as a model is shown them, attacked and not, and the maps of what is in them: the rows of the study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.masks import near
from mmexplain.evaluate.metrics.grounding import Sums
from mmexplain.evaluate.metrics.pointing import TOLERANCE, hit
from mmexplain.evaluate.metrics.rank_correlation import rank_correlation
from mmexplain.evaluate.metrics.structure import ssim
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.geometry import Geometry
from mmexplain.studies.robustness.attack import Pixels, TargetedPGD
from mmexplain.studies.robustness.figure import Shown, probability_of
from mmexplain.studies.robustness.found import ADVERSARIAL, NOISE, OTHER, PHOTO, Changed, Mapped
from mmexplain.studies.robustness.true_classes import KnownPhoto
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch


@dataclass(frozen=True)
class _View:
    """B photos in one of the ways in which they are shown to the model.

    Attributes:
        images: ``[B, C, h, w]``, inputs of the model.
        explanations: of each, the maps of its true classes, and last of the target.
        tops: the likeliest class of each.
    """

    images: Tensor
    explanations: list[Explanation]
    tops: list[Target]


@dataclass
class AttackedPhotos:
    """Attacks photos batch by batch, and keeps what is measured of them.

    Attributes:
        task: a classifier.
        target: what it is made to see.
        attack: how.
        methods: of the maps.
        layer: where maps are read; the model's default if None.
        seed: of what is drawn at random.
        pictures: photos that are kept for the figure, at most.
        generator: made of the seed.
        changed: of each photo, a row as it is, attacked and with noise.
        mapped: of each true class in it, a row for each method and view.
        shown: of the photos whose attack succeeded those whose true class the model was surest of, each of another
            class as long as there are any.
    """

    task: Any
    target: Target
    attack: TargetedPGD
    methods: list[str]
    layer: str | None
    seed: int
    pictures: int
    generator: torch.Generator = field(init=False)
    changed: list[Changed] = field(default_factory=list)
    mapped: list[Mapped] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin to draw."""
        self.generator = torch.Generator().manual_seed(self.seed)

    def measure(self, photos: Sequence[KnownPhoto], others: Sequence[KnownPhoto]) -> None:
        """Attack a batch of photos; leave out what shows the target already.

        Args:
            photos: B of them.
            others: B that stand for them, for maps of the same classes on another photo.

        Raises:
            InputError: a photo cannot be read, or the model has no probabilities.
        """
        batch = self.task.prepare([photo.path for photo in photos])
        images = batch.inputs["image"]
        true: list[list[Target]] = []

        def choose(logits: Tensor) -> list[list[Target]]:
            true[:] = [self._true(photo, row) for photo, row in zip(photos, logits.split(1), strict=True)]
            return [[*row, self.target] for row in true]

        views = {PHOTO: self._view(batch, choose)}
        if views[PHOTO].explanations[0].probabilities is None:
            raise InputError(f"the outputs of model {self.task.model_id!r} are no probabilities that could be attacked")
        kept = [number for number, row in enumerate(true) if self.target.ids not in [one.ids for one in row]]
        if len(kept) < len(photos):
            if kept:
                self.measure([photos[number] for number in kept], [others[number] for number in kept])
            return
        pixels, rows = Pixels.of(self.task), [[*row, self.target] for row in true]
        attacked = self.attack.attack(self.task, images, [self.target] * len(photos), self.generator)
        size, _ = pixels.distances(attacked.images, images)
        noisy = pixels.noisy(images, size, self.generator)
        views[ADVERSARIAL] = self._view(replace(batch, inputs={"image": attacked.images}), rows)
        views[NOISE] = self._view(replace(batch, inputs={"image": noisy}), rows)
        views[OTHER] = self._view(self.task.prepare([photo.path for photo in others]), rows)
        for number, photo in enumerate(photos):
            reached = bool(attacked.reached[number])
            steps = {ADVERSARIAL: int(attacked.steps[number])}
            for name in (PHOTO, ADVERSARIAL, NOISE):
                self._say(photo, number, name, views, pixels, reached, steps.get(name))
            self._map(photo, true[number], {name: view.explanations[number] for name, view in views.items()}, reached)
            if reached:
                pair = pixels.read(torch.stack([images[number], attacked.images[number]])).cpu()
                before, after = (views[name].explanations[number] for name in (PHOTO, ADVERSARIAL))
                self.shown.append(Shown(pair[0], pair[1], before, after))
        self.shown.sort(key=lambda one: -one.probability)
        surest = {one.label: one for one in reversed(self.shown)}
        self.shown.sort(key=lambda one: surest[one.label] is not one)
        del self.shown[self.pictures :]

    def _say(
        self,
        photo: KnownPhoto,
        number: int,
        name: str,
        views: dict[str, _View],
        pixels: Pixels,
        reached: bool,
        steps: int | None,
    ) -> None:
        """The row of what the model says of one photo in one view."""
        view, before = views[name], views[PHOTO]
        probability, top = probability_of(view.explanations[number], -1), view.tops[number]
        linf, l2 = pixels.distances(view.images[number, None], before.images[number, None])
        self.changed.append(
            Changed(
                photo=photo.key,
                view=name,
                reached=reached,
                probability=probability,
                top=top.label,
                says_target=top.ids == self.target.ids,
                keeps_top=top.ids == before.tops[number].ids,
                passes=probability > self.attack.confidence,
                steps=steps,
                linf=float(linf),
                l2=float(l2),
            )
        )

    def _map(self, photo: KnownPhoto, true: Sequence[Target], views: dict[str, Explanation], reached: bool) -> None:
        """The rows of the maps of one photo's true classes."""
        geometry = views[PHOTO].geometry
        for number, target in enumerate(true):
            name = target.label if photo.scene is None else list(photo.classes)[number]
            placed = _placed(photo, name, geometry)
            for method in self.methods:
                own = views[PHOTO].map(number, None, method)
                for view, explanation in views.items():
                    values = explanation.map(number, None, method)
                    correlation, similarity = (None, None) if view == PHOTO else _alike(own, values, geometry)
                    points, energy = placed(values)
                    self.mapped.append(
                        Mapped(
                            photo=photo.key,
                            name=name,
                            label=target.label,
                            method=method,
                            view=view,
                            reached=reached,
                            probability=None if view == OTHER else probability_of(explanation, number),
                            correlation=correlation,
                            ssim=similarity,
                            hit=points,
                            energy=energy,
                        )
                    )

    def _true(self, photo: KnownPhoto, logits: Tensor) -> list[Target]:
        """For each class of a photo the likeliest label that means it, by logits ``[1, N]``."""
        if photo.scene is None:
            return [self.task.top(logits)[0][0]]
        found = []
        for numbers in photo.classes.values():
            targets = [self.task.target(number) for number in numbers]
            found.append(targets[int(self.task.score(logits, [targets]).argmax())])
        return found

    def _view(self, batch: Batch, rows: Any) -> _View:
        """Explain rows of targets, or what a function chooses by the logits."""
        tops: list[Target] = []

        def choose(logits: Tensor) -> Any:
            tops[:] = [row[0] for row in self.task.top(logits)]
            return rows(logits) if callable(rows) else rows

        layers = None if self.layer is None else [self.layer]
        explanations = explain(self.task, batch, choose, layers=layers, methods=self.methods, seed=self.seed)
        return _View(batch.inputs["image"], explanations, tops)


def _alike(one: Tensor, other: Tensor, geometry: Geometry) -> tuple[float | None, float | None]:
    """Rank correlation and SSIM of two maps; None where they are not defined."""
    if one.shape != other.shape:  # photos of other sizes, where the model does not crop
        return None, None
    return _defined(rank_correlation(one, other)), _defined(ssim(one, other, geometry.input))


def _placed(photo: KnownPhoto, name: str, geometry: Geometry) -> Callable[[Tensor], tuple[float | None, float | None]]:
    """Of a map: whether it points at a class, and the share of its positive part in the boxes of the class; None where
    no objects are marked, or they were marked in a file of another size."""
    mask = None if photo.scene is None or photo.scene.size != geometry.original else photo.scene.mask(name)
    if photo.scene is None or mask is None or not mask.any():
        return lambda _: (None, None)
    wide, boxes = near(mask, TOLERANCE), torch.from_numpy(photo.scene.boxes(name))

    def placed(values: Tensor) -> tuple[float | None, float | None]:
        if not values.isfinite().all():
            return None, None
        heat = geometry.to_original(values.float().clamp(min=0)).cpu()
        return hit(geometry.peak(values.float()), wide), _defined(float(Sums.of(heat, boxes).energy()))

    return placed


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
