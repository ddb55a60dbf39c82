"""Excitation backprop: a probability that winners hand down to the units that excited them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmexplain.errors import MethodError
from mmexplain.methods.excitation_rules import excitation

if TYPE_CHECKING:
    from mmexplain.probe import Probe
    from mmexplain.problem import Rows

HALF_SCALE = 2.0**15
"""Probabilities over many units are too small for float16; they are carried times this."""


def excitation_backprop(probe: Probe) -> dict[str, Tensor]:
    """Excitation backprop: the marginal winning probability (MWP) of the layer's places, when the target wins.

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016 (IJCV 2018), eqs 1-5. The target's
    logit has probability 1; each winner picks its parent j with P(a_j | a_i) ∝ x_j w⁺_ij; a place's probability is
    the sum over its channels. It sums to 1 over the map as long as every winner on the way has a positive parent.

    It assumes a CNN of convolutions, linear layers, ReLUs, pooling, batch norm and sums of branches, see
    :class:`~mmexplain.methods.excitation_rules.excitation`, whose score is one of its logits.

    Cost: 1 forward pass and K backward passes at most twice as long as usual.

    Args:
        probe: the model.

    Returns:
        layer → ``[B, K, *S]`` float32 (float64 for a model in float64), not negative.

    Raises:
        MethodError: the model runs something else behind the layer, or a target is a contrast of two.
        LayerError, ModelError, DeviceError: see :func:`mmexplain.engine.run`.
    """
    return _winning(probe, negate=False)


def c_mwp(probe: Probe) -> dict[str, Tensor]:
    """Contrastive marginal winning probability: what wins for the target and does not win against it.

    Zhang et al., ECCV 2016, section 3.3: the MWP of the target's unit minus that of its dual, whose weights in the last
    layer with weights are the negative of its own; summed over channels at the layer asked for and truncated at
    zero there. As everything below is linear in the probabilities, that is the same as subtracting right below
    the last layer.

    Assumptions, results and errors as for :func:`excitation_backprop`.

    Cost: twice that of :func:`excitation_backprop`.
    """
    won, lost = _winning(probe, negate=False), _winning(probe, negate=True)
    return {layer: (value - lost[layer]).relu() for layer, value in won.items()}


def _winning(probe: Probe, *, negate: bool) -> dict[str, Tensor]:
    contrast = next((target for row in probe.targets for target in row if target.versus is not None), None)
    if contrast is not None:
        raise MethodError(
            f"excitation backprop starts from one unit, and {contrast.label!r} is a contrast of two: give one of them, "
            "or use 'gradcam'"
        )
    problem, mode = probe.problem, excitation(negate=negate)
    scale = HALF_SCALE if probe.inputs.dtype == torch.float16 else 1.0

    def encode(inputs: dict[str, Tensor]) -> Tensor:
        with mode:
            return problem.encode(inputs)

    def decode(features: Tensor, context: dict[str, Tensor]) -> Any:
        with mode:
            return problem.decode(features, context)

    def score(output: Any, rows: Rows) -> Tensor:
        with mode:
            scores = problem.score(output, rows)
        return scores if scale == 1 else scores.float() * scale

    def summed(layer: str, activations: Tensor, probabilities: Tensor) -> dict[str, Tensor]:
        exact = torch.promote_types(probabilities.dtype, torch.float32)
        return {"map": probabilities.sum(2, dtype=exact) / scale}

    running = copy.copy(probe)
    running.problem = replace(problem, encode=encode, decode=decode, score=score)
    everyone = torch.arange(probe.batch, device=probe.inputs.device)
    try:
        found = running.gradients(probe.inputs, everyone, summed, probe.layers)
    finally:
        mode.close()
    return {layer: named["map"] for layer, named in found.items()}
