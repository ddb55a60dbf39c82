"""The papers' formulas and plain autograd, one number at a time: slow, float64, and apart from the package."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmexplain.problem import Problem
from mmexplain.targets import Target


def activations_and_gradients(
    problem: Problem, rows: Sequence[Sequence[Target]], layer: str, call: int = -1
) -> tuple[list[list[Tensor]], list[list[Tensor]], list[list[float]]]:
    """A and ∂score/∂A for each input and target: one input, one target, one whole forward and backward each."""
    module = dict(problem.model.named_modules())[layer]
    activations, gradients, scores = [], [], []
    for b, row in enumerate(rows):
        activations.append([])
        gradients.append([])
        scores.append([])
        for target in row:
            seen: list[Tensor] = []

            def hook(_module, _inputs, output, seen=seen):
                value = output[0] if isinstance(output, tuple) else output
                value = value if value.requires_grad else value.detach().requires_grad_()
                value.retain_grad()
                seen.append(value)
                copy = value.clone()
                return (copy, *output[1:]) if isinstance(output, tuple) else copy

            handle = module.register_forward_hook(hook)
            try:
                with torch.enable_grad():
                    inputs = {name: value[b : b + 1] for name, value in problem.inputs.items()}
                    context = {name: value[b : b + 1] for name, value in problem.context.items()}
                    score = problem.score(problem.decode(problem.encode(inputs), context), [[target]])
                    value = seen[call]
                    (gradient,) = torch.autograd.grad(score.sum(), value)
            finally:
                handle.remove()
            activations[-1].append(value.detach()[0])
            gradients[-1].append(gradient[0])
            scores[-1].append(score.item())
    return activations, gradients, scores


def _places(shape: Sequence[int]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(size) for size in shape)))


def gradcam(activations: Tensor, gradients: Tensor, relu: bool = True) -> Tensor:
    """Eqs 1 and 2 of Grad-CAM, for ``[C, *S]``."""
    places = _places(activations.shape[1:])
    total = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for channel in range(len(activations)):
        alpha = sum(gradients[(channel, *place)].item() for place in places) / len(places)
        for place in places:
            total[place] += alpha * activations[(channel, *place)].item()
    return total.clamp(min=0) if relu else total


def gradcam_pp_weights(activations: Tensor, gradients: Tensor, score: float, normalize: bool = False) -> list[float]:
    """w of Grad-CAM++ with Y = exp(S) formed: eqs 5 and 10, where for a piecewise linear S the derivatives of Y are
    exp(S) g, exp(S) g² and exp(S) g³; with ``normalize`` the released code's α."""
    weights = []
    places = _places(activations.shape[1:])
    y = math.exp(score)
    for channel in range(len(activations)):
        total = math.fsum(activations[(channel, *place)].item() for place in places)
        alphas, firsts = [], []
        for place in places:
            g = gradients[(channel, *place)].item()
            first, second, third = y * g, y * g**2, y * g**3
            denominator = 2 * second + total * third
            alphas.append(second / denominator if denominator else 0.0)
            firsts.append(max(first, 0.0) / y)
        if normalize:
            norm = math.fsum(a for a, first in zip(alphas, firsts, strict=True) if first > 0)
            alphas = [a / norm if norm else 0.0 for a in alphas]
        weights.append(math.fsum(a * first for a, first in zip(alphas, firsts, strict=True)))
    return weights


def weighted_sum(weights: Sequence[float], activations: Tensor, relu: bool = True) -> Tensor:
    total = sum(weight * channel.double() for weight, channel in zip(weights, activations, strict=True))
    assert isinstance(total, Tensor)
    return total.clamp(min=0) if relu else total


def elementwise_derivatives(function: Callable[[Tensor], Tensor], at: Tensor) -> list[Tensor]:
    """dY/dA, d²Y/dA² and d³Y/dA³ of a scalar by each element alone, by nested autograd: nothing assumed."""
    at = at.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(at), at, create_graph=True)
    second, third = torch.zeros_like(at), torch.zeros_like(at)
    for i in range(at.numel()):
        (row,) = torch.autograd.grad(first.flatten()[i], at, create_graph=True)
        second.view(-1)[i] = row.flatten()[i].detach()
        (row,) = torch.autograd.grad(row.flatten()[i], at, retain_graph=True)
        third.view(-1)[i] = row.flatten()[i]
    return [first.detach(), second, third]


def gradcam_pp(function: Callable[[Tensor], Tensor], activations: Tensor) -> Tensor:
    """Grad-CAM++ by eqs 5 and 10, for Y = ``function`` of the activations ``[C, h, w]``."""
    first, second, third = elementwise_derivatives(function, activations)
    denominator = 2 * second + activations.sum((1, 2), keepdim=True) * third
    alpha = torch.where(denominator == 0, 0, second / denominator)
    weights = (alpha * first.clamp(min=0)).sum((1, 2))
    return (weights[:, None, None] * activations).sum(0).clamp(min=0)
