"""All modules of a model, once each."""

from torch import nn
from torchvision.models import resnet18

from mmexplain.modules import modules_of


def test_they_are_those_of_pytorch():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Sequential(shared, nn.ReLU()), resnet18())
    model.register_module("nothing", None)
    found = modules_of(model)
    assert len(found) == len(set(found)) and set(found) == set(model.modules())
