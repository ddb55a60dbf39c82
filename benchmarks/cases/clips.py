"""Actions in a clip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import torch
from torch import nn
from torchvision.models import video

from cases.case import Case, ClassScores, Ready, Subject, grad_cam_case
from cases.own import batch_of, explained, numbered
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action import Action
from mmexplain.tasks.action.i3d import I3D

GROUP = "Actions in a clip"
FRAMES = 16
SIDES = {"r3d_18": 112, "I3D": 224}
LAYERS = {"r3d_18": "layer4", "I3D": "Mixed_5c"}
TARGETS = (1, 16)


@lru_cache(maxsize=1)
def model_of(name: str, device: str) -> nn.Module:
    """A model with random weights, the same every time."""
    torch.manual_seed(0)
    model: nn.Module = I3D() if name == "I3D" else getattr(video, name)(num_classes=400)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            # PyTorch's own beginning lets activations die away over I3D's depth.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model.eval().to(device)


def build(name: str, count: int, device: str) -> Ready:
    """The first actions of a clip of noise."""
    model, side = model_of(name, device), SIDES[name]
    clip = torch.randn(1, 3, FRAMES, side, side, generator=torch.Generator().manual_seed(1)).to(device)
    task = Action(model, Preprocess(resize=(side, side)), frames=FRAMES)
    batch = batch_of("clip", clip)
    layers = [LAYERS[name]]
    run = explained(task, batch, numbered(count, "action"), layers)
    return grad_cam_case(Subject(ClassScores(model, count), clip, layers, run))


def cases(tiny: bool) -> Iterator[Case]:
    """All of them."""
    for name in () if tiny else SIDES:
        for count in TARGETS:
            title = f"{name}, {FRAMES} frames of {SIDES[name]} pixels, {count} action{'s' if count > 1 else ''}"
            maker = partial(build, name, count)
            yield Case(
                GROUP, title, name, 1, count, maker, against_peers=count > 1, quick=name == "r3d_18" and count > 1
            )
