"""The numbers of one classified photo, and how alike two of its maps are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Role = Literal["predicted", "true", "random"]

STRONGEST = 0.2
"""Share of a map's places of which :func:`shared` tells how many two maps have in common."""


@dataclass(frozen=True)
class Judged:
    """One photo, what it was taken for and where the maps point.

    Attributes:
        file: the photo's key in its data.
        classes: that the data says are in it.
        wrong: the predicted label means none of them.
        foreign: the predicted label means no class of the data at all.
        rank: of the likeliest true label among all labels, 1 for a right photo.
        labels: role → label: the likeliest, the likeliest of those that mean a class of the photo, one of all others
            (missing where there is none).
        probabilities: role → its probability.
        hits: role → 1 where the maximum of the map lies on an object of the true class, else 0; and "centre", the
            middle of the photo. Without objects empty; without a role whose map is not finite.
        correlations: role → Spearman's rank correlation of its map with the predicted class's; NaN if one is flat.
        overlaps: role → :func:`shared` with the predicted class's map.
    """

    file: str
    classes: tuple[str, ...]
    wrong: bool
    foreign: bool
    rank: int
    labels: Mapping[Role, str]
    probabilities: Mapping[Role, float]
    hits: Mapping[str, float]
    correlations: Mapping[Role, float]
    overlaps: Mapping[Role, float]

    @property
    def confidence(self) -> float:
        """Probability of the predicted label."""
        return self.probabilities["predicted"]

    def record(self) -> dict[str, Any]:
        """For ``study.json``."""
        return asdict(self)


def shared(one: Tensor, other: Tensor, share: float = STRONGEST) -> float:
    """Intersection over union of the strongest places of two maps ``[*S]``.

    Those are the ``share`` of all places that have the largest values (more where the last of them has equals), without
    places that have the map's smallest value: half of a rectified map may be 0, and is no part of what it marks.

    Returns:
        0 to 1; NaN if a map is flat or not finite.
    """
    first, second = _strongest(one, share), _strongest(other, share)
    if first is None or second is None:
        return math.nan
    return int((first & second).sum()) / int((first | second).sum())


def _strongest(values: Tensor, share: float) -> Tensor | None:
    values = torch.as_tensor(values).flatten().float()
    if not bool(values.isfinite().all()) or not bool(values.max() > values.min()):
        return None
    least = values.topk(max(1, round(share * len(values)))).values[-1]
    return (values >= least) & (values > values.min())
