"""Methods: pure functions from activations and gradients to maps, and the registry that lists them."""

from mmexplain.methods.ablation_cam import ablation_cam
from mmexplain.methods.attention import attention_relevance, attention_rollout, legrad_final
from mmexplain.methods.class_activation import (
    SoftmaxMoments,
    cam,
    counterfactual_gradcam,
    gradcam,
    gradcam_pp,
    gradcam_pp_normalized,
    gradcam_pp_softmax,
)
from mmexplain.methods.elementwise import fused, hirescam, layercam, xgradcam
from mmexplain.methods.excitation import c_mwp, excitation_backprop
from mmexplain.methods.finer import finercam
from mmexplain.methods.method import Method
from mmexplain.methods.noise import smooth_gradcam_pp, smoothgrad, vargrad
from mmexplain.methods.occlusion import occlusion
from mmexplain.methods.path import integrated_gradients
from mmexplain.methods.pixel import input_x_gradient, saliency
from mmexplain.methods.principal import eigencam, eigengradcam
from mmexplain.methods.registry import DEFAULT_METHOD, METHODS, find, get, select
from mmexplain.methods.relu_rules import ReLURule, relu_rule
from mmexplain.methods.rise import rise
from mmexplain.methods.score_cam import score_cam
from mmexplain.methods.text import TEXT_METHODS, TextMethod

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "TEXT_METHODS",
    "Method",
    "ReLURule",
    "SoftmaxMoments",
    "TextMethod",
    "ablation_cam",
    "attention_relevance",
    "attention_rollout",
    "c_mwp",
    "cam",
    "counterfactual_gradcam",
    "eigencam",
    "eigengradcam",
    "excitation_backprop",
    "find",
    "finercam",
    "fused",
    "get",
    "gradcam",
    "gradcam_pp",
    "gradcam_pp_normalized",
    "gradcam_pp_softmax",
    "hirescam",
    "input_x_gradient",
    "integrated_gradients",
    "layercam",
    "legrad_final",
    "occlusion",
    "relu_rule",
    "rise",
    "saliency",
    "score_cam",
    "select",
    "smooth_gradcam_pp",
    "smoothgrad",
    "vargrad",
    "xgradcam",
]
