"""Maps of photos measured one after another, each beside two maps that know nothing of its photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from mmexplain.evaluate.intervals import LEAST, Mean
from mmexplain.explanation import Explanation
from mmexplain.studies.bias.regions import CENTRE
from mmexplain.studies.bias.shares import Share, ratio, shares
from mmexplain.studies.study import Control

if TYPE_CHECKING:
    from mmexplain.evaluate.masks import Mask

Which = Literal["own", "other", "noise"]
CLOSE = 0.05
"""What a map of noise may be off 1.0 on a region."""


@dataclass(frozen=True)
class Seen:
    """What was measured of one map.

    Attributes:
        item: key of the photo.
        group: name of its group.
        target: label of what was explained.
        right: whether the model names the photo's group; None where that cannot be told.
        own: region → what of the map lies on it; empty for a map that is positive nowhere.
        other: the same of the map of another photo of the group laid over this one; empty for the first.
        noise: the same of a map of noise.
    """

    item: str
    group: str
    target: str
    right: bool | None
    own: Mapping[str, Share]
    other: Mapping[str, Share]
    noise: Mapping[str, Share]


class Looking:
    """Measures maps one after another, each beside its controls: the map before of the same group, and one of noise.

    Args:
        seed: of the noise.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._before: dict[str, Tensor] = {}

    def see(
        self,
        explanation: Explanation,
        regions: Mapping[str, Mask],
        item: str,
        group: str,
        right: bool | None = None,
        target: int = 0,
    ) -> Seen:
        """Measure the map of one target of an explanation.

        Args:
            explanation: of one photo.
            regions: bool ``[H, W]`` in its pixels, by name.
            item: key of the photo.
            group: what its map may be exchanged within.
            right: see :class:`Seen`.
            target: number of the target.
        """
        values = explanation.map(target).detach().float().cpu()
        noise = torch.from_numpy(self._random.random(tuple(values.shape), dtype=np.float32))
        geometry = explanation.geometry
        # Where the controls' maps peak is of no interest.
        peak = geometry.peak(values) if bool(values.max() > values.min()) else None
        found: list[dict[str, Share]] = []
        for grid, point in ((values, peak), (self._before.get(group), None), (noise, None)):
            heat = None if grid is None else geometry.to_original(grid.clamp(min=0))
            found.append({} if heat is None else shares(heat, point, regions))
        if found[0]:
            self._before[group] = values
        own, other, noisy = found
        return Seen(item, group, explanation.targets[target].label, right, own, other, noisy)


def over_area(rows: Sequence[Seen], region: str, seed: int = 0, which: Which = "own") -> Mean:
    """Energy over area of a region, of the photos that have it, by one of their three maps."""
    held = [(row.item, found[region]) for row in rows if region in (found := getattr(row, which))]
    return ratio([one.energy for _, one in held], [one.area for _, one in held], [item for item, _ in held], seed)


def less(first: Sequence[Share], second: Sequence[Share], items: Sequence[str], seed: int = 0) -> Mean:
    """Energy over area of one map of each photo less that of another map of it, pair by pair."""
    areas = [one.area for one in first]
    return ratio([one.energy - other.energy for one, other in zip(first, second, strict=True)], areas, items, seed)


def controls(rows: Sequence[Seen], region: str, seed: int) -> list[Control]:
    """A photo's own map against that of another photo, and maps of noise against chance.

    Args:
        rows: of both groups.
        region: to ask about; the centre where hardly any photo has it.
        seed: of the draws.
    """
    made = []
    both = [row for row in rows if region in row.own and region in row.other]
    if len(both) >= LEAST:
        own, other = over_area(both, region, seed), over_area(both, region, seed, "other")
        more = less(
            [row.own[region] for row in both], [row.other[region] for row in both], [r.item for r in both], seed
        )
        made.append(
            Control(
                f"A photo's own map lies on the {region} more than the map of another photo of its group does.",
                f"Energy over area {own.told(digits=2)} against {other.told(digits=2)}, difference "
                f"{more.told(digits=2)}.",
                more.low > 0,
            )
        )
    else:
        region = CENTRE
    noise = over_area(rows, region, seed, "noise")
    found = abs(noise.value - 1) <= CLOSE or noise.low <= 1 <= noise.high
    made.append(Control(f"Maps of noise lie on the {region} as chance has it, 1.0.", f"{noise.told(digits=2)}.", found))
    return made
