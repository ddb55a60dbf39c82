"""Methods: pure functions from activations and gradients to maps, and the registry that lists them."""

from mmexplain.methods.class_activation import (
    SoftmaxMoments,
    cam,
    counterfactual_gradcam,
    gradcam,
    gradcam_pp,
    gradcam_pp_normalized,
    gradcam_pp_softmax,
)
from mmexplain.methods.method import Method
from mmexplain.methods.registry import DEFAULT_METHOD, METHODS, find, get, select
from mmexplain.methods.relu_rules import ReLURule, relu_rule
from mmexplain.methods.text import TEXT_METHODS, TextMethod

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "TEXT_METHODS",
    "Method",
    "ReLURule",
    "SoftmaxMoments",
    "TextMethod",
    "cam",
    "counterfactual_gradcam",
    "find",
    "get",
    "gradcam",
    "gradcam_pp",
    "gradcam_pp_normalized",
    "gradcam_pp_softmax",
    "relu_rule",
    "select",
]
