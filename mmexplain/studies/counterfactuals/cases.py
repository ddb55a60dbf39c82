"""One photo of the study of counterfactual explanations: regions are removed, and the model is asked again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mmexplain.evaluate.masks import Mask, union
from mmexplain.evaluate.metrics.grounding import Sums
from mmexplain.evaluate.questions import Question, ask, context_of, probe_of
from mmexplain.explanation import Explanation
from mmexplain.geometry import Geometry
from mmexplain.io import Photo, display
from mmexplain.problem import Rows
from mmexplain.studies.counterfactuals.removal import Filled, Pixels, moved, strongest
from mmexplain.studies.counterfactuals.subjects import Subject

COUNTERFACTUAL, FACTUAL = "counterfactual-gradcam", "gradcam"
METHODS = (COUNTERFACTUAL, FACTUAL)

MARKED, MOVED, ELSEWHERE, EVIDENCE = "counterfactual", "moved at random", "another photo's", "factual"
REMOVED = (MARKED, MOVED, ELSEWHERE, EVIDENCE)
"""Regions that are removed: what the counterfactual map marks; the same region at a random place; what the
counterfactual map of another photo marks; what Grad-CAM marks."""

UNIFORM = "uniform"
"""A map that is the same everywhere."""

MAX_SIDE = 640
"""Pixels of a photo's longer side above which it is reduced before anything is removed."""


@dataclass(frozen=True)
class Options:
    """What is removed.

    Attributes:
        fills: of :data:`mmexplain.studies.counterfactuals.removal.FILLS`.
        area: share of what the model sees of a photo.
        draws: random places of a region.
        seed: of these.
    """

    fills: Sequence[str]
    area: float
    draws: int
    seed: int


@dataclass(frozen=True)
class Change:
    """What a removal did, less what there was before.

    Attributes:
        log_probability: change of ln p of the target.
        surer: 1 where it rose, else 0; a mean over random places is a share.
        probability: change of p.
        score: change of the logit.
        others: mean change of ln p of the other classes asked about in the photo; None without one.
    """

    log_probability: float
    surer: float
    probability: float
    score: float
    others: float | None


@dataclass(frozen=True)
class Lies:
    """Where a map's energy lies, as shares of it; None where that is not defined.

    Attributes:
        own: on objects of the target's class.
        others: on objects of other classes, but not on its own; None where none is marked.
    """

    own: float | None
    others: float | None


@dataclass
class Case:
    """One target of one photo.

    Attributes:
        photo: name of the photo.
        subject: key of what was asked.
        target: label of the class, the word, the answer.
        number: of the target in the explanation.
        several: whether other classes are asked about in the photo.
        probability: of the target in the photo as it is.
        area: share of what the model sees that was removed; 0 where the map marks nothing, and nothing was.
        changes: fill → removed region → what that did.
        lies: map → where its energy lies; "uniform" for one that is the same everywhere.
    """

    photo: str
    subject: str
    target: str
    number: int
    several: bool
    probability: float
    area: float = 0.0
    changes: dict[str, dict[str, Change]] = field(default_factory=dict)
    lies: dict[str, Lies] = field(default_factory=dict)


class Measurement:
    """What comes of removing regions from one photo.

    Args:
        task: that was explained.
        subject: what was asked.
        photo: decoded.
        explanation: with maps of :data:`METHODS`.
        others: counterfactual maps of another photo, which mark something; none where there is no other.
        options: what is removed.
    """

    def __init__(
        self,
        task: Any,
        subject: Subject,
        photo: Photo,
        explanation: Explanation,
        others: Sequence[Tensor],
        options: Options,
    ) -> None:
        self.task, self.subject, self.explanation, self.options = task, subject, explanation, options
        self.photo, self.pixels = photo, display(photo, MAX_SIDE).numpy()
        self.random = np.random.default_rng([options.seed, crc32(subject.key.encode())])
        count = len(explanation.targets)
        self.other = [others[n] for n in self.random.integers(len(others), size=count)] if others else [None] * count

    def cases(self) -> list[Case]:
        """What was measured of each target that is about something ("the" is not)."""
        targets = self.explanation.targets
        content = [number for number, target in enumerate(targets) if target.content]
        several = self.task.name == "classify" and len(content) > 1
        regions = {number: list(self._regions(number)) for number in content}
        wanted = [
            (number, fill, name, region)
            for number, found in regions.items()
            for fill in self.options.fills
            for name, region in found
        ]
        before, *after = self._ask([(region, fill) for _, fill, _, region in wanted])
        changes: dict[int, dict[str, dict[str, Change]]] = {number: {} for number in content}
        for number, fill, name in dict.fromkeys(row[:3] for row in wanted):
            scores = [one for row, one in zip(wanted, after, strict=True) if row[:3] == (number, fill, name)]
            others = [other for other in content if other != number] if several else []
            changes[number].setdefault(fill, {})[name] = change(before, torch.stack(scores), number, others)
        return [
            Case(
                photo=self.subject.item,
                subject=self.subject.key,
                target=targets[number].label,
                number=number,
                several=several,
                probability=float(before[1, number].exp()),
                area=float(regions[number][0][1].mean()) if regions[number] else 0.0,
                changes=changes[number],
                lies=self._lies(number),
            )
            for number in content
        ]

    # -- regions ------------------------------------------------------------------------------------------------------

    def marked(self, values: Tensor, count: int | None = None) -> Mask | None:
        """Bool ``[n, m]``: where a map is strongest in what the model sees of the photo; None where it marks nothing.

        Args:
            values: ``[h', w']``, spanning the model's input.
            count: how many pixels; the share of :attr:`Options.area` if None.
        """
        laid = self.explanation.geometry.to_seen(values.float(), self.pixels.shape[:2]).cpu().numpy()
        return strongest(laid, max(1, round(self.options.area * laid.size)) if count is None else count)

    def without(self, region: Mask, fill: str) -> Pixels:
        """The photo ``[h, w, 3]`` uint8 without a region of what the model sees of it, which is all that it is filled
        from."""
        found = self.pixels.copy()
        found[self.seen] = self._filled(region, fill)
        return found

    @cached_property
    def seen(self) -> tuple[slice, slice]:
        """Rows and columns of the photo that the model sees."""
        return self.explanation.geometry.seen_part(self.pixels.shape[:2])

    @cached_property
    def _filled(self) -> Filled:
        return Filled(np.ascontiguousarray(self.pixels[self.seen]))

    def _regions(self, number: int) -> Iterator[tuple[str, Mask]]:
        """What is removed for one target, by name; nothing where the counterfactual map marks nothing."""
        region = self.marked(self.explanation.map(number, method=COUNTERFACTUAL))
        if region is None:
            return
        yield MARKED, region
        yield from ((MOVED, moved(region, self.random)) for _ in range(self.options.draws))
        for name, values in (
            (ELSEWHERE, self.other[number]),
            (EVIDENCE, self.explanation.map(number, method=FACTUAL)),
        ):
            if values is not None and (found := self.marked(values, int(region.sum()))) is not None:
                yield name, found

    # -- the model ----------------------------------------------------------------------------------------------------

    def _ask(self, removals: Sequence[tuple[Mask, str]]) -> Tensor:
        """``[1 + n, 2, K]`` float64: logits and ln p of the K targets in the photo as it is, and after each of n
        removals, which are made when it is their turn."""
        task, explanation = self.task, self.explanation
        batch = task.prepare([self.photo])
        batch.context |= context_of(task, [explanation])
        probe = probe_of(task, batch, [explanation], self.options.seed)

        def make(numbers: range) -> Tensor:
            photos = [self.without(*removals[number - 1]) if number else self.pixels for number in numbers]
            made: Tensor = task.prepare(photos).inputs[probe.problem.image]
            return made

        def both(output: Any, rows: Rows) -> Tensor:
            found: Tensor = torch.cat((task.score(output, rows), task.log_probability(output, rows)), 1)
            return found

        (scores,) = ask(probe, [Question(0, 1 + len(removals), make)], both)
        found: Tensor = scores.double().unflatten(1, (2, -1))
        return found

    # -- marked objects -----------------------------------------------------------------------------------------------

    @cached_property
    def _masks(self) -> dict[str, Mask]:
        """Class → its objects in the photo."""
        scene = self.subject.scene
        return {} if scene is None else {name: scene.mask(name) for name in scene.names}

    def _lies(self, number: int) -> dict[str, Lies]:
        """Where the energy of a target's maps lies; nothing without marked objects, or for a photo of another size
        than they were marked at."""
        scene, explanation = self.subject.scene, self.explanation
        if scene is None or scene.size != explanation.geometry.original:
            return {}
        label = explanation.targets[number].ids[0]
        names = [name for name, numbers in self.subject.classes.items() if label in numbers]
        own = union((mask for name, mask in self._masks.items() if name in names), scene.size)
        others = union((mask for name, mask in self._masks.items() if name not in names), scene.size) & ~own
        maps = {
            MARKED: explanation.map(number, method=COUNTERFACTUAL),
            ELSEWHERE: self.other[number],
            EVIDENCE: explanation.map(number, method=FACTUAL),
            UNIFORM: torch.ones(1, 1),
        }
        return {
            name: Lies(*(energy(explanation.geometry, values, mask) for mask in (own, others)))
            for name, values in maps.items()
            if values is not None
        }


def marks(values: Tensor) -> bool:
    """Whether a map marks anything: it is finite, and positive somewhere."""
    return bool(values.isfinite().all()) and bool((values > 0).any())


def change(before: Tensor, after: Tensor, number: int, others: Sequence[int]) -> Change:
    """What n removals did to a target, in the mean.

    Args:
        before: ``[2, K]`` float64: logits and ln p of K targets.
        after: ``[n, 2, K]``.
        number: of the target.
        others: numbers of the other classes asked about.
    """
    rise = after - before
    return Change(
        log_probability=float(rise[:, 1, number].mean()),
        surer=float((rise[:, 1, number] > 0).double().mean()),
        probability=float((after[:, 1, number].exp() - before[1, number].exp()).mean()),
        score=float(rise[:, 0, number].mean()),
        others=float(rise[:, 1, list(others)].mean()) if others else None,
    )


def energy(geometry: Geometry, values: Tensor, mask: Mask) -> float | None:
    """The share of a map's positive part that lies in a mask of the original; None for a mask of nothing, and for a map
    that marks nothing."""
    if not mask.any():
        return None
    laid = geometry.to_original(values.float().cpu())
    share = float(Sums.of(laid, torch.from_numpy(mask)).energy())
    return None if math.isnan(share) else share
