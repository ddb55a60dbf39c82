"""Several layers at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cases.case import Case, ClassScores, Ready, Subject, grad_cam_case
from cases.classes import TITLES, model_of, photos
from cases.own import batch_of, explained, numbered
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.task import Classifier

GROUP = "Four layers at once"
LAYERS = ["layer1", "layer2", "layer3", "layer4"]
FIRST = {"resnet50": 4}
"""Class to begin with: of those before it some maps are empty."""


def build(architecture: str, count: int, size: int, device: str) -> Ready:
    """All stages of a ResNet."""
    model, image = model_of(architecture, device), photos(1, size, device)
    first = FIRST.get(architecture, 0)
    task = Classifier(model, Preprocess(resize=(size, size)))
    run = explained(task, batch_of("image", image), numbered(count, first=first), LAYERS)
    return grad_cam_case(Subject(ClassScores(model, count, first), image, LAYERS, run))


def cases(tiny: bool) -> Iterator[Case]:
    """One."""
    architecture, count = ("resnet18", 2) if tiny else ("resnet50", 5)
    name = f"{TITLES[architecture]}, layer1 to layer4, {count} classes"
    maker = partial(build, architecture, count, 64 if tiny else 224)
    yield Case(GROUP, name, GROUP, 1, count, maker, against_peers=True, quick=True)
