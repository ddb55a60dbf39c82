"""Ablation-CAM: channels weighed by what the score loses without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmexplain.probe import Probe

_LEAST = 1e-6
"""Least score that weights are divided by: the map of a score near zero is finite."""


def ablation_cam(probe: Probe) -> dict[str, Tensor]:
    """Ablation-CAM: ``w_k = (y − y_k) / |y|``, L = ReLU(Σ_k w_k A^k), where y_k is the score with A^k set to zero.

    Desai & Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
    Localization", WACV 2020, eqs 5-7. The paper divides by y, which is positive there. It only scales the map of a
    target; but the sign of a negative y (any log-probability, many a logit) would turn evidence into its opposite, so
    its magnitude is taken, and no less than 1e-6. For y > 0 the weights are the paper's.

    What is set to zero is the map: class and register tokens keep the channel. It assumes that zero means "absent" at
    the layer, as it does after a ReLU. Layers with frames as rows are refused.

    Cost: for each channel, as many as 2048, one forward pass of what follows the layer; where a branch goes round the
    layer and several inputs are explained at once, of the whole model. None for further targets.

    Args:
        probe: the model.

    Returns:
        Layer → ``[B, K, *S]`` float32 (float64 for a layer in float64).

    Raises:
        LayerError: a layer puts out no map, or has not one row per input.
    """
    return {layer: _map(probe, layer) for layer in probe.layers}


def _map(probe: Probe, layer: str) -> Tensor:
    """``[B, K, *S]``."""
    reader, maps = probe.readers[layer], probe.activations[layer]
    maps = maps if maps.dtype == torch.float64 else maps.float()
    count = maps.shape[1]
    left = []
    for part in probe.parts(probe.batch * count):
        owner, numbers = probe.rows(count, part)

        def without(value: Tensor, some: slice, numbers: Tensor = numbers) -> Tensor:
            value = value.clone()
            # What a reader returns is a view.
            reader(value)[torch.arange(len(value), device=value.device), numbers[some]] = 0
            return value

        left.append(probe.score_layer(layer, without, owner))
    scores = probe.scores[:, None]
    weights = (scores - torch.cat(left).unflatten(0, (probe.batch, count))) / scores.abs().clamp(min=_LEAST)
    combined: Tensor = torch.matmul(weights.transpose(1, 2).to(maps.dtype), maps.flatten(2)).unflatten(
        -1, maps.shape[2:]
    )
    return combined.relu()
