"""Score-CAM and occlusion, at equal numbers of forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from peers import captum_library, grad_cam, naive, torch_cam

from cases.case import GRAD_CAM, NAIVE, OWN, Case, ClassScores, Contender, Ready, Subject, Variants, freeze, gathered
from cases.classes import model_of, photos
from cases.own import batch_of, explained, numbered
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.task import Classifier

GROUP = "Score-CAM and occlusion"
LAYER, CHANNELS = "layer1", 64
SIZE, PATCH = 112, 14


def build(method: str, device: str) -> Ready:
    """One class of a ResNet-18; what is masked is zero."""
    model, image = model_of("resnet18", device), photos(1, SIZE, device)
    task = Classifier(model, Preprocess(resize=(SIZE, SIZE)))
    layers = [LAYER] if method == "scorecam" else None
    run = explained(task, batch_of("image", image), numbered(1), layers, asked(method))
    subject = Subject(ClassScores(model, 1), image, [LAYER], run)
    freeze(subject)
    builders: dict[str, Callable[[], Variants]] = {OWN: lambda: {"": Contender(lambda _: subject.explain())}}
    if method == "scorecam":
        builders |= {
            NAIVE: lambda: naive.score_cam(subject),
            "torch-cam": lambda: torch_cam.score_cam(subject),
            "captum": lambda: captum_library.score_cam(subject),
            GRAD_CAM: lambda: grad_cam.score_cam(subject),
        }
    else:
        builders |= {
            NAIVE: lambda: naive.occlusion(subject, PATCH),
            "torch-cam": lambda: torch_cam.occlusion(subject),
            "captum": lambda: captum_library.occlusion(subject, PATCH),
            GRAD_CAM: lambda: grad_cam.occlusion(subject),
        }
    return Ready(subject, *gathered(builders), passes=CHANNELS)


def asked(method: str) -> str:
    """With parameters."""
    return method if method == "scorecam" else f"{method}(patch={PATCH}, stride={PATCH})"


def cases(tiny: bool) -> Iterator[Case]:
    """One of each, with as many patches as channels."""
    for method in ("scorecam", "occlusion"):
        what = f"{CHANNELS} channels" if method == "scorecam" else f"{(SIZE // PATCH) ** 2} patches"
        name = f"{method}, ResNet-18 at {SIZE} pixels, {what}"
        yield Case(GROUP, name, method, 1, 1, partial(build, method), quick=True)
