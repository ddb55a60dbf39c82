"""Whether global average pooling and one linear layer are all that follows a layer, as CAM takes for granted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmexplain.engine import run
from mmexplain.errors import MethodError
from mmexplain.exchange import exchanged
from mmexplain.problem import Problem, Rows
from mmexplain.taps import resolve

SCALE = -7.0
"""Other activations to try: the sign turns most units of a hidden layer on or off, the size outweighs their biases."""


def require_linear_head(problem: Problem, targets: Rows, layers: Sequence[str], *, memory: int) -> None:
    """Raise a MethodError unless the scores are affine in the layers' outputs.

    A gradient that is the same all over the map shows global average pooling, but not what follows it: after a hidden
    layer it depends on the photo. So it is taken for other activations as well; CAM's weights belong to the class.
    """

    def weights(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
        return {"weights": gradients.flatten(3).mean(3)}

    for layer in resolve(problem.model, layers):
        here = run(problem, targets, [layer], weights, memory=memory).reduced[layer]["weights"]
        with exchanged(problem.model, layer, lambda value: SCALE * value):
            there = run(problem, targets, [layer], weights, memory=memory).reduced[layer]["weights"]
        if ((here - there).abs().amax(2) > 1e-3 * here.abs().amax(2)).any():
            raise MethodError(
                f"'cam' is defined only where global average pooling and one linear layer follow the tapped layer; "
                f"more than that follows {layer!r}: use 'gradcam', which works everywhere"
            )
