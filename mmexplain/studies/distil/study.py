"""Learning from explanations: does a student learn more when it is shown where its teacher looks?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmexplain.errors import InputError
from mmexplain.studies.distil.data import Data, Photos
from mmexplain.studies.distil.explanation_loss import ExplanationLoss, Scale
from mmexplain.studies.distil.found import LESSONS, MAPS, PUBLISHED, TEACHER, by_seed, controls_of, figure_of, tables_of
from mmexplain.studies.distil.training import (
    Answers,
    Eyes,
    Loss,
    Recipe,
    Terms,
    Training,
    cross_entropy,
    fresh,
    loss_of,
    tested,
)
from mmexplain.studies.distil.wide_resnet import WideResNet, depth_and_width
from mmexplain.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS_WITHOUT = 5
"""Steps, at most, after which training with α = 0 is held against training by cross entropy."""

TEACHERS = 2**31
"""What a teacher's seed is its students' plus: one of their size must not be the student who learns by labels alone."""

NOTES = (
    "CE: cross entropy. KD: besides, the teacher's softened probabilities. Maps: besides, α times the squared distance "
    "of the student's map of the true class from the teacher's.",
    "The intervals of the first table know of other test photos, those of the second of other seeds, and neither of "
    "both: a difference counts where both leave zero out, and few seeds tell large ones only.",
    f"Published (WRN-40-2 → WRN-16-2 on CIFAR-10, test error in %): {PUBLISHED}.",
)


@dataclass(frozen=True)
class Setup:
    """What a study is made with.

    Attributes:
        teacher: depth and width, as in "40-2".
        student: the same.
        recipe: how both are trained.
        terms: of the loss.
        method: of the maps.
        scale: of the maps: see :class:`~mmexplain.studies.distil.explanation_loss.ExplanationLoss`.
        seeds: a teacher and its students for each of so many.
        seed: the first of them.
    """

    teacher: str = "40-2"
    student: str = "16-2"
    recipe: Recipe = field(default_factory=Recipe)
    terms: Terms = field(default_factory=Terms)
    method: str = "gradcam++"
    scale: Scale = "raw"
    seeds: int = 3
    seed: int = 0

    def require(self) -> None:
        """Tell what cannot be trained before it is.

        Raises:
            InputError: no such networks, or numbers out of range.
            MethodError: maps that cannot be trained through.
        """
        depth_and_width(self.teacher)
        depth_and_width(self.student)
        ExplanationLoss(WideResNet.LAYER, method=self.method, scale=self.scale)
        for what, number, least in (
            ("epochs", self.recipe.epochs, 1),
            ("photos in a step", self.recipe.batch, 2),
            ("seeds", self.seeds, 1),
        ):
            if number < least:
                raise InputError(f"{number} {what}: at least {least} are needed")
        for what, value, positive in (
            ("alpha", self.terms.alpha, False),
            ("the temperature", self.terms.temperature, True),
            ("the learning rate", self.recipe.rate, True),
        ):
            if not math.isfinite(value) or value < 0 or (positive and not value):
                raise InputError(f"{what} is {value}: it must be {'positive' if positive else 'zero or positive'}")


def distil(
    data: Data,
    setup: Setup | None = None,
    *,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Study, Figure]:
    """Train teachers and students, and compare what students learn from: labels, softened probabilities, maps.

    For each seed a teacher is trained by cross entropy, and then a student for each of
    :data:`~mmexplain.studies.distil.found.LESSONS`; the students of a seed start from the same weights and see the
    same photos in the same order, their teacher from and in others.

    Args:
        data: to train and test on.
        setup: networks, schedule, terms and seeds; the published ones if None.
        device: where networks are trained.
        folder: keeps the networks, also half trained: the same call goes on where it was stopped. What is trained
            lies in ``teacher-SEED.safetensors``, ``ce-maps-SEED.safetensors`` and so on, for
            :meth:`~mmexplain.studies.distil.wide_resnet.WideResNet.load`.
        progress: told how many epochs of how many are done.

    Returns:
        The study and its figure.

    Raises:
        InputError: no such networks, numbers out of range, or ``folder`` holds runs with other settings.
        MethodError: maps that cannot be trained through.
    """
    setup = setup or Setup()
    started = time.perf_counter()
    setup.require()
    place = torch.device(device)
    explanations = ExplanationLoss(WideResNet.LAYER, method=setup.method, scale=setup.scale)
    eyes = Eyes(data.train, place)
    total = setup.seeds * (1 + len(LESSONS)) * setup.recipe.epochs
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    common = {"data": data.name, "photos": len(data.train)}
    training = Training(data.train, eyes, setup.recipe, folder, common, told)
    results: dict[str, list[Answers]] = {name: [] for name in (*(lesson.name for lesson in LESSONS), TEACHER)}
    apart = 0.0
    for seed in range(setup.seed, setup.seed + setup.seeds):
        models = _Models(setup, len(data.labels), seed, place)
        teacher = training.train(f"{TEACHER}-{seed}", models.teacher(), seed + TEACHERS, cross_entropy)
        untrained = models.teacher().eval()
        results[TEACHER].append(tested(teacher, teacher, data.test, eyes, explanations))
        for lesson in LESSONS:
            loss = loss_of(lesson, teacher, untrained, explanations, setup.terms)
            told_of = {"lesson": lesson.name, "teacher": teacher.name, **_told_terms(setup)}
            student = training.train(f"{lesson.slug}-{seed}", models.student(), seed, loss, **told_of)
            results[lesson.name].append(tested(student, teacher, data.test, eyes, explanations))
        if seed == setup.seed:
            without = loss_of(MAPS, teacher, untrained, explanations, Terms(0.0, setup.terms.temperature))
            apart = _apart(training, models, without, seed)
    study = Study(
        "distil",
        "Learning from explanations",
        tables_of(results, data.test.items, range(setup.seed, setup.seed + setup.seeds)),
        controls_of(results, data.test.items, apart, STEPS_WITHOUT),
        {
            "data": data.name,
            "train": len(data.train),
            "test": len(data.test),
            "teacher": setup.teacher,
            "student": setup.student,
            "epochs": setup.recipe.epochs,
            "batch": setup.recipe.batch,
            "rate": setup.recipe.rate,
            **_told_terms(setup),
        },
        NOTES,
        len(data.test),
        round(time.perf_counter() - started, 1),
        {"labels": list(data.labels), "errors": {name: by_seed(found) for name, found in results.items()}},
    )
    return study, figure_of(study.title, results)


def _told_terms(setup: Setup) -> dict[str, Any]:
    return {**asdict(setup.terms), "method": setup.method, "scale": setup.scale}


@dataclass(frozen=True)
class _Models:
    """Networks with fresh weights of one seed."""

    setup: Setup
    classes: int
    seed: int
    device: torch.device

    def teacher(self) -> WideResNet:
        return fresh(*depth_and_width(self.setup.teacher), self.classes, self.seed + TEACHERS, self.device)

    def student(self) -> WideResNet:
        return fresh(*depth_and_width(self.setup.student), self.classes, self.seed, self.device)


def _apart(training: Training, models: _Models, without: Loss, seed: int) -> float:
    """The largest difference of any weight after a few steps by cross entropy, and by a loss that should be that."""
    batch = min(training.recipe.batch, len(training.photos))
    some = torch.arange(min(len(training.photos), STEPS_WITHOUT * batch))
    photos = Photos(training.photos.pixels[some], training.photos.classes[some], [""] * len(some))
    recipe = Recipe(1, batch, training.recipe.rate)
    short = Training(photos, training.eyes, recipe, None, {}, lambda: None)
    first, second = (short.train("", models.student(), seed, loss) for loss in (cross_entropy, without))
    states = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((one.double() - other.double()).abs().max()) for one, other in states)
