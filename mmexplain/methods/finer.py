"""Finer-CAM: Grad-CAM of what sets a class apart from those that the model finds alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmexplain.errors import MethodError
from mmexplain.methods.class_activation import _exact, gradcam

if TYPE_CHECKING:
    from mmexplain.probe import Probe
    from mmexplain.problem import Rows

WEIGHTS = ("mean", "softmax")


def finercam(probe: Probe, *, classes: int = 3, strength: float = 1.0, weights: str = "mean") -> dict[str, Tensor]:
    """Finer-CAM: Grad-CAM of y_c − γ Σ_d w_d y_d, where d are the classes whose logits are nearest to that of c.

    Zhang et al., "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation", CVPR 2025 (arXiv
    2501.11309). What is shared with similar classes cancels before the ReLU of Grad-CAM.

    The similar classes are chosen as the authors' code does: smallest ``|y_d − y_c|`` first, whether y_d is larger or
    smaller, the lower number first of two that are as near; the target itself is never among them (in the authors'
    code a class with the same logit may take its place). The paper compares with each class alike, w_d = 1 / n, the
    code's "Finer-Default". The code's later default, also that of pytorch-grad-cam, is weights ∝ softmax(y)_d. Here
    weights are numbers ("the logit minus γ times others"); there they are differentiated too.

    It differentiates logits, whatever score the explanation has. It assumes a softmax, and targets that are one
    outcome of it: a class, an answer, an action, a word of a caption.

    Cost: beside the forward pass that scores the targets another, and K backward passes through the head.

    Args:
        probe: the model.
        classes: how many similar classes, n; all others where there are fewer.
        strength: γ; 0 is Grad-CAM of the logit.
        weights: "mean" or "softmax".

    Returns:
        layer → ``[B, K, *S]``, float32 (float64 for a float64 model).

    Raises:
        MethodError: a target is a span, a caption or a contrast; the model has no softmax or a single class; a
            parameter is out of range.
    """
    if classes < 1 or not 0 <= strength < float("inf"):
        raise MethodError(
            f"finercam compares with 1 class or more at a strength of 0 or more, not classes={classes}, "
            f"strength={strength}"
        )
    if weights not in WEIGHTS:
        raise MethodError(f"finercam weighs classes by 'mean' or 'softmax', not {weights!r}")
    for target in (target for row in probe.targets for target in row):
        if len(target.ids) != 1 or target.versus is not None:
            raise MethodError(
                f"'finercam' needs targets that are one outcome of a softmax, not {target.label!r}; use 'gradcam', "
                "which takes spans and contrasts"
            )

    def score(output: Any, rows: Rows) -> Tensor:
        logits = probe.logits(output, rows)
        if logits is None or logits.shape[-1] < 2:
            raise MethodError("'finercam' needs a model that ends in a softmax over two classes or more; use 'gradcam'")
        return _distinctive(logits, rows, classes, strength, weights)

    owner = torch.arange(probe.batch, device=probe.inputs.device)
    found = probe.gradients(probe.inputs, owner, lambda _, a, g: {"map": gradcam(a, g)}, probe.layers, score=score)
    return {layer: named["map"] for layer, named in found.items()}


def _distinctive(logits: Tensor, rows: Rows, classes: int, strength: float, weights: str) -> Tensor:
    """y_c − γ Σ_d w_d y_d for logits ``[R, K, V]``, ``[R, K]``."""
    logits = _exact(logits)
    own = torch.tensor([[target.ids for target in row] for row in rows], device=logits.device)
    mine = logits.gather(-1, own)
    with torch.no_grad():
        distance = (logits - mine).abs().scatter(-1, own, float("inf"))
        similar = distance.argsort(dim=-1, stable=True)[..., : min(classes, logits.shape[-1] - 1)]
        share = torch.ones_like(similar, dtype=logits.dtype)
        if weights == "softmax":
            share = logits.gather(-1, similar)
            # Apart from the rest: their ratios are those of the whole softmax.
            share = share.softmax(-1)
        share = share / share.sum(-1, keepdim=True)
    others = (share * logits.gather(-1, similar)).sum(-1)
    return mine.squeeze(-1) - strength * others
