"""Gradients at noisy copies of the photo: their mean, their variance, and Grad-CAM++ of their means.

The noise is Gaussian, its standard deviation a share of ``max − min`` of each input as the model sees it. Every sample
is drawn afresh; all inputs and all targets see the same draws, so that a map depends neither on what else is in the
batch nor on how the work is divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmexplain.errors import MethodError
from mmexplain.taps import INPUT

if TYPE_CHECKING:
    from mmexplain.probe import Probe

MOST_ROWS = 64
"""Noisy copies that run at once, at most, and whose gradients are held."""


def smoothgrad(probe: Probe, *, samples: int = 50, noise: float = 0.15) -> dict[str, Tensor]:
    """SmoothGrad: M = (1/n) Σ_m ∂S/∂x (x + ε_m), ε_m ~ N(0, σ²).

    Smilkov, Thorat, Kim, Viégas & Wattenberg, "SmoothGrad: removing noise by adding noise", ICML workshop 2017
    (arXiv:1706.03825), section 3: the mean of the signed gradients, not of their absolute values, and none of the last
    one alone. It assumes that the score is differentiable.

    Cost: n forward passes, n backward passes through the whole model for each target.

    Args:
        probe: the model.
        samples: n; the paper finds little gain above 50.
        noise: σ / (max x − min x); 0.1 to 0.2 in the paper.

    Returns:
        ``"input"`` → signed ``[B, K, C, *P]``, float32 (float64 for float64 input).

    Raises:
        MethodError: fewer than 1 sample, or noise that is negative or not finite.
    """
    _check("smoothgrad", samples, 1, noise)
    total = _zeros(probe)
    for row, gradient in _gradients(probe, samples, noise):
        total[row] += gradient
    return {INPUT: total / samples}


def vargrad(probe: Probe, *, samples: int = 50, noise: float = 0.15) -> dict[str, Tensor]:
    """VarGrad: M = Σ_c Var_m ∂S/∂x_c (x + ε_m), ε_m ~ N(0, σ²); the unbiased variance, with n − 1 below.

    Adebayo, Gilmer, Goodfellow & Kim, "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter
    Values", ICLR workshop 2018 (arXiv:1810.03307); also Adebayo et al., NeurIPS 2018. The variances of a pixel's
    channels are added up. By Welford's updates: a difference of two means of squares would lose small variances to
    rounding. It assumes that the score is differentiable; where its gradient is constant, as for a linear model, the
    map is zero.

    Cost: as :func:`smoothgrad`.

    Args:
        probe: the model.
        samples: n.
        noise: σ / (max x − min x).

    Returns:
        ``"input"`` → ``[B, K, *P]`` ≥ 0, float32 (float64 for float64 input).

    Raises:
        MethodError: fewer than 2 samples, or noise that is negative or not finite.
    """
    _check("vargrad", samples, 2, noise)
    mean, squares = _zeros(probe), _zeros(probe)
    times = [0] * probe.batch
    for row, gradient in _gradients(probe, samples, noise):
        times[row] += 1
        change = gradient - mean[row]
        mean[row] += change / times[row]
        squares[row] += change * (gradient - mean[row])
    return {INPUT: squares.sum(2) / (samples - 1)}


def smooth_gradcam_pp(probe: Probe, *, samples: int = 50, noise: float = 0.15) -> dict[str, Tensor]:
    """Smooth Grad-CAM++: α = D₂ / (2 D₂ + D₃ ΣA), w_k = Σ α ReLU(D₁), L = ReLU(Σ_k w_k A^k), with D_p the mean over
    noisy samples of the p-th derivative by A.

    Omeiza, Speakman, Cintas & Weldermariam, "Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique for
    Deep Convolutional Neural Network Models", 2019 (arXiv:1908.01224), section III. Only derivatives are averaged: A is
    what the layer puts out for the photo as it is. Three points of the paper are settled so:

    * the numerator of α is D₂, as in Grad-CAM++, to which the map comes down for one sample without noise;
    * derivatives are those of Grad-CAM++'s eq. 19, g, g² and g³ with g = ∂S/∂A. Under the exponential they all have a
      factor exp(S) that cancels there; in a mean over samples it would leave but the sample of the largest score, so
      every sample counts alike;
    * where the denominator is not positive α is zero. With activations that are not negative, as behind a ReLU, that
      takes a D₃ far below zero; elsewhere ΣA may bring it there too, and near that pole the map would follow the noise.

    It assumes, as Grad-CAM++ does, activations that are not negative and a score that is piecewise linear in A.

    Cost: n + 1 forward passes, n backward passes from the score to the layer for each target; the forward passes again
    for each part of the targets whose sums fit into ``probe.memory``. The powers and their sums are float64: g³ of a
    small gradient is zero in float32.

    Args:
        probe: the model, with the layers to look at.
        samples: n.
        noise: σ / (max x − min x).

    Returns:
        layer → ``[B, K, *S]`` ≥ 0, float32 (float64 for float64 activations).

    Raises:
        MethodError: fewer than 1 sample, or noise that is negative or not finite.
        LayerError: a layer puts out no map.
    """
    _check("smoothgrad-cam++", samples, 1, noise)
    seeds = _seeds(probe, samples)
    # Of every layer three sums, a gradient and a power of it in eight bytes, and the gradients of all copies in four.
    target = (5 * 8 * probe.batch + 4 * MOST_ROWS) * sum(value[0].numel() for value in probe.activations.values())
    size = max(1, probe.memory // target)
    found: dict[str, list[Tensor]] = {layer: [] for layer in probe.layers}
    for some in probe.in_target_parts(size):
        for layer, total in _powers(some, seeds, noise).items():
            found[layer].append(weighted(probe.activations[layer], *(total / samples)))
    return {layer: torch.cat(parts, 1) for layer, parts in found.items()}


def _powers(probe: Probe, seeds: list[int], noise: float) -> dict[str, Tensor]:
    """layer → sums over the noisy copies of g, g² and g³, ``[3, B, K, C, *S]`` float64."""
    sums: dict[str, Tensor] = {}
    for images, owner in _noisy(probe, seeds, noise):
        reduced = probe.gradients(images, owner, lambda _, __, gradients: {"gradient": gradients}, probe.layers)
        for layer, named in reduced.items():
            found = named["gradient"]
            if layer not in sums:
                shape = (3, probe.batch, *found.shape[1:])
                sums[layer] = torch.zeros(shape, dtype=torch.float64, device=found.device)
            for row, gradient in zip(owner.tolist(), found, strict=True):
                exact = gradient.double()
                for power in (1, 2, 3):
                    sums[layer][power - 1, row] += exact.pow(power)
    return sums


def weighted(activations: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The map of :func:`smooth_gradcam_pp` for ``activations [B, C, *S]`` and D₁, D₂, D₃ ``[B, K, C, *S]`` float64."""
    axes = tuple(range(3, first.ndim))
    total = activations.double().unsqueeze(1).sum(axes, keepdim=True)
    denominator = 2 * second + third * total
    alpha = torch.where(denominator > 0, second / torch.where(denominator > 0, denominator, 1.0), 0.0)
    kind = torch.promote_types(activations.dtype, torch.float32)
    weights = (alpha * first.relu()).sum(axes).to(kind)
    return torch.einsum("bkc,bc...->bk...", weights, activations.to(kind)).relu()


def _gradients(probe: Probe, samples: int, noise: float) -> Iterator[tuple[int, Tensor]]:
    """Number of the input and gradient ``[K, C, *P]`` of each noisy copy, in float32 or better."""
    for images, owner in _noisy(probe, _seeds(probe, samples), noise):
        found = probe.gradients(images, owner, lambda _, __, gradients: {"gradient": gradients})[INPUT]["gradient"]
        yield from zip(owner.tolist(), found.to(_kind(probe)), strict=True)


def _seeds(probe: Probe, samples: int) -> list[int]:
    """A seed for each sample: what is drawn must not depend on the part that it falls into."""
    seeds: list[int] = torch.randint(2**62, (samples,), generator=probe.generator).tolist()
    return seeds


def _noisy(probe: Probe, seeds: list[int], noise: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Noisy copies ``[R, C, *P]`` and their owners ``[R]``, one of each input for each seed."""
    inputs = probe.inputs.to(_kind(probe))
    low, high = torch.aminmax(inputs.flatten(1), dim=1)
    spread = (noise * (high - low)).view(-1, *[1] * (inputs.ndim - 1))
    for part in probe.parts(probe.batch * len(seeds), gradients=True):
        owner, numbers = probe.rows(len(seeds), part)
        drawn = [_standard(inputs.shape[1:], seeds[number]) for number in numbers.tolist()]
        images = inputs[owner] + spread[owner] * torch.stack(drawn).to(inputs)
        yield images.to(probe.inputs.dtype), owner


def _standard(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def _zeros(probe: Probe) -> Tensor:
    shape = (probe.batch, probe.count, *probe.inputs.shape[1:])
    return torch.zeros(shape, dtype=_kind(probe), device=probe.inputs.device)


def _kind(probe: Probe) -> torch.dtype:
    return torch.promote_types(probe.inputs.dtype, torch.float32)


def _check(name: str, samples: int, least: int, noise: float) -> None:
    if samples < least:
        raise MethodError(f"{name!r} takes {least} noisy sample(s) or more, not samples={samples}")
    if not 0 <= noise < float("inf"):
        raise MethodError(f"noise of {name!r} is a share of the input's range, 0 or more (0.15, say), not {noise}")
