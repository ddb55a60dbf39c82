"""Classes of a photo or of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import timm
import torch
import torchvision
from torch import Tensor, nn

from cases.case import Case, ClassScores, Ready, Subject, grad_cam_case
from cases.own import batch_of, explained, numbered
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.task import Classifier

GROUP = "Classes"
LAYERS = {
    "resnet50": "layer4",
    "vgg16": "features.29",
    "tf_efficientnet_lite0": "bn2",
    "vit_b_16": "encoder.layers.encoder_layer_11.ln_1",
    "resnet18": "layer4",
}
TITLES = {
    "resnet50": "ResNet-50",
    "vgg16": "VGG-16",
    "tf_efficientnet_lite0": "EfficientNet-Lite0",
    "vit_b_16": "ViT-B/16",
    "resnet18": "ResNet-18",
}
FIRST = {"vgg16": 1}
"""Class to begin with, where class 0 has an empty map."""

IMAGES, TARGETS = (1, 32), (1, 5, 100)


@lru_cache(maxsize=1)
def model_of(architecture: str, device: str) -> nn.Module:
    """A model with random weights, the same every time."""
    torch.manual_seed(0)
    if architecture.startswith("tf_"):
        model: nn.Module = timm.create_model(architecture)
    else:
        model = getattr(torchvision.models, architecture)(weights=None)
    if architecture == "vit_b_16":
        # It begins with zeros there, and every map would be empty.
        nn.init.normal_(model.heads.head.weight, std=0.02)  # type: ignore[union-attr, arg-type]
    return model.eval().to(device)


def photos(images: int, size: int, device: str) -> Tensor:
    """Noise: what a forward pass costs does not depend on what is seen."""
    return torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)


def grid(tokens: Tensor) -> Tensor:
    """Tokens of a ViT ``[B, 1 + h · w, C]``, the class token first → ``[B, C, h, w]``."""
    side = int((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def subject(architecture: str, images: int, count: int, size: int, device: str) -> Subject:
    """Classes of a classifier."""
    model, image = model_of(architecture, device), photos(images, size, device)
    task = Classifier(model, Preprocess(resize=(size, size)))
    layer, first = LAYERS[architecture], FIRST.get(architecture, 0)
    return Subject(
        ClassScores(model, count, first),
        image,
        [layer],
        explained(task, batch_of("image", image), numbered(count, first=first), [layer]),
        fold=grid if architecture.startswith("vit") else None,
    )


def build(architecture: str, images: int, count: int, size: int, device: str) -> Ready:
    return grad_cam_case(subject(architecture, images, count, size, device))


def cases(tiny: bool) -> Iterator[Case]:
    """All of them; few targets after many for no model, so that a model is made once."""
    architectures = ["resnet18"] if tiny else [name for name in LAYERS if name != "resnet18"]
    for architecture in architectures:
        for images in (1, 2) if tiny else IMAGES:
            for count in (1, 3) if tiny else TARGETS:
                maker: Callable[[str], Ready] = partial(build, architecture, images, count, 64 if tiny else 224)
                limits = {}
                if architecture == "resnet50" and count == 1:
                    limits = {"cpu": 1.15} if images == 1 else {"cuda": 1.25}
                if count == 100:
                    limits = {"cpu": 2.0, "cuda": 2.0}
                plural = ("image" if images == 1 else "images", "class" if count == 1 else "classes")
                yield Case(
                    GROUP,
                    f"{TITLES[architecture]}, {images} {plural[0]}, {count} {plural[1]}",
                    f"{architecture} {images}",
                    images,
                    count,
                    maker,
                    limits,
                    against_peers=count > 1,
                    quick=architecture == "resnet50" and images == 1,
                )
