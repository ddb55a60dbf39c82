"""The one list of methods: what each is called, what it needs and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from mmexplain.errors import MethodError, did_you_mean
from mmexplain.methods import class_activation as cam
from mmexplain.methods.relu_rules import ReLURule

Space = Literal["layer", "pixel", "product", "attention"]


@dataclass(frozen=True)
class Method:
    """How a map is made from what the engine computes.

    Attributes:
        name: as the user writes it.
        summary: one line for people.
        paper: where it was published.
        space: "layer": a function of activations and gradients at a tapped layer; "pixel": the gradient at the
            model's input; "product": an upsampled layer map times a pixel gradient; "attention": the model's own.
        function: for "layer": ``(activations [B, 1, C, *S], gradients [B, K, C, *S]) → [B, K, *S]``.
        rule: backward rule of ReLU in the pass that makes the gradients.
        moments: the function takes :class:`~mmexplain.methods.class_activation.SoftmaxMoments` in place of gradients.
        factors: for "product": names of the layer method and the pixel method.
        needs: what the model must have, for people.
        cost: forward and backward passes for K targets, for people.
        signed: the raw map has meaningful negative values.
    """

    name: str
    summary: str
    paper: str
    space: Space
    function: Callable[..., Tensor] | None = None
    rule: ReLURule | None = None
    moments: bool = False
    factors: tuple[str, str] | None = None
    needs: str = "gradients"
    cost: str = "1 forward + K head backwards"
    signed: bool = False


_GRADCAM = "Selvaraju et al., ICCV 2017"
_PP = "Chattopadhay et al., WACV 2018"
_APPENDIX = "Selvaraju et al., ICCV 2017, appendix (Table A1)"
_GUIDED = "Springenberg et al., ICLR workshop 2015"
_DECONV = "Zeiler & Fergus, ECCV 2014"
_WHOLE = "1 forward + K whole backwards"

_METHODS = (
    Method("gradcam", "gradient-weighted class activation map", _GRADCAM, "layer", cam.gradcam),
    Method("gradcam++", "pixel-wise weighted gradients, eq. 19", _PP, "layer", cam.gradcam_pp),
    Method(
        "gradcam++-normalized",
        "Grad-CAM++ with α summing to 1 per channel, as the authors' code",
        _PP,
        "layer",
        cam.gradcam_pp_normalized,
    ),
    Method(
        "gradcam++-softmax",
        "Grad-CAM++ through the softmax, eqs 20-24",
        _PP,
        "layer",
        cam.gradcam_pp_softmax,
        moments=True,
        needs="gradients, softmax output",
        cost="1 forward + V head backwards per target (V likeliest classes)",
    ),
    Method(
        "counterfactual-gradcam",
        "regions whose removal would raise the score",
        _GRADCAM,
        "layer",
        cam.counterfactual_gradcam,
    ),
    Method(
        "cam",
        "class activation map",
        "Zhou et al., CVPR 2016",
        "layer",
        cam.cam,
        needs="global average pooling + one linear layer",
        signed=True,
    ),
    Method(
        "gradcam-no-relu",
        "Grad-CAM with negative evidence kept",
        _APPENDIX,
        "layer",
        partial(cam.gradcam, relu=False),
        signed=True,
    ),
    Method(
        "gradcam-absolute",
        "Grad-CAM with absolute gradients",
        _APPENDIX,
        "layer",
        partial(cam.gradcam, absolute=True),
    ),
    Method(
        "gradcam-max",
        "Grad-CAM with global max pooling of the gradients",
        _APPENDIX,
        "layer",
        partial(cam.gradcam, pooling="max"),
    ),
    Method(
        "gradcam-guided-relu",
        "Grad-CAM with guided ReLUs in the backward pass",
        _APPENDIX,
        "layer",
        cam.gradcam,
        rule="guided",
        needs="gradients, ReLU",
    ),
    Method(
        "gradcam-deconv-relu",
        "Grad-CAM with deconvnet ReLUs in the backward pass",
        _APPENDIX,
        "layer",
        cam.gradcam,
        rule="deconv",
        needs="gradients, ReLU",
    ),
    Method(
        "guided-backprop",
        "pixel gradient through guided ReLUs",
        _GUIDED,
        "pixel",
        rule="guided",
        needs="gradients, ReLU",
        cost=_WHOLE,
        signed=True,
    ),
    Method(
        "deconvnet",
        "pixel gradient through deconvnet ReLUs",
        _DECONV,
        "pixel",
        rule="deconv",
        needs="gradients, ReLU",
        cost=_WHOLE,
        signed=True,
    ),
    Method(
        "guided-gradcam",
        "Grad-CAM × guided backprop, in pixels",
        _GRADCAM,
        "product",
        factors=("gradcam", "guided-backprop"),
        needs="gradients, ReLU",
        cost="Grad-CAM + guided backprop",
        signed=True,
    ),
    Method(
        "deconv-gradcam",
        "Grad-CAM × deconvnet, in pixels",
        _GRADCAM,
        "product",
        factors=("gradcam", "deconvnet"),
        needs="gradients, ReLU",
        cost="Grad-CAM + deconvnet",
        signed=True,
    ),
    Method(
        "guided-gradcam++",
        "Grad-CAM++ × guided backprop, in pixels",
        _PP,
        "product",
        factors=("gradcam++", "guided-backprop"),
        needs="gradients, ReLU",
        cost="Grad-CAM++ + guided backprop",
        signed=True,
    ),
    Method(
        "attention",
        "the model's own attention while it said the word",
        "Xu et al., ICML 2015",
        "attention",
        needs="attention",
        cost="1 forward",
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
"""Every method by name, in the order in which they are listed to people."""

DEFAULT_METHOD = "gradcam"


def get(name: str) -> Method:
    """The method of that name.

    Raises:
        MethodError: there is none; the message offers the nearest names.
    """
    try:
        return METHODS[name]
    except KeyError:
        hint = did_you_mean(name, METHODS)
        raise MethodError(f"unknown method {name!r}{hint} (`mmexplain methods` lists them all)") from None


def select(names: Sequence[str]) -> list[Method]:
    """The methods of those names, without repetition."""
    return [get(name) for name in dict.fromkeys(names)]
