"""Average Drop %, % Increase and Win %: what a model says of the part of the photo that a map shows."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def share_shown(values: Tensor) -> Tensor:
    """How much of each pixel a map shows, from 0 to 1: max(L, 0) / max L.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1, forms E = L ∘ I; its released code divides the rectified
    map by its maximum. So a map that is the same positive number everywhere shows the whole photo, and one without a
    positive value shows nothing.

    Args:
        values: one map ``[*P]``; NaN where it says nothing: nothing is shown there.

    Returns:
        ``[*P]`` float32 (float64 for float64).
    """
    values = values if values.dtype == torch.float64 else values.float()
    positive = values.nan_to_num(0.0).clamp(min=0)
    highest = positive.max()
    return positive / highest if highest > 0 else positive


def explanation_map(image: Tensor, share: Tensor, black: Tensor) -> Tensor:
    """E = L ∘ I: the photo itself times the map, so that what is not shown is black.

    The model's input is normalised, ``(pixel − mean) / std``; multiplying that would show the mean colour instead. The
    photo is multiplied where the distance from black is.

    Args:
        image: the model's input, ``[C, *P]``.
        share: ``[*P]``, from 0 to 1.
        black: a black pixel of the input, ``[C, 1, ...]``.

    Returns:
        ``[C, *P]`` like ``image``.
    """
    return black + share.to(image.dtype) * (image - black)


def fall(before: float, after: float) -> float:
    """(Y − O) / Y: the share of the score Y for the photo that is lost for its explanation map, which scores O.
    Negative where the score rises; NaN for Y = 0, of which nothing can be lost."""
    return (before - after) / before if before > 0 else math.nan


def drop(before: float, after: float) -> float:
    """max(0, Y − O) / Y, whose mean is Average Drop (section 4.1, i). NaN for Y = 0."""
    lost = fall(before, after)
    return lost if math.isnan(lost) else max(0.0, lost)


def increase(before: float, after: float) -> float:
    """1 where Y < O, else 0; its mean is % Increase in Confidence (section 4.1, ii). NaN for Y = 0, as
    :func:`drop`: the two are of the same photos."""
    return float(before < after) if before > 0 else math.nan


def win(own: float, other: float) -> float:
    """1 where a method's :func:`fall` is smaller than another's for the same photo, 0 where it is larger; its mean is
    Win % (section 4.1, iii). A half where they are equal, so that the two methods' shares add up to 100 % as in the
    paper's table 1. NaN if either is undefined."""
    if math.isnan(own) or math.isnan(other):
        return math.nan
    return 0.5 if own == other else float(own < other)
