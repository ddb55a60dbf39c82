"""A ResNet-50 with the ImageNet weights of Keras in torchvision's architecture."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from torchvision.models import resnet50

from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification.labels import imagenet
from mmexplain.tasks.classification.task import Classifier

FILE = "resnet50/resnet50_keras_v1_rgb_fp16.safetensors"


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
