"""Students that learn from the maps of their teachers."""

from mmexplain.studies.distil.explanation_loss import ExplanationLoss
from mmexplain.studies.distil.study import Setup, distil
from mmexplain.studies.distil.wide_resnet import WideResNet

__all__ = ["ExplanationLoss", "Setup", "WideResNet", "distil"]
