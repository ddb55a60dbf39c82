"""Learning from explanations: a loss that asks a student to look where its teacher looks."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmexplain.engine import run
from mmexplain.errors import InputError, MethodError
from mmexplain.methods.method import Method
from mmexplain.methods.registry import get
from mmexplain.problem import Problem, Rows
from mmexplain.targets import Target

Scale = Literal["raw", "unit"]


class Maps(NamedTuple):
    """Maps of one class for each photo, and what the model said.

    Attributes:
        maps: ``[B, h, w]``, in the layer's grid, not normalised.
        logits: ``[B, N]``, without a graph.
    """

    maps: Tensor
    logits: Tensor


class ExplanationLoss(nn.Module):
    """‖L_s − L_t‖², the squared distance of a student's map of the true class from its teacher's, mean over photos.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 5: a student is trained by cross entropy + α times this, with
    α = .01. The sum of squares runs over the places of the map. Grad-CAM++ maps come without the factor exp(y) of eq. 1
    (:func:`mmexplain.methods.gradcam_pp`): it would weigh photos by the exponential of their logits.

    Each map is that of its photo alone: models are run in eval mode, so that batch norm mixes no photos, and come back
    as they were. Gradients reach all of the student's weights (through its gradients: second order), and the teacher
    gets none. It keeps no model, so that it can be used like any criterion::

        explanations = ExplanationLoss("relu")
        loss = cross_entropy(student(photos), classes) + 0.01 * explanations(student, teacher, photos, classes)

    Args:
        layer: dotted name of the student's layer.
        teacher_layer: of the teacher's; the same name if None.
        method: a map that can be differentiated: one of a layer's activations and gradients, such as "gradcam" and
            "gradcam++".
        scale: "raw" as published, or "unit": each map is divided by its length, so that only its shape counts and the
            loss is 2 − 2 cos (Parchami-Araghi et al., "Good Teachers Explain", ECCV 2024, maximise that cosine).

    Raises:
        MethodError: no such method, or one whose maps cannot be trained through.
        InputError: no such scale.
    """

    def __init__(
        self, layer: str, teacher_layer: str | None = None, *, method: str = "gradcam++", scale: Scale = "raw"
    ) -> None:
        super().__init__()
        if scale not in get_args(Scale):
            raise InputError(f"unknown scale {scale!r}; there are: {', '.join(get_args(Scale))}")
        self.layer, self.teacher_layer = layer, layer if teacher_layer is None else teacher_layer
        self.method, self.scale = trainable(method).name, scale

    def forward(self, student: nn.Module, teacher: nn.Module, photos: Tensor, classes: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            student: photos → logits ``[B, N]``.
            teacher: the same; it may have maps of another size.
            photos: ``[B, 3, h, w]``, as both models take them.
            classes: ``[B]``, the true class of each.

        Raises:
            LayerError, ModelError, TargetError: see :func:`mmexplain.engine.run`.
        """
        wanted = class_maps(teacher, photos, classes, self.teacher_layer, self.method).maps
        return self.distance(self.student_maps(student, photos, classes), wanted)

    def student_maps(self, student: nn.Module, photos: Tensor, classes: Tensor) -> Tensor:
        """Maps ``[B, h, w]`` that can be trained through."""
        return class_maps(student, photos, classes, self.layer, self.method, create_graph=True).maps

    def distance(self, maps: Tensor, wanted: Tensor) -> Tensor:
        """The loss of maps ``[B, h, w]`` that are to be ``wanted [B, H, W]``; smaller or larger ones are resized to
        that."""
        if maps.shape[1:] != wanted.shape[1:]:
            maps = resized(maps, wanted)
        if self.scale == "unit":
            # A map of zeros has no shape: it stays as it is.
            maps, wanted = (functional.normalize(one.flatten(1), eps=1e-6) for one in (maps, wanted))
        return (maps - wanted.to(maps)).square().flatten(1).sum(1).mean()


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Maps ``[B, h, w]`` bilinearly in the grid of ``like [B, H, W]``."""
    larger: Tensor = functional.interpolate(maps.unsqueeze(1), size=like.shape[1:], mode="bilinear").squeeze(1)
    return larger


def trainable(name: str) -> Method:
    """The method of that name, if its maps can be trained through.

    Raises:
        MethodError: no such method, or its maps are no differentiable function of a layer's activations and gradients.
    """
    method = get(name)
    if method.space != "layer" or method.moments or method.rule or method.name.startswith("eigen"):
        # The principal components of Eigen-CAM have no derivative where two of them are as strong.
        raise MethodError(f"maps of {name!r} cannot be trained through; use 'gradcam++' or 'gradcam'")
    return method


def class_maps(
    model: nn.Module,
    photos: Tensor,
    classes: Tensor,
    layer: str,
    method: str = "gradcam++",
    *,
    create_graph: bool = False,
) -> Maps:
    """Maps of one class of each photo of a batch, in one forward pass.

    Args:
        model: photos → logits ``[B, N]``; run in eval mode.
        photos: ``[B, 3, h, w]``.
        classes: ``[B]``.
        layer: dotted name.
        method: see :func:`trainable`.
        create_graph: keep the graph, so that the maps can be trained through.

    Raises:
        MethodError: no such method, or one whose maps cannot be trained through.
        LayerError, ModelError, TargetError: see :func:`mmexplain.engine.run`.
    """
    function = trainable(method).function
    assert function is not None
    own = classes.unsqueeze(1)

    def score(output: Tensor, _: Rows) -> Tensor:
        return output.gather(1, own)

    problem = Problem(
        model, lambda inputs: model(inputs["photos"]), lambda logits, _: logits, score, {"photos": photos}
    )
    rows = [[Target(str(number), "class", (number,))] for number in classes.tolist()]
    result = run(
        problem,
        rows,
        [layer],
        lambda _, activations, gradients: {"map": function(activations, gradients)},
        # One target for each photo: the reference strategy has nothing to repeat.
        strategy="loop",
        create_graph=create_graph,
    )
    assert result.features is not None
    return Maps(result.reduced[layer]["map"].squeeze(1), result.features)


@torch.no_grad()
def alike(maps: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation over places of each map ``[B, h, w]`` with the other of its photo ``[B, H, W]``.

    It is not the cosine because maps without negative values have large ones, whatever they show.

    Returns:
        ``[B]`` float64, NaN where either map is the same everywhere.
    """
    if maps.shape[1:] != others.shape[1:]:
        maps = resized(maps, others)
    first, second = (one.flatten(1) - one.flatten(1).mean(1, keepdim=True) for one in (maps.double(), others.double()))
    lengths = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(lengths > 1e-12, (first * second).sum(1) / lengths, torch.nan)
