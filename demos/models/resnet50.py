"""A ResNet-50 with the ImageNet weights of Keras in torchvision's architecture, and small figures for notebooks."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.models import resnet50

from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.labels import imagenet
from mmexplain.tasks.classification.task import Classifier

FILE = "resnet50/resnet50_keras_v1_rgb_fp16.safetensors"


def folder(variable: str) -> Path:
    """The folder that an environment variable names."""
    name = os.environ.get(variable)
    if not name or not Path(name).is_dir():
        raise SystemExit(f"{variable} must name a folder; it is {name!r}")
    return Path(name)


def load(weights: Path) -> Classifier:
    """The classifier, from the folder of weights.

    In the first version of the architecture a stage halves the grid in the first convolution of its first block,
    where torchvision has it in the second. Photos are RGB from 0 to 255 less ImageNet's mean colour, not scaled.
    """
    model = resnet50()
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1.001e-5  # Keras's
    state = load_file(weights / FILE)
    model.load_state_dict({name: value.to(model.state_dict()[name].dtype) for name, value in state.items()})
    mean = tuple(colour / 255 for colour in (123.68, 116.779, 103.939))
    preprocess = Preprocess(resize=(224, 224), mean=mean, std=(1 / 255,) * 3)
    return Classifier(model.eval(), preprocess, imagenet(), model_id="ResNet-50 (Keras)")


class Jpeg:
    """A matplotlib figure as a notebook shows it, in a moderate number of bytes."""

    def __init__(self, figure, dpi=80):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        self.data = io.BytesIO()
        Image.open(buffer).convert("RGB").save(self.data, "JPEG", quality=82, optimize=True)

    def _repr_jpeg_(self):
        return self.data.getvalue()
