"""Score-CAM: channels weighed by what the model says of the photo where they are active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.errors import MethodError

if TYPE_CHECKING:
    from mmexplain.probe import Probe
    from mmexplain.problem import Rows, Score


def score_cam(probe: Probe, *, channels: int = 0, weights: str = "softmax") -> dict[str, Tensor]:
    """Score-CAM: L = ReLU(Σ_k α_k A^k), where α_k comes from the model's score of the photo masked with A^k.

    Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR workshops 2020.
    The mask is A^k upsampled bilinearly to the input and scaled to 0..1 by its minimum and maximum (eqs 5-6); the photo
    itself is multiplied by it, so that what is masked is black. The weights are, by ``weights``:

    * "softmax": the paper's algorithm 1, α = softmax over channels of the increase in score S(x ∘ mask_k) − S(black).
      S is the task's score (a logit, or what else is explained); the second term is the same for all channels and
      cancels, so it is never computed.
    * "probability": the authors' released code, α_k = the target's probability in x ∘ mask_k.

    A channel that is constant over the map has no mask and no weight. It assumes nothing of the model but a layer that
    puts out maps. Under "softmax" scores that differ by much leave all the weight to the best channel alone.

    Cost: one forward pass for each channel, as many as 2048; none for further targets.

    Args:
        probe: the model.
        channels: only so many of them, those with the largest variance over the map, have a weight; 0 stands for all.
        weights: see above.

    Returns:
        Layer → ``[B, K, *S]`` float32 (float64 for a layer in float64).

    Raises:
        MethodError: a negative number of channels, other weights, or a model without probabilities.
        LayerError: a layer puts out no map.
    """
    if channels < 0:
        raise MethodError(f"channels of Score-CAM is 1 or more, or 0 for all, not {channels}")
    if weights not in ("softmax", "probability"):
        raise MethodError(f"weights of Score-CAM is 'softmax' or 'probability', not {weights!r}")
    score = _probability(probe) if weights == "probability" else None
    return {layer: _map(probe, _exact(maps), channels, score) for layer, maps in probe.activations.items()}


def _map(probe: Probe, maps: Tensor, channels: int, score: Score | None) -> Tensor:
    """``[B, K, *S]`` of a layer's ``[B, C, *S]``."""
    owners, numbers = _chosen(maps, channels).nonzero().unbind(1)
    nothing = 0.0 if score else -torch.inf
    weights = torch.full((*maps.shape[:2], probe.count), nothing, device=maps.device)
    for part in probe.parts(len(owners)):
        owner, number = owners[part], numbers[part]
        weights[owner, number] = probe.score(_masked(probe, maps[owner, number], owner), owner, score)
    if score is None:
        weights = weights.softmax(1).nan_to_num(0.0)  # not a number where all channels are constant
    combined: Tensor = torch.matmul(weights.transpose(1, 2).to(maps.dtype), maps.flatten(2)).unflatten(
        -1, maps.shape[2:]
    )
    return combined.relu()


def _exact(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _chosen(maps: Tensor, channels: int) -> Tensor:
    """``[B, C]`` bool: the channels that are masks."""
    flat = maps.flatten(2)
    usable = flat.amax(2) > flat.amin(2)
    if not 0 < channels < flat.shape[1]:
        return usable
    largest = flat.var(2, correction=0).topk(channels, dim=1).indices
    return usable & torch.zeros_like(usable).scatter(1, largest, True)


def _masked(probe: Probe, maps: Tensor, owner: Tensor) -> Tensor:
    """The owners' inputs ``[r, C, *P]``, darkened where the maps ``[r, *S]`` are low."""
    inputs = probe.inputs[owner]
    mode = "bilinear" if maps.ndim == 3 else "trilinear"
    masks = functional.interpolate(maps[:, None], size=inputs.shape[2:], mode=mode)
    axes = tuple(range(1, masks.ndim))
    low, high = masks.amin(axes, keepdim=True), masks.amax(axes, keepdim=True)
    share = torch.where(high > low, (masks - low) / (high - low), 0.0).to(inputs.dtype)
    return probe.black + share * (inputs - probe.black)


def _probability(probe: Probe) -> Score:
    def score(output: Any, rows: Rows) -> Tensor:
        found = probe.probability(output, rows)
        if found is None:
            raise MethodError("weights='probability' needs a model with probabilities; use weights='softmax'")
        return found

    return score
