"""Maps of the gradient at the photo itself: pure functions of the model's input and the gradient there.

Shapes: ``inputs [B, 1, C, *P]``, ``gradients [B, K, C, *P]`` of K scores, maps ``[B, K, *P]``. P has two axes for
photos, three for clips. Half-precision tensors are computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def saliency(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Saliency: ``M = max_c |∂S/∂x_c|``, how fast the score moves with each pixel, in whichever direction.

    Simonyan, Vedaldi & Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models and
    Saliency Maps", ICLR workshop 2014, section 3.1. It assumes that the score is differentiable at the photo.

    Cost: one forward pass and K backward passes through the whole model, shared with all methods that take plain
    gradients.

    Args:
        inputs: ``[B, 1, C, *P]``; not looked at.
        gradients: ``[B, K, C, *P]``.

    Returns:
        Maps ``[B, K, *P]`` ≥ 0, float32 (float64 for float64 input).
    """
    return gradients.to(_wide(gradients)).abs().amax(2)


def input_x_gradient(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Input × gradient: M = Σ_c x_c · ∂S/∂x_c, the first-order part of S(x) − S(0).

    Shrikumar, Greenside, Shcherbina & Kundaje, "Not Just a Black Box: Learning Important Features Through Propagating
    Activation Differences", 2016 (arXiv:1605.01713), section 2. x is what the model sees, after normalisation: a pixel
    of the mean colour is zero and gets no part. For a network of ReLUs without biases the map sums to S(x).

    Cost: as :func:`saliency`.

    Args:
        inputs: ``[B, 1, C, *P]``.
        gradients: ``[B, K, C, *P]``.

    Returns:
        Signed maps ``[B, K, *P]``, float32 (float64 for float64 input).
    """
    kind = _wide(gradients)
    return (inputs.to(kind) * gradients.to(kind)).sum(2)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
