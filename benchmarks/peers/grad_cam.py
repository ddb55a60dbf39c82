"""pytorch-grad-cam, a call for every target or one with the photo repeated for all.

Its normalisation and resizing, which have no switch, are taken out by a subclass: they would be its time only. NumPy
stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np
import torch
from cases.case import CannotError, Contender, Maps, Subject, Variants
from torch import Tensor

from peers.captum_library import both_ways


def _unscaled(subject: Subject) -> Any:
    from pytorch_grad_cam import GradCAM

    class Unscaled(GradCAM):  # type: ignore[misc, unused-ignore]
        """Raw maps of every layer."""

        def compute_cam_per_layer(self, input_tensor: Tensor, targets: Any, eigen_smooth: bool) -> Any:
            kept = self.activations_and_grads
            return [
                self.get_cam_image(input_tensor, layer, targets, activation.numpy(), gradient.numpy(), eigen_smooth)
                for layer, activation, gradient in zip(
                    self.target_layers, kept.activations, kept.gradients, strict=True
                )
            ]

        def aggregate_multi_layers(self, cam_per_target_layer: Any) -> Any:
            return [maps.clip(min=0) for maps in cam_per_target_layer]

    return Unscaled(subject.scores, subject.taps, reshape_transform=subject.fold)


def grad_cam(subject: Subject) -> Variants:
    """``GradCAM``, with ``reshape_transform`` for tokens."""
    method = Hooked(_unscaled(subject))

    def attribute(image: Tensor) -> Maps:
        return [torch.from_numpy(maps) for maps in method(image, [lambda score: score[0]] * len(image))]

    return both_ways(subject, attribute)


class Hooked:
    """One of its methods, whose hooks are there while it runs, or they would cost the others time and memory."""

    def __init__(self, method: Any) -> None:
        self.method = method
        method.activations_and_grads.release()

    def __call__(self, image: Tensor, targets: Any) -> Any:
        """What the method makes."""
        method = self.method
        kept = type(method.activations_and_grads)(
            method.model, method.target_layers, method.reshape_transform, method.detach
        )
        method.activations_and_grads = kept
        try:
            return method(image, targets)
        finally:
            method.outputs = None
            kept.release()


def guided_grad_cam(subject: Subject) -> Variants:
    """``GuidedBackpropReLUModel`` times ``GradCAM``, as its README has it, but for the normalisation.

    It takes one photo and one target.
    """
    import cv2
    from pytorch_grad_cam import GuidedBackpropReLUModel

    method = Hooked(_unscaled(subject))
    guided = GuidedBackpropReLUModel(subject.scores, subject.image.device)
    if len(subject.image) > 1:
        raise CannotError("GuidedBackpropReLUModel takes one photo")

    def run(count: int) -> Maps:
        maps = []
        for number in range(count):
            subject.scores.want([number])
            with torch.enable_grad():
                (found,) = method(subject.image, [lambda score: score[0]])
                pixels = guided(subject.image.clone(), target_category=0)
            large = cv2.resize(found[0], subject.image.shape[:1:-1])
            maps.append(torch.from_numpy(np.moveaxis(large[:, :, None] * pixels, 2, 0)))
        return [torch.stack(maps)[None]]

    return {"": Contender(run, "targets")}


def score_cam(subject: Subject) -> Variants:
    """``ScoreCAM`` with masks in batches of 16, as it comes, or 64; it aligns corners when it resizes."""
    from pytorch_grad_cam import ScoreCAM

    class Unscaled(ScoreCAM):  # type: ignore[misc, unused-ignore]
        def compute_cam_per_layer(self, input_tensor: Tensor, targets: Any, eigen_smooth: bool) -> Any:
            activations = self.activations_and_grads.activations[0].numpy()
            return self.get_cam_image(input_tensor, self.target_layers[0], targets, activations, None, eigen_smooth)

        def aggregate_multi_layers(self, cam_per_target_layer: Any) -> Any:
            return cam_per_target_layer.clip(min=0)

    def of(batch: int) -> Contender:
        method = Hooked(Unscaled(subject.scores, subject.taps))
        method.method.batch_size = batch

        def run(_: int) -> Maps:
            with quiet(), torch.no_grad():
                found = method(subject.image, [lambda score: score[0]])
            return [torch.from_numpy(found)[:, None]]

        return Contender(run, alike="correlated")

    return {"16 masks at once": of(16), "64 masks at once": of(64)}


@contextmanager
def quiet() -> Iterator[None]:
    """Without its bars of progress."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        yield


def occlusion(subject: Subject) -> Variants:
    """There is none."""
    raise CannotError("has no occlusion")
