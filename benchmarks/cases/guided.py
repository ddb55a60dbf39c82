"""Guided Grad-CAM."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

from peers import captum_library, grad_cam, naive, torch_cam

from cases.case import GRAD_CAM, NAIVE, OWN, Case, ClassScores, Contender, Ready, Subject, freeze, gathered
from cases.classes import TITLES, model_of, photos
from cases.own import batch_of, explained, numbered
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.task import Classifier

GROUP = "Guided Grad-CAM"


def build(architecture: str, count: int, size: int, device: str) -> Ready:
    """The first classes of a ResNet; its ReLUs are not in place, which backward hooks on modules do not allow."""
    model, image = copy.deepcopy(model_of(architecture, device)), photos(1, size, device)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    task = Classifier(model, Preprocess(resize=(size, size)))
    run = explained(task, batch_of("image", image), numbered(count), ["layer4"], "guided-gradcam")
    subject = Subject(ClassScores(model, count), image, ["layer4"], run, to_input=True)
    freeze(subject)
    return Ready(
        subject,
        *gathered(
            {
                OWN: lambda: {"": Contender(lambda _: subject.explain())},
                NAIVE: lambda: naive.guided_grad_cam(subject),
                "torch-cam": lambda: torch_cam.guided_grad_cam(subject),
                "captum": lambda: captum_library.guided_grad_cam(subject),
                GRAD_CAM: lambda: grad_cam.guided_grad_cam(subject),
            }
        ),
    )


def cases(tiny: bool) -> Iterator[Case]:
    """One class and five."""
    architecture = "resnet18" if tiny else "resnet50"
    for count in (2,) if tiny else (1, 5):
        name = f"guided, {TITLES[architecture]}, {count} class{'es' if count > 1 else ''}"
        maker = partial(build, architecture, count, 64 if tiny else 224)
        yield Case(GROUP, name, GROUP, 1, count, maker, against_peers=count > 1, quick=count == 1)
