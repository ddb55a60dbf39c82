"""The changed inputs that each metric wants of one map, and what it makes of their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmexplain.evaluate.metrics.average_drop import drop, explanation_map, fall, increase, share_shown
from mmexplain.evaluate.metrics.insertion_deletion import area, counts, exchanged
from mmexplain.evaluate.metrics.road import PERCENTILES, combined, imputed, removed


@dataclass(frozen=True)
class Change:
    """Inputs to run and how to read them.

    Attributes:
        count: how many.
        make: ``(numbers) → [r, C, *P]``, those with these numbers.
        read: the scores of all of them → numbers by the name of the metric.
    """

    count: int
    make: Callable[[range], Tensor]
    read: Callable[[list[float]], dict[str, float]]


def shown(image: Tensor, values: Tensor, black: Tensor, before: float) -> Change:
    """The explanation map alone: ``drop``, ``increase``, and the ``fall`` that wins are told by.

    Args:
        image: ``[C, *P]``.
        values: the map, ``[*P]``.
        black: ``[C, 1, ...]``.
        before: the score of the whole photo.
    """

    def read(scores: list[float]) -> dict[str, float]:
        (after,) = scores
        return {"drop": drop(before, after), "increase": increase(before, after), "fall": fall(before, after)}

    return Change(1, lambda numbers: explanation_map(image, share_shown(values), black)[None], read)


def stepwise(name: str, start: Tensor, end: Tensor, ordered: Tensor, steps: int) -> Change:
    """From one photo ``[C, *P]`` to another, pixel by pixel in an order ``[n]``: the area under its curve, by name."""
    numbers = counts(len(ordered), steps)
    shares = [number / len(ordered) for number in numbers]

    def make(part: range) -> Tensor:
        return exchanged(start, end, ordered, [numbers[step] for step in part])

    return Change(len(numbers), make, lambda scores: {name: area(scores, shares)})


def guessed(image: Tensor, ordered: Tensor, generator: torch.Generator) -> Change:
    """ROAD: the photo ``[C, h, w]`` without the first, and without the last pixels of an order ``[n]``; ``road``."""
    gone = [removed(ordered, percentile, least) for least in (False, True) for percentile in PERCENTILES]

    def make(part: range) -> Tensor:
        return torch.stack([imputed(image, gone[number], generator) for number in part])

    def read(scores: list[float]) -> dict[str, float]:
        return {"road": combined(scores[: len(PERCENTILES)], scores[len(PERCENTILES) :])}

    return Change(len(gone), make, read)


def covered(image: Tensor, masks: Tensor, black: Tensor) -> Callable[[range], Tensor]:
    """The photo with what is under each mask ``[n, *P]`` bool black."""

    def make(part: range) -> Tensor:
        return torch.where(masks[part.start : part.stop, None].to(image.device), black, image)

    return make
