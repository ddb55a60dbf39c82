"""Class activation maps of gradient × activation, place by place: pure functions as in :mod:`.class_activation`.

Shapes: ``activations [B, 1, C, *S]``, ``gradients [B, K, C, *S]`` of K scores, maps ``[B, K, *S]``, float32 (float64
for float64 input). Targets are gone through one after the other: nothing of the gradients' size is copied.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.methods.class_activation import _combine, _exact


def hirescam(activations: Tensor, gradients: Tensor, *, relu: bool = False) -> Tensor:
    """HiResCAM: L = Σ_k ∂y/∂A^k ⊙ A^k.

    Draelos & Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    arXiv 2011.08891, 2020. Where one linear layer follows the tapped layer, with or without pooling, the map sums to
    the score less the bias: it shows all that the score is made of. Elsewhere it is gradient × activation.

    Args:
        activations: ``[B, 1, C, *S]``.
        gradients: ``[B, K, C, *S]``.
        relu: keep only evidence for the target.

    Returns:
        Maps ``[B, K, *S]``.
    """
    maps = _each(activations, gradients, lambda a, g: (g * a).sum(1))
    return maps.relu() if relu else maps


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM: L = ReLU(Σ_k ReLU(∂y/∂A^k) ⊙ A^k).

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021. A weight
    for each place, and not for each channel, keeps maps of early layers clean. The outer ReLU matters only where
    activations are negative. Shapes as :func:`hirescam`.
    """
    return _each(activations, gradients, lambda a, g: (g.relu() * a).sum(1)).relu()


def xgradcam(activations: Tensor, gradients: Tensor, *, relu: bool = True) -> Tensor:
    """XGrad-CAM: w_k = Σ_ij (A^k_ij / Σ_ab A^k_ab) ∂y/∂A^k_ij, L = ReLU(Σ_k w_k A^k).

    Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020. It assumes
    activations after a ReLU. A channel whose activations sum to exactly 0 has weight 0: after a ReLU it is dead and
    adds nothing whatever its weight. No constant is added to the sum, so that faint channels keep their weight; before
    a ReLU, activations that nearly cancel make a weight large, as the formula says. Shapes as :func:`hirescam`.

    Args:
        activations: ``[B, 1, C, *S]``.
        gradients: ``[B, K, C, *S]``.
        relu: keep only evidence for the target.

    Returns:
        Maps ``[B, K, *S]``.
    """
    activations = _exact(activations)
    flat = activations.flatten(3)
    total = flat.sum(3, keepdim=True)
    # Shares and not a quotient of sums: the product of a faint channel with a small gradient would be zero.
    shares = torch.where(total == 0, 0.0, flat / torch.where(total == 0, 1.0, total))
    weights = _each(shares, gradients.flatten(3), lambda a, g: (g * a).sum(2))
    return _combine(weights, activations, relu)


GAMMA = 2.0
"""How strongly small values of shallow layers are raised before maps are fused."""


def fused(maps: list[Tensor]) -> Tensor:
    """LayerCAM of several layers: the largest, place by place, of the layers' maps, scaled and on one grid.

    Jiang et al., IEEE TIP 2021, eq. 9 and its text. Each map is divided by its maximum; those of shallow layers, whose
    values are mostly far below their maximum, become tanh(γ M / max M), γ = 2. Shallow is what has a finer grid than
    the coarsest of the layers given: the paper, with VGG-16, takes the first three of five stages. Then the maps are
    upsampled (bilinear, for clips trilinear) to the largest grid, and the largest value stands at each place.

    Values are from 0 to 1, so unlike those of other methods they cannot be compared between targets. The map of a
    single layer is handed back as it is.

    Args:
        maps: ``[B, K, *S]`` of each layer, not negative.

    Returns:
        ``[B, K, *S]`` on the largest grid.
    """
    if len(maps) == 1:
        return maps[0]
    size = [max(sides) for sides in zip(*(one.shape[2:] for one in maps), strict=True)]
    coarsest = min(one[0, 0].numel() for one in maps)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    found: Tensor | None = None
    for one in maps:
        top = one.amax(tuple(range(2, one.ndim)), keepdim=True)
        scaled = one / torch.where(top == 0, 1.0, top)
        if one[0, 0].numel() > coarsest:
            scaled = torch.tanh(GAMMA * scaled)
        if list(one.shape[2:]) != size:
            scaled = functional.interpolate(scaled, size=size, mode=mode)
        found = scaled if found is None else torch.maximum(found, scaled)
    assert found is not None
    return found


def _each(activations: Tensor, gradients: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``function([B, C, ...], [B, C, ...])`` of the activations and each target's gradients, ``[B, K, ...]``."""
    own = _exact(activations).squeeze(1)
    return torch.stack([function(own, _exact(gradients[:, k])) for k in range(gradients.shape[1])], 1)
