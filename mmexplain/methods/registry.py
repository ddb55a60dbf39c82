"""The one list of methods: what each is called, what it needs and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mmexplain.errors import MethodError, did_you_mean
from mmexplain.methods import class_activation as cam
from mmexplain.methods.ablation_cam import ablation_cam
from mmexplain.methods.attention import attention_relevance, attention_rollout, legrad_final
from mmexplain.methods.elementwise import fused, hirescam, layercam, xgradcam
from mmexplain.methods.excitation import c_mwp, excitation_backprop
from mmexplain.methods.finer import finercam
from mmexplain.methods.method import Method, parse
from mmexplain.methods.noise import smooth_gradcam_pp, smoothgrad, vargrad
from mmexplain.methods.occlusion import occlusion
from mmexplain.methods.path import integrated_gradients
from mmexplain.methods.pixel import input_x_gradient, saliency
from mmexplain.methods.principal import eigencam, eigengradcam
from mmexplain.methods.rise import rise
from mmexplain.methods.score_cam import score_cam

_GRADCAM = "Selvaraju et al., ICCV 2017"
_PP = "Chattopadhay et al., WACV 2018"
_APPENDIX = "Selvaraju et al., ICCV 2017, appendix (Table A1)"
_LAYERCAM = "Jiang et al., IEEE TIP 2021"
_GUIDED = "Springenberg et al., ICLR workshop 2015"
_DECONV = "Zeiler & Fergus, ECCV 2014"
_MWP = "Zhang et al., ECCV 2016"
_WHOLE = "1 forward + K whole backwards"
_NOISY = "N forwards + N·K whole backwards (N noisy samples)"

_METHODS = (
    Method("gradcam", "gradient-weighted class activation map", _GRADCAM, "layer", cam.gradcam, pooled=True),
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
        pooled=True,
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
        "hirescam",
        "gradient × activation, summed over channels",
        "Draelos & Carin, arXiv 2020",
        "layer",
        hirescam,
        signed=True,
    ),
    Method(
        "layercam",
        "positive gradient × activation: sharp at early layers too",
        _LAYERCAM,
        "layer",
        layercam,
    ),
    Method(
        "layercam-fused",
        "LayerCAM of all given layers, scaled, the largest at each place",
        _LAYERCAM,
        "fused",
        fused,
        factors=("layercam",),
    ),
    Method(
        "xgradcam",
        "Grad-CAM with gradients weighted by each channel's activations",
        "Fu et al., BMVC 2020",
        "layer",
        xgradcam,
    ),
    Method(
        "eigencam",
        "first principal component of the activations, of no target",
        "Muhammad & Yeasin, IJCNN 2020",
        "layer",
        eigencam,
        pooled=True,
        needs="a layer with maps",
        signed=True,
    ),
    Method(
        "eigengradcam",
        "first principal component of gradient × activation",
        "Gildenblat et al., pytorch-grad-cam 2021",
        "layer",
        eigengradcam,
        signed=True,
    ),
    Method(
        "finercam",
        "Grad-CAM of what sets a class apart from similar ones",
        "Zhang et al., CVPR 2025",
        "probe",
        finercam,
        needs="gradients, softmax output",
        cost="2 forwards + K head backwards",
        at_layers=True,
        parameters={"classes": 3, "strength": 1.0, "weights": "mean"},
    ),
    Method(
        "gradcam-no-relu",
        "Grad-CAM with negative evidence kept",
        _APPENDIX,
        "layer",
        partial(cam.gradcam, relu=False),
        pooled=True,
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
        "saliency",
        "how fast the score moves with each pixel",
        "Simonyan et al., ICLR workshop 2014",
        "pixel",
        saliency,
        cost=_WHOLE,
        grainy=True,
    ),
    Method(
        "input-x-gradient",
        "pixel gradient times the input",
        "Shrikumar et al. 2016",
        "pixel",
        input_x_gradient,
        cost=_WHOLE,
        signed=True,
        grainy=True,
    ),
    Method(
        "integrated-gradients",
        "gradients added up on the way from a black photo; the record tells how well the map adds up",
        "Sundararajan et al., ICML 2017",
        "probe",
        integrated_gradients,
        cost="N + 1 forwards + N·K whole backwards (N steps)",
        signed=True,
        grainy=True,
        parameters={"steps": 128, "baseline": "black"},
    ),
    Method(
        "smoothgrad",
        "mean of the pixel gradients at noisy copies",
        "Smilkov et al., ICML workshop 2017",
        "probe",
        smoothgrad,
        cost=_NOISY,
        signed=True,
        colour=True,
        parameters={"samples": 50, "noise": 0.15},
    ),
    Method(
        "vargrad",
        "variance of the pixel gradients at noisy copies",
        "Adebayo et al., ICLR workshop 2018",
        "probe",
        vargrad,
        cost=_NOISY,
        grainy=True,
        parameters={"samples": 50, "noise": 0.15},
    ),
    Method(
        "smoothgrad-cam++",
        "Grad-CAM++ with derivatives averaged over noisy copies",
        "Omeiza et al. 2019",
        "probe",
        smooth_gradcam_pp,
        cost="N + 1 forwards + N·K head backwards (N noisy samples)",
        at_layers=True,
        parameters={"samples": 50, "noise": 0.15},
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
        colormap="red-blue",
        parameters={"patch": 35, "stride": 0, "frames": 8, "fill": "grey"},
    ),
    Method(
        "rise",
        "what the score gains where a pixel is kept by random masks",
        "Petsiuk et al., BMVC 2018",
        "probe",
        rise,
        needs="nothing",
        cost="1 forward per mask",
        signed=True,
        parameters={"masks": 1000, "grid": 7, "keep": 0.5, "steps": 4, "centre": True},
    ),
    Method(
        "scorecam",
        "channels weighed by the score of the photo masked with them",
        "Wang et al., CVPR workshops 2020",
        "probe",
        score_cam,
        needs="a layer with maps",
        cost="1 forward per channel",
        at_layers=True,
        parameters={"channels": 0, "weights": "softmax"},
    ),
    Method(
        "ablationcam",
        "channels weighed by what the score loses without them",
        "Desai & Ramaswamy, WACV 2020",
        "probe",
        ablation_cam,
        needs="a layer with maps",
        cost="1 head forward per channel",
        at_layers=True,
    ),
    Method(
        "excitation-backprop",
        "probability handed down from the target to what excited it",
        _MWP,
        "probe",
        excitation_backprop,
        needs="a CNN with ReLUs",
        cost=_WHOLE,
        at_layers=True,
    ),
    Method(
        "c-mwp",
        "excitation backprop of the target less that of its opposite",
        _MWP,
        "probe",
        c_mwp,
        needs="a CNN with ReLUs",
        cost="2 forwards + 2 K whole backwards",
        at_layers=True,
    ),
    Method(
        "attention-rollout",
        "attention of all layers multiplied up to the class token",
        "Abnar & Zuidema, ACL 2020",
        "probe",
        attention_rollout,
        needs="self-attention over the photo (ViT)",
        cost="1 forward + K head backwards",
        parameters={"heads": "mean"},
    ),
    Method(
        "attention-relevance",
        "the same with attention weighed by its positive gradient",
        "Chefer et al., ICCV 2021",
        "probe",
        attention_relevance,
        needs="self-attention over the photo (ViT)",
        cost=_WHOLE,
    ),
    Method(
        "legrad-final",
        "positive gradient at the attention of all layers, of the final score",
        "after Bousselham et al., ICCV 2025",
        "probe",
        legrad_final,
        needs="self-attention over the photo (ViT)",
        cost=_WHOLE,
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
