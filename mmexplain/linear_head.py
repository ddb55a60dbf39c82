"""Whether global average pooling and one linear layer are all that follows a layer, as CAM takes for granted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mmexplain.engine import run
from mmexplain.errors import MethodError
from mmexplain.problem import Problem, Rows
from mmexplain.taps import LayerName, first_tensor, replace_tensor, resolve

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
        with _scaled(problem.model, layer):
            there = run(problem, targets, [layer], weights, memory=memory).reduced[layer]["weights"]
        if ((here - there).abs().amax(2) > 1e-3 * here.abs().amax(2)).any():
            raise MethodError(
                f"'cam' is defined only where global average pooling and one linear layer follow the tapped layer; "
                f"more than that follows {layer!r}: use 'gradcam', which works everywhere"
            )


@contextmanager
def _scaled(model: nn.Module, layer: str) -> Iterator[None]:
    """The layer puts out :data:`SCALE` times its output, in this thread."""
    thread = threading.get_ident()

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        value = first_tensor(output)
        if value is None or threading.get_ident() != thread:
            return None
        return replace_tensor(output, value, SCALE * value)

    handle = model.get_submodule(LayerName.parse(layer).module).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
