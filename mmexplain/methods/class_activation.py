"""Class activation maps: pure functions of activations and gradients at one layer.

Shapes, everywhere in this file: ``activations [B, 1, C, *S]``, ``gradients [B, K, C, *S]`` of K scores, maps
``[B, K, *S]``. S has two axes for photos, three for clips. Half-precision tensors are computed in float32: the sums
cancel, and the squares of small fp16 gradients are zero.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmexplain.errors import MethodError

Pooling = Literal["mean", "max"]


def _spatial(tensor: Tensor) -> tuple[int, ...]:
    return tuple(range(3, tensor.ndim))


def _exact(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _combine(weights: Tensor, activations: Tensor, relu: bool) -> Tensor:
    """Σ_k w_k A^k over channels; ``weights [B, K, C]``. A matrix product: no ``[B, K, C, *S]`` is formed."""
    shape = activations.shape
    maps: Tensor = torch.matmul(weights, activations.reshape(shape[0], shape[2], -1)).unflatten(-1, shape[3:])
    return maps.relu() if relu else maps


def gradcam(
    activations: Tensor,
    gradients: Tensor,
    *,
    relu: bool = True,
    absolute: bool = False,
    pooling: Pooling = "mean",
) -> Tensor:
    """Grad-CAM: α_k = (1/Z) Σ_ij ∂y/∂A^k_ij, L = ReLU(Σ_k α_k A^k).

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    eqs 1-2. The keywords are the ablations of its appendix (Table A1).

    Args:
        activations: ``[B, 1, C, *S]``.
        gradients: ``[B, K, C, *S]``.
        relu: keep only evidence for the target; False leaves the signed map.
        absolute: pool ``|∂y/∂A|`` instead of ∂y/∂A.
        pooling: "mean" as in eq. 1, or "max" (global max pooling of the gradients).

    Returns:
        Maps ``[B, K, *S]``, float32 (float64 for float64 input).
    """
    activations, gradients = _exact(activations), _exact(gradients)
    if absolute:
        gradients = gradients.abs()
    axes = _spatial(gradients)
    weights = gradients.mean(axes) if pooling == "mean" else gradients.amax(axes)
    return _combine(weights, activations, relu)


def counterfactual_gradcam(activations: Tensor, gradients: Tensor, *, relu: bool = True) -> Tensor:
    """Counterfactual Grad-CAM: α_k = (1/Z) Σ_ij −∂y/∂A^k_ij: the regions whose removal would raise y.

    Selvaraju et al., ICCV 2017, section 5.3 (eq. 3). Shapes as :func:`gradcam`.
    """
    return gradcam(activations, -gradients, relu=relu)


def cam(activations: Tensor, gradients: Tensor, *, relu: bool = False) -> Tensor:
    """CAM: L = Σ_k w_k^c A^k with the weights of the linear layer that follows global average pooling.

    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2. In such a network
    ∂y_c/∂A^k_ij = w_k^c / Z at every place, so the weights are read off the gradient, and a gradient that varies
    over the map shows that the network is not of this kind.

    Args:
        activations: ``[B, 1, C, *S]``, the input of the global average pooling.
        gradients: ``[B, K, C, *S]`` of class logits (not of probabilities).
        relu: False as published.

    Returns:
        Maps ``[B, K, *S]``.

    Raises:
        MethodError: the head is not global average pooling followed by one linear layer.
    """
    activations, gradients = _exact(activations), _exact(gradients)
    axes = _spatial(gradients)
    # For each input and target apart: a large gradient must not hide the spread of a small one.
    spread = (gradients.amax(axes) - gradients.amin(axes)).abs().amax(2)
    if (spread > 1e-3 * gradients.abs().flatten(2).amax(2)).any():
        raise MethodError(
            "CAM is defined only where global average pooling and one linear layer follow the tapped layer, which "
            "is not so here; use 'gradcam', which equals CAM there and works everywhere"
        )
    return _combine(gradients.sum(axes), activations, relu)


def gradcam_pp(activations: Tensor, gradients: Tensor, *, relu: bool = True, normalize_alpha: bool = False) -> Tensor:
    """Grad-CAM++: w_k = Σ_ij α^k_ij ReLU(∂Y/∂A^k_ij), L = ReLU(Σ_k w_k A^k), with Y = exp(y).

    Chattopadhay et al., "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks", WACV 2018,
    eqs 5, 10 and 19: α = g² / (2 g² + g³ Σ_ab A^k_ab) with g = ∂y/∂A. The exponential only scales the map, so it is
    never formed, and α is computed as 1 / (2 + g ΣA), which is the same wherever g ≠ 0 and does not underflow.

    Eq. 19 assumes that y is piecewise linear in A. The logit of a CNN with ReLUs is; log-probabilities and recurrent
    decoders are not, and there the map is an approximation.

    Args:
        activations: ``[B, 1, C, *S]``, not negative in the paper (after a ReLU).
        gradients: ``[B, K, C, *S]``.
        relu: keep only evidence for the target.
        normalize_alpha: divide α by its sum over each channel's places with positive gradient, as the authors'
            released code and the paper's Figure 2 do.

    Returns:
        Maps ``[B, K, *S]``.
    """
    activations, gradients = _exact(activations), _exact(gradients)
    axes = _spatial(gradients)
    positive = gradients.relu()
    denominator = 2 + positive * activations.sum(axes, keepdim=True)
    # Only a layer with negative activations can bring the denominator to zero; the authors' code puts 1 there.
    alpha = torch.where(gradients > 0, 1 / torch.where(denominator == 0, 1.0, denominator), 0.0)
    return _combine(_pp_weights(alpha, positive, normalize_alpha), activations, relu)


def gradcam_pp_normalized(activations: Tensor, gradients: Tensor, *, relu: bool = True) -> Tensor:
    """Grad-CAM++ as the authors released it: :func:`gradcam_pp` with α summing to 1 over each channel."""
    return gradcam_pp(activations, gradients, relu=relu, normalize_alpha=True)


class SoftmaxMoments(NamedTuple):
    """Moments Σ_v P_v δ_v, Σ_v P_v δ_v², Σ_v P_v δ_v³ under the softmax P, each ``[B, K, C, *S]``, of the differences
    δ_v = ∂S_v/∂A − ∂S_c/∂A between the logits' gradients and that of the target c's own logit. Differences, because
    for a confident model all that matters is in classes of small probability, and would be lost in a sum over all.

    Attributes:
        first: Σ_v P_v δ_v.
        second: Σ_v P_v δ_v².
        third: Σ_v P_v δ_v³.
    """

    first: Tensor
    second: Tensor
    third: Tensor


def gradcam_pp_softmax(activations: Tensor, moments: SoftmaxMoments, *, relu: bool = True) -> Tensor:
    """Grad-CAM++ with a softmax as the last link: Y = softmax(S)_c in place of exp(S_c).

    Chattopadhay et al., WACV 2018, eqs 20-24. With S piecewise linear in A and m_p the moments Σ_v P_v δ_v^p of
    :class:`SoftmaxMoments`, the derivatives of Y at one place are Y' = −Y m_1, Y'' = Y (2 m_1² − m_2) and
    Y''' = Y (6 m_1 m_2 − 6 m_1³ − m_3); α = Y'' / (2 Y'' + Y''' ΣA) and w = Σ α ReLU(Y'). Y cancels from α and scales
    the map, so it is left out. α has a pole where its denominator crosses zero, in the paper too.

    Args:
        activations: ``[B, 1, C, *S]``.
        moments: see :class:`SoftmaxMoments`.
        relu: keep only evidence for the target.

    Returns:
        Maps ``[B, K, *S]``, float32 (float64 for float64 input); the weights are computed in float64.
    """
    activations = _exact(activations)
    first, second, third = (moment.double() for moment in moments)
    total = activations.double().sum(_spatial(activations), keepdim=True)
    numerator = 2 * first.square() - second
    denominator = 2 * numerator + (6 * first * second - 6 * first.pow(3) - third) * total
    alpha = torch.where(denominator != 0, numerator / torch.where(denominator == 0, 1.0, denominator), 0.0)
    weights = _pp_weights(alpha, (-first).relu(), False)
    return _combine(weights.to(activations.dtype), activations, relu)


def _pp_weights(alpha: Tensor, positive: Tensor, normalize: bool) -> Tensor:
    axes = _spatial(alpha)
    weights = (alpha * positive).sum(axes)
    if normalize:
        total = torch.where(positive > 0, alpha, 0.0).sum(axes)
        weights = weights / torch.where(total == 0, 1.0, total)
    return weights
