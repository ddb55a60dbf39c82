"""torch-cam: one forward pass, then its extractor once a target over the kept graph; ``normalized=False``."""

from __future__ import annotations

import torch
from cases.case import CannotError, Contender, Maps, Subject, Variants
from torch import Tensor


def grad_cam(subject: Subject) -> Variants:
    """``GradCAM`` at one layer or several, with ``reshape_transform`` for tokens."""
    from torchcam.methods import GradCAM

    extractor = GradCAM(subject.scores, list(subject.taps), reshape_transform=subject.fold)

    def run(count: int) -> Maps:
        maps: list[list[Tensor]] = [[] for _ in subject.layers]
        subject.scores.want()
        extractor.enable_hooks()
        with torch.enable_grad():
            scores = subject.scores(subject.image)
            for number in range(count):
                kept = extractor(class_idx=number, scores=scores, normalized=False, retain_graph=number + 1 < count)
                for found, value in zip(maps, kept, strict=True):
                    found.append(value.relu())
        extractor.disable_hooks()  # or it would hold the graphs of the others
        extractor.reset_hooks()
        return [torch.stack(found, 1) for found in maps]

    extractor.disable_hooks()
    return {"": Contender(run, "graph")}


def guided_grad_cam(subject: Subject) -> Variants:
    """There is none."""
    raise CannotError("has no guided backpropagation")


def score_cam(subject: Subject) -> Variants:
    """``ScoreCAM`` with masks in batches of 16 or 64."""
    from torchcam.methods import ScoreCAM

    def of(batch: int) -> Contender:
        extractor = ScoreCAM(subject.scores, subject.taps[0], batch_size=batch)

        def run(_: int) -> Maps:
            extractor.enable_hooks()
            with torch.no_grad():
                subject.scores(subject.image)
                (map,) = extractor(class_idx=0, normalized=False)
            extractor.disable_hooks()
            extractor.reset_hooks()
            return [map[:, None]]

        extractor.disable_hooks()
        return Contender(run, alike="correlated")

    return {"16 masks at once": of(16), "64 masks at once": of(64)}


def occlusion(subject: Subject) -> Variants:
    """There is none."""
    raise CannotError("has no occlusion")
