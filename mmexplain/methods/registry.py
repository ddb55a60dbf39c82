"""The one list of methods: what each is called, what it needs and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mmexplain.errors import MethodError, did_you_mean
from mmexplain.methods import class_activation as cam
from mmexplain.methods.method import Method, parse
from mmexplain.methods.occlusion import occlusion

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
        colour=True,
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
        colour=True,
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
        colour=True,
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
        colour=True,
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
        colour=True,
    ),
    Method(
        "occlusion",
        "what the score loses when a patch is covered",
        "Zeiler & Fergus, ECCV 2014",
        "probe",
        occlusion,
        needs="nothing",
        cost="1 forward per position of the patch",
        signed=True,
        parameters={"patch": 35, "stride": 0, "frames": 8, "fill": "grey"},
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


def find(name: str) -> Method | None:
    """The method that a map's name tells, parameters and all; None for a name that is not of this version."""
    try:
        return get(name)
    except MethodError:
        return None


def get(name: str) -> Method:
    """The method of that name, which may be written with parameters.

    Raises:
        MethodError: there is none, and the message offers the nearest names; or its parameters are wrong.
    """
    methods = _opened(name)
    if len(methods) != 1:
        raise MethodError(f"{name!r} names {len(methods)} methods where one is wanted")
    return methods[0]


def select(names: str | Sequence[str]) -> list[Method]:
    """The methods of those names, without repetition. ``"occlusion(patch=[15, 35])"`` names two.

    Raises:
        MethodError: see :func:`get`.
    """
    opened = [method for name in ([names] if isinstance(names, str) else names) for method in _opened(name)]
    return list({method.name: method for method in opened}.values())


def _opened(text: str) -> list[Method]:
    name, rows = parse(text)
    if name not in METHODS:
        hint = did_you_mean(name, METHODS)
        raise MethodError(f"unknown method {name!r}{hint} (`mmexplain methods` lists them all)")
    return [METHODS[name].given(row) for row in rows]
