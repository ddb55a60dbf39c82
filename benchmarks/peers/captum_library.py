"""captum, a call for every target or one with the photo repeated for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from cases.case import REPEATABLE, CannotError, Contender, Maps, Scores, Subject, Variants
from torch import Tensor

ONE_BY_ONE, REPEATED = "target by target", "photo repeated"


def grad_cam(subject: Subject) -> Variants:
    """``LayerGradCam``; it takes one layer, so several cost a call each."""
    from captum.attr import LayerGradCam

    if subject.fold is not None:
        raise CannotError("LayerGradCam takes the second axis for channels and has no way to fold tokens")
    methods = [LayerGradCam(subject.scores, tap) for tap in subject.taps]

    def attribute(image: Tensor) -> Maps:
        return [method.attribute(image, target=0, relu_attributions=True)[:, 0].detach() for method in methods]

    return both_ways(subject, attribute)


def both_ways(subject: Subject, attribute: Callable[[Tensor], Maps]) -> Variants:
    """What makes maps ``[R, *S]`` of R rows, called for every target or once with the photo repeated for all."""
    scores, image = subject.scores, subject.image

    def one_by_one(count: int) -> Maps:
        found: list[Maps] = []
        for number in range(count):
            scores.want([number])
            with torch.enable_grad():
                found.append(attribute(image))
        return [torch.stack(maps, 1) for maps in zip(*found, strict=True)]

    def repeated(count: int) -> Maps:
        with torch.enable_grad(), row_by_row(scores, count):
            found = attribute(image.repeat_interleave(count, 0))
        return [maps.unflatten(0, (len(image), count)) for maps in found]

    ways = {ONE_BY_ONE if scores.count > 1 else "": Contender(one_by_one, "targets")}
    if scores.count > 1 and len(image) * scores.count <= REPEATABLE and subject.repeatable:
        ways[REPEATED] = Contender(repeated)
    return ways


@contextmanager
def row_by_row(scores: Scores, count: int) -> Iterator[None]:
    """Every row is scored for its own target."""
    scores.want(range(count), by_row=True)
    try:
        yield
    finally:
        scores.want()


def guided_grad_cam(subject: Subject) -> Variants:
    """``GuidedGradCam``, upsampled bilinearly."""
    from captum.attr import GuidedGradCam

    method = GuidedGradCam(subject.scores, subject.taps[0])

    def attribute(image: Tensor) -> Maps:
        given = image.detach().requires_grad_()
        return [method.attribute(given, target=0, interpolate_mode="bilinear").detach()]

    return both_ways(subject, attribute)


def score_cam(subject: Subject) -> Variants:
    """There is none."""
    raise CannotError("has no Score-CAM")


def occlusion(subject: Subject, patch: int) -> Variants:
    """``Occlusion`` without overlap, 1, 16 or 64 patches at once."""
    from captum.attr import Occlusion

    method = Occlusion(subject.scores)
    options: dict[str, Any] = {"sliding_window_shapes": (3, patch, patch), "strides": (3, patch, patch), "target": 0}

    def of(at_once: int) -> Contender:
        def run(_: int) -> Maps:
            found = method.attribute(subject.image, perturbations_per_eval=at_once, **options)
            return [found[:, :1].detach()]

        return Contender(run)

    return {"1 patch at once": of(1), "16 patches at once": of(16), "64 patches at once": of(64)}
