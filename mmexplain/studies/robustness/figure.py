"""The figure of a study of robustness, after Figure 7 of the Grad-CAM paper: photos, attacked photos, their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmexplain.evaluate.metrics.rank_correlation import rank_correlation
from mmexplain.explanation import Explanation
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.render.lettering import leading, wrapped
from mmexplain.render.overlay import overlay
from mmexplain.render.page import MARGIN, SOFT, page, put, put_lines, write
from mmexplain.render.text import clean
from mmexplain.studies.robustness.attack import TargetedPGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILE, _GAP, _SIZE, _SMALL = 1.5, 0.06, 8.5, 7.0  # inches and points


@dataclass(frozen=True)
class Shown:
    """A photo for the figure.

    Attributes:
        photo: ``[3, h, w]``, 0 to 1, what the model sees of it.
        adversarial: the same, attacked.
        before: maps of the photo's true classes, and last of the target.
        after: the same of the adversarial photo.
    """

    photo: Tensor
    adversarial: Tensor
    before: Explanation
    after: Explanation

    @property
    def number(self) -> int:
        """Of the true class that the model is surest of."""
        return max(range(len(self.before) - 1), key=lambda number: probability_of(self.before, number))

    @property
    def label(self) -> str:
        """Its label."""
        return self.before.targets[self.number].label

    @property
    def probability(self) -> float:
        """Its probability before the attack."""
        return probability_of(self.before, self.number)


def probability_of(explanation: Explanation, number: int) -> float:
    """That of one target of a model that has any."""
    assert explanation.probabilities is not None
    return float(explanation.probabilities[number])


def figure(shown: Sequence[Shown], target: str, method: str, attack: TargetedPGD) -> Figure:
    """A row for each photo: as it is, attacked, what was added, and the maps of its true class before and after and of
    the target after, scaled one by one. ρ is the rank correlation of the two maps of the true class.

    Args:
        shown: the photos.
        target: what the model was made to see.
        method: of the maps.
        attack: its ε is drawn at full strength.

    Returns:
        A figure in no list of pyplot's.
    """
    factor = 0.5 / attack.epsilon
    added = f"what was added, × {factor:.0f}" if factor >= 10 else f"what was added, × {factor:.3g}"
    heads = ["photo", "adversarial photo", added]
    heads += ["true class, before", "true class, after", f"{target}, after"]
    tall = _TILE * max(one.photo.shape[1] / one.photo.shape[2] for one in shown)
    top, step = 0.66, tall + 3 * leading(_SMALL) + 2 * _GAP
    width = 2 * MARGIN + len(heads) * (_TILE + _GAP) - _GAP
    drawn, axes = page(width, top + len(shown) * step)
    write(axes, MARGIN, 0.1, f"{clean(shown[0].before.model)} made to see {clean(target)}", 11, weight="bold")
    told = f"{method} · every pixel changed by {255 * attack.epsilon:g} of 255 levels at most"
    write(axes, MARGIN, 0.3, told, _SMALL, color=SOFT)
    for row, one in enumerate(shown):
        y = top + row * step
        number = one.number
        values = (explanation.map(number, None, method) for explanation in (one.before, one.after))
        alike = f" · ρ = {rank_correlation(*values):.2f}".replace("nan", "–")
        tiles = [
            (_picture(one.photo), one.label, _told(one.before, number)),
            (_picture(one.adversarial), target, _told(one.after, -1)),
            (_picture(0.5 + factor * (one.adversarial - one.photo)), "", ""),
            (_map(one.before, one.photo, number, method), one.label, ""),
            (_map(one.after, one.adversarial, number, method), one.label, _told(one.after, number) + alike),
            (_map(one.after, one.adversarial, -1, method), target, ""),
        ]
        for column, (picture, label, told) in enumerate(tiles):
            x = MARGIN + column * (_TILE + _GAP)
            if not row:
                put_lines(axes, wrapped(heads[column], _SMALL, _TILE, 1), _SMALL, x + _TILE / 2, top - 0.15, color=SOFT)
            put(axes, picture, (x, y, _TILE, _TILE * picture.height / picture.width))
            below = y + tall + 0.02
            below = put_lines(axes, wrapped(clean(label), _SIZE, _TILE, 1), _SIZE, x + _TILE / 2, below)
            put_lines(axes, [told], _SMALL, x + _TILE / 2, below, color=SOFT)
    return drawn


def _picture(pixels: Tensor) -> Image.Image:
    values = (255 * pixels.clamp(0, 1)).round().byte().permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(values.expand(-1, -1, 3).numpy()))


def _map(explanation: Explanation, pixels: Tensor, number: int, method: str) -> Image.Image:
    """A map over what the model saw of a photo."""
    picture = Picture(torch.from_numpy(np.array(_picture(pixels))))
    laid = replace(explanation, picture=picture, geometry=Geometry.identity(*pixels.shape[1:]))
    return overlay(laid, number % len(explanation.targets), method=method)


def _told(explanation: Explanation, number: int) -> str:
    """The probability of a target in four decimals, which leave neither a certainty nor an impossibility."""
    probability = probability_of(explanation, number)
    if probability > 0.9999:
        return "p > 0.9999"
    return f"p = {probability:.4f}" if probability >= 0.00005 else "p < 0.0001"
