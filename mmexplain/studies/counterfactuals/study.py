"""Counterfactual explanations put to the test: take out what they mark, and see whether the model becomes surer.

Selvaraju et al., "Grad-CAM", ICCV 2017, section 3.3 and figure 3, negate the gradient: the map marks regions that
would make the network change its prediction; without them it would be more confident. The paper shows such maps of a
cat and a dog. Here the regions are removed, from as many photos as there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.io import load_image
from mmexplain.studies.counterfactuals.cases import COUNTERFACTUAL, METHODS, Case, Measurement, Options, marks
from mmexplain.studies.counterfactuals.removal import FILLS, known_fills
from mmexplain.studies.counterfactuals.subjects import Subject, look, subjects
from mmexplain.studies.counterfactuals.summary import Summary
from mmexplain.studies.study import Study
from mmexplain.tasks.outcomes import ScoreName

AREA, DRAWS = 0.1, 1


class Counterfactuals:
    """The study of one model on one set of photos.

    Attributes:
        cases: what was measured of each target by :meth:`run`, in the data's order.
        summary: means over them.

    Args:
        task: classifier, captioner or VQA model; it comes back as it was.
        data: photos, with marked objects or without, or questions about photos; see
            :func:`mmexplain.studies.counterfactuals.subjects.subjects`.
        fills: what a removed region is filled with, of :data:`mmexplain.studies.counterfactuals.removal.FILLS`.
        area: share of what the model sees of a photo that is removed: there the map is strongest. Less where the map
            is positive in less.
        draws: random places that the region is moved to, whose changes are averaged.
        layer: where maps are read; the model's default if None.
        score: what is differentiated: "logit" as in the paper, or "log-probability".
        of: of a classifier: "labels" or "top", see there.
        limit: the first so many of the data; all if None.
        seed: of random places and partners.

    Raises:
        InputError: an option out of range, or data and task that do not go together.
    """

    def __init__(
        self,
        task: Any,
        data: str | Path,
        *,
        fills: Sequence[str] = tuple(FILLS),
        area: float = AREA,
        draws: int = DRAWS,
        layer: str | None = None,
        score: ScoreName = "logit",
        of: str | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 < area <= 0.5:
            raise InputError(f"area={area}: of a photo more than nothing and at most half (0.5) can be removed")
        if draws < 1 or (limit is not None and limit < 1):
            raise InputError(f"draws and limit are 1 or more, not {draws} and {limit}")
        self.task, self.layer, self.score = task, layer, score
        self.options = Options(known_fills(fills), area, draws, seed)
        found, self._notes = subjects(task, Path(data), of)
        self.subjects = found[:limit]
        self.settings = {
            "model": task.model_id,
            "fills": list(self.options.fills),
            "area": area,
            "draws": draws,
            "layer": layer or "default",
            "score": score,
            "of": ("labels" if self.subjects[0].classes else "top") if task.name == "classify" else None,
            "limit": limit,
            "seed": seed,
        }
        self.cases: list[Case] = []

    @property
    def summary(self) -> Summary:
        """Means over :attr:`cases`."""
        return Summary(self.cases, self.options.fills, self.options.seed)

    def run(self, progress: Callable[[int, int], None] | None = None) -> Study:
        """Remove the regions, and sum up.

        Photos are taken in a random order, so that the one before is another photo at random.

        Args:
            progress: told how many subjects of how many are done.

        Raises:
            InputError: a photo that cannot be read, outputs that are no probabilities, no map that marks anything.
            LayerError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        started = time.perf_counter()
        order = np.random.default_rng(self.options.seed).permutation(len(self.subjects)).tolist()
        found: dict[int, list[Case]] = {}
        other: tuple[Path, list[Tensor]] | None = None
        for done, number in enumerate(order, 1):
            subject = self.subjects[number]
            # Questions about one photo are no other photos.
            maps = [] if other is None or other[0] == subject.photo else other[1]
            measurement = self.measurement(subject, maps)
            found[number] = measurement.cases()
            if own := _maps(measurement.explanation):
                other = subject.photo, own
            if progress is not None:
                progress(done, len(order))
        self.cases = [case for number in sorted(found) for case in found[number]]
        if not self.summary.cases():
            raise InputError(
                "no counterfactual map marks anything, they are positive nowhere: explain another layer, or another "
                "score (log-probability)"
            )
        return self.summary.study(self.settings, self._notes, time.perf_counter() - started)

    def measurement(self, subject: Subject, others: Sequence[Tensor] = ()) -> Measurement:
        """One photo, explained.

        Args:
            subject: one of those of the data.
            others: counterfactual maps of another photo.
        """
        photo = load_image(subject.photo)
        explanation = look(self.task, photo, subject, METHODS, self.layer, self.score)
        return Measurement(self.task, subject, photo, explanation, others, self.options)


def _maps(explanation: Explanation) -> list[Tensor]:
    """The counterfactual maps that mark something, of targets that are about something."""
    maps = explanation.maps[explanation.key(method=COUNTERFACTUAL)].float().cpu()
    return [
        values for values, target in zip(maps, explanation.targets, strict=True) if target.content and marks(values)
    ]
