"""What one writes by hand from a tutorial: hooks, and a forward pass and a ``backward()`` for every target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from cases.case import Contender, Maps, Scores, Subject, Variants
from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def kept(layers: list[nn.Module]) -> Iterator[tuple[dict[int, Tensor], dict[int, Tensor]]]:
    """Outputs and gradients of layers, by number, as long as the hooks are there."""
    activations: dict[int, Tensor] = {}
    gradients: dict[int, Tensor] = {}

    def keep(number: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            activations[number] = output.detach()
            output.register_hook(lambda gradient: gradients.__setitem__(number, gradient))

        return hook

    handles = [layer.register_forward_hook(keep(number)) for number, layer in enumerate(layers)]
    try:
        yield activations, gradients
    finally:
        for handle in handles:
            handle.remove()


def backward_from(scores: Scores, image: Tensor, number: int) -> None:
    """One forward pass and one backward pass."""
    scores.want([number])
    scores.zero_grad()
    with torch.enable_grad():
        scores(image).sum().backward()


def weighed(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM of ``[B, C, *S]``: ``[B, *S]``."""
    places = tuple(range(2, gradients.ndim))
    return (gradients.mean(places, keepdim=True) * activations).sum(1).relu()


def grad_cam(subject: Subject) -> Variants:
    """Grad-CAM."""

    def run(count: int) -> Maps:
        maps: list[list[Tensor]] = [[] for _ in subject.layers]
        with kept(subject.taps) as (activations, gradients):
            for number in range(count):
                backward_from(subject.scores, subject.image, number)
                for layer, found in enumerate(maps):
                    found.append(weighed(subject.folded(activations[layer]), subject.folded(gradients[layer])))
        return [torch.stack(found, 1) for found in maps]

    return {"": Contender(run, "targets")}


def guided_grad_cam(subject: Subject) -> Variants:
    """Guided Grad-CAM: the gradient that ReLUs let through where it is positive, times the map."""

    def positive(_: nn.Module, gradients: Any, __: object) -> tuple[Tensor]:
        return (gradients[0].clamp(min=0),)

    def run(count: int) -> Maps:
        image = subject.image.clone().requires_grad_()
        maps, relus = [], [module for module in subject.scores.modules() if isinstance(module, nn.ReLU)]
        for number in range(count):
            with kept(subject.taps) as (activations, gradients):
                backward_from(subject.scores, image, number)
                map = weighed(activations[0], gradients[0])
            handles = [relu.register_full_backward_hook(positive) for relu in relus]
            image.grad = None
            backward_from(subject.scores, image, number)
            for handle in handles:
                handle.remove()
            assert image.grad is not None
            large = functional.interpolate(map[:, None], size=image.shape[2:], mode="bilinear")
            maps.append(large * image.grad)
        return [torch.stack(maps, 1)]

    return {"": Contender(run, "targets")}


def score_cam(subject: Subject) -> Variants:
    """Score-CAM of one target, channel by channel."""

    @torch.no_grad()
    def run(_: int) -> Maps:
        with kept_outputs(subject.taps[0]) as outputs:
            subject.scores(subject.image)
        (activations,) = outputs
        found = []
        for channel in activations[0]:
            mask = functional.interpolate(channel[None, None], size=subject.image.shape[2:], mode="bilinear")
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            found.append(subject.scores(mask * subject.image)[0, 0])
        weights = torch.stack(found).softmax(0)
        return [(weights[:, None, None] * activations[0]).sum(0).relu()[None, None]]

    return {"": Contender(run)}


@contextmanager
def kept_outputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What a layer puts out, as long as the hook is there."""
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def occlusion(subject: Subject, patch: int) -> Variants:
    """Occlusion of one target, patch by patch, without overlap."""

    @torch.no_grad()
    def run(_: int) -> Maps:
        whole = subject.scores(subject.image)[0, 0]
        found = torch.zeros(subject.image.shape[2:], device=subject.image.device)
        for top in range(0, found.shape[0], patch):
            for left in range(0, found.shape[1], patch):
                image = subject.image.clone()
                image[:, :, top : top + patch, left : left + patch] = 0
                found[top : top + patch, left : left + patch] = whole - subject.scores(image)[0, 0]
        return [found[None, None]]

    return {"": Contender(run)}
