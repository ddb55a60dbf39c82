"""Faithfulness: does the model's score depend on what a map calls important?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.errors import InputError, did_you_mean
from mmexplain.evaluate.changes import Change, covered, guessed, shown, stepwise
from mmexplain.evaluate.data.folder import CLIPS, PHOTOS, files
from mmexplain.evaluate.metrics.average_drop import win
from mmexplain.evaluate.metrics.infidelity import foretold, infidelity, max_sensitivity, squares
from mmexplain.evaluate.metrics.insertion_deletion import blurred
from mmexplain.evaluate.metrics.rank_correlation import on_grid, rank_correlation
from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.questions import Question, ask, context_of, probability, probe_of
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.io import load_image
from mmexplain.methods import select
from mmexplain.probe import Probe
from mmexplain.problem import Choice

if TYPE_CHECKING:
    from mmexplain.tasks.base import Batch, Task

METRICS = (
    Metric("drop", "Average Drop", percent=True, better="lower"),
    Metric("increase", "Increase", percent=True),
    Metric("win", "Win", percent=True),
    Metric("insertion", "insertion AUC"),
    Metric("deletion", "deletion AUC", better="lower"),
    Metric("road", "ROAD"),
    Metric("correlation", "occlusion correlation"),
    Metric("infidelity", "infidelity", better="lower"),
    Metric("sensitivity", "max-sensitivity", better="lower"),
)
DEFAULT = ("drop", "increase", "win", "insertion", "deletion")
OCCLUSION = "occlusion"
RADIUS = 0.02
"""Of the changes that max-sensitivity makes, in the model's input: captum's default."""


@dataclass
class _Case:
    """One map of one target of one input.

    Attributes:
        owner, target, method: which.
        values: the map as large as the input, ``[*P]``.
    """

    owner: int
    target: int
    method: str
    values: Tensor


class Faithfulness(Protocol):
    """What a model says of photos (or clips) that were changed by its own maps.

    Of each photo the likeliest class is explained, of a clip the likeliest action, in the window in its middle; of a
    photo that a captioner sees, each content word of the caption that it says. Scores are their probabilities. All
    methods are asked about together, and all changed inputs run in common batches.

    The formulas are those of :mod:`mmexplain.evaluate.metrics`; forward passes for each target and method:

    * ``drop``, ``increase``, ``win`` (against each other method, in rows of their own): 1;
    * ``insertion``, ``deletion``: ``steps + 1`` each;
    * ``road``: 16, and 16 sparse systems to solve, on the CPU: seconds for a map; photos only;
    * ``correlation`` with the occlusion map, on the map's own grid: those of ``"occlusion"``, once for all;
    * ``infidelity``: ``samples``, once for all;
    * ``sensitivity``: ``samples // 10`` times what it takes to explain.

    Args:
        task: classifier, captioner or action recogniser.
        data: folder of photos (or clips), see :func:`mmexplain.evaluate.data.folder.files`.
        methods: names of methods.
        layer: of the maps; the task's default if None.
        seed: of what is drawn at random, for each item anew: it does not matter which others are measured.
        metrics: which of :data:`METRICS`; :data:`DEFAULT` leaves out what takes long.
        steps: of insertion and deletion.
        samples: perturbations for infidelity.

    Raises:
        InputError: another task, an unknown metric, no steps.
        MethodError: an unknown method.
    """

    name = "faithfulness"
    title = "Faithfulness of maps"
    labels: ClassVar[tuple[str, ...]] = ("method", "against")
    metrics = METRICS
    batch = 4

    def __init__(
        self,
        task: Task,
        data: Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        metrics: Sequence[str] = DEFAULT,
        steps: int = 32,
        samples: int = 100,
    ) -> None:
        if task.name not in ("classify", "caption", "action"):
            raise InputError(f"faithfulness is measured for classes, captions and actions, not for task {task.name!r}")
        known = [metric.name for metric in METRICS]
        for name in metrics:
            if name not in known:
                raise InputError(f"unknown metric {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}")
        if not metrics or not methods:
            raise InputError("name at least one method and one metric")
        if steps < 1 or samples < 10:
            raise InputError(f"faithfulness takes 1 step and 10 samples or more, not steps={steps}, samples={samples}")
        if task.name == "action" and "road" in metrics:
            raise InputError("ROAD guesses the pixels of photos, not of clips; leave out the metric 'road'")
        self.task, self.data, self.layer, self.seed = task, Path(data), layer, seed
        self.methods = [method.name for method in select(methods)]
        self.wanted = [name for name in known if name in metrics]
        self.steps, self.samples = steps, samples

    def settings(self) -> Mapping[str, Any]:
        """All that was asked for."""
        return {
            "model": self.task.model_id,
            "layer": self.layer,
            "data": self.data.resolve().name,
            "methods": self.methods,
            "metrics": self.wanted,
            "steps": self.steps,
            "samples": self.samples,
            "seed": self.seed,
        }

    def items(self) -> Sequence[Item]:
        """The files of the folder."""
        return files(self.data, CLIPS if self.task.name == "action" else PHOTOS)

    def notes(self) -> Sequence[str]:
        """How each metric was taken."""
        notes = []
        if {"drop", "increase", "win"} & set(self.wanted):
            notes.append(
                "Average Drop, Increase, Win (Chattopadhay et al., 2018): the photo times max(0, map) / max(map), "
                "black where the map is not positive; a fall that is equal for two methods is half a win for each."
            )
        if {"insertion", "deletion"} & set(self.wanted):
            notes.append(
                f"Insertion and deletion (Petsiuk et al., 2018) in {self.steps} steps (published: one for every 224 "
                "pixels of 224 × 224); equal pixels in reading order."
            )
        if "road" in self.wanted:
            notes.append(
                "ROAD (Rong et al., 2022): mean over the percentiles 20, 30, … 90 of half the difference between least "
                "and most relevant first."
            )
        if "correlation" in self.wanted:
            notes.append("Occlusion: a grey patch of 35 pixels, Spearman on the grid of the map.")
        if {"infidelity", "sensitivity"} & set(self.wanted):
            notes.append(
                f"Infidelity of {self.samples} black squares with the map scaled for the best; max-sensitivity of "
                f"{self.samples // 10} inputs within {RADIUS} of the model's (Yeh et al., 2019)."
            )
        return notes

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """Rows of each method, and of each two for wins; explanations and changed inputs of all items together."""
        batch, explanations = self._explained([item.content for item in items])
        probe = probe_of(self.task, batch, explanations, self.seed)
        cases = [
            _Case(owner, target, method, self._over_input(explanation, target, method, probe))
            for owner, explanation in enumerate(explanations)
            for target, said in enumerate(explanation.targets)
            if said.content
            for method in self.methods
        ]
        rows: list[Row] = [
            {"method": case.method, "against": "", "target": self._named(explanations, case)} for case in cases
        ]
        self._masked(probe, explanations, cases, items, rows)
        if "correlation" in self.wanted:
            self._correlated(explanations, cases, rows)
        if "infidelity" in self.wanted:
            self._foretold(probe, cases, items, rows)
        if "sensitivity" in self.wanted:
            self._shaken(batch, explanations, cases, items, rows)
        return [
            [_storable(row, self.wanted) for case, row in zip(cases, rows, strict=True) if case.owner == owner]
            + [_storable(row, self.wanted) for row in self._wins(cases, rows, owner)]
            for owner in range(len(items))
        ]

    # -- explaining ---------------------------------------------------------------------------------------------------

    def _explained(self, paths: Sequence[Path]) -> tuple[Batch, list[Explanation]]:
        options: dict[str, Any] = {"methods": self._asked, "layers": self.layer and [self.layer], "seed": self.seed}
        if self.task.name == "action":
            options["sampling"] = "dense"
            inputs: list[Any] = list(map(str, paths))
        else:
            inputs = [load_image(path) for path in paths]
        explanations: list[Explanation] = self.task.explain(inputs, **options)  # type: ignore[attr-defined]
        if any(explanation.probabilities is None for explanation in explanations):
            raise InputError(f"faithfulness is measured in probabilities, and {self.task.model_id!r} puts out none")
        return self.task.prepare(inputs), explanations

    @property
    def _asked(self) -> list[str]:
        more = [OCCLUSION] if "correlation" in self.wanted and OCCLUSION not in self.methods else []
        return [*self.methods, *more]

    @staticmethod
    def _over_input(explanation: Explanation, target: int, method: str, probe: Probe) -> Tensor:
        values = explanation.map(target, method=method).detach().float()
        size = probe.inputs.shape[2:]
        if values.shape == size:
            return values
        mode = "bilinear" if len(size) == 2 else "trilinear"
        return functional.interpolate(values[None, None], size=size, mode=mode)[0, 0]

    @staticmethod
    def _named(explanations: Sequence[Explanation], case: _Case) -> str:
        return explanations[case.owner].targets[case.target].label

    def _generator(self, item: Item) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + crc32(item.key.encode()))

    # -- the metrics --------------------------------------------------------------------------------------------------

    def _changes(self, probe: Probe, case: _Case, before: float, item: Item) -> list[Change]:
        """What average drop, insertion, deletion and ROAD want of one map."""
        image, values = probe.inputs[case.owner], case.values
        found = []
        if {"drop", "increase", "win"} & set(self.wanted):
            found.append(shown(image, values, probe.black, before))
        if "insertion" in self.wanted:
            found.append(stepwise("insertion", blurred(image), image, values, self.steps))
        if "deletion" in self.wanted:
            found.append(stepwise("deletion", image, probe.black, values, self.steps))
        if "road" in self.wanted:
            found.append(guessed(image, values, self._generator(item)))
        return found

    def _masked(
        self,
        probe: Probe,
        explanations: Sequence[Explanation],
        cases: Sequence[_Case],
        items: Sequence[Item],
        rows: Sequence[Row],
    ) -> None:
        wanted = [
            (case, row, change)
            for case, row in zip(cases, rows, strict=True)
            for change in self._changes(probe, case, self._probability(explanations, case), items[case.owner])
        ]
        questions = [Question(case.owner, change.count, change.make) for case, _, change in wanted]
        found = ask(probe, questions, probability(probe))
        for (case, row, change), scores in zip(wanted, found, strict=True):
            row.update(change.read(scores[:, case.target].tolist()))

    @staticmethod
    def _probability(explanations: Sequence[Explanation], case: _Case) -> float:
        probabilities = explanations[case.owner].probabilities
        assert probabilities is not None
        return float(probabilities[case.target])

    def _wins(self, cases: Sequence[_Case], rows: Sequence[Row], owner: int) -> list[Row]:
        if "win" not in self.wanted:
            return []
        by_target: dict[int, dict[str, Row]] = {}
        for case, row in zip(cases, rows, strict=True):
            if case.owner == owner:
                by_target.setdefault(case.target, {})[case.method] = row
        return [
            {"method": one, "against": other, "target": row["target"], "win": win(row["fall"], named[other]["fall"])}
            for named in by_target.values()
            for one, row in named.items()
            for other in named
            if one != other
        ]

    @staticmethod
    def _correlated(explanations: Sequence[Explanation], cases: Sequence[_Case], rows: Sequence[Row]) -> None:
        for case, row in zip(cases, rows, strict=True):
            explanation = explanations[case.owner]
            values = explanation.map(case.target, method=case.method).float()
            patches = explanation.map(case.target, method=OCCLUSION).float()
            row["correlation"] = rank_correlation(values, on_grid(patches, list(values.shape)))

    def _foretold(self, probe: Probe, cases: Sequence[_Case], items: Sequence[Item], rows: Sequence[Row]) -> None:
        masks = [squares(probe.inputs.shape[2:], self.samples, self._generator(item)) for item in items]

        found = ask(
            probe,
            [
                Question(owner, self.samples, covered(probe.inputs[owner], masks[owner], probe.black))
                for owner in range(len(items))
            ],
        )
        scores = probe.scores.cpu()
        for case, row in zip(cases, rows, strict=True):
            lost = scores[case.owner, case.target] - found[case.owner][:, case.target]
            row["infidelity"] = infidelity(foretold(case.values, masks[case.owner]).cpu(), lost)

    def _shaken(
        self,
        batch: Batch,
        explanations: Sequence[Explanation],
        cases: Sequence[_Case],
        items: Sequence[Item],
        rows: Sequence[Row],
    ) -> None:
        """The same targets are explained again in inputs nearby."""
        (name,) = (name for name, value in batch.inputs.items() if value.is_floating_point() and value.ndim >= 4)
        choice = Choice([explanation.targets for explanation in explanations], context_of(self.task, explanations))
        generators = [self._generator(item) for item in items]
        others: list[list[Explanation]] = []
        for _ in range(self.samples // 10):
            noise = torch.stack([torch.rand(batch.inputs[name].shape[1:], generator=each) for each in generators])
            shaken = batch.inputs[name] + ((2 * noise - 1) * RADIUS).to(batch.inputs[name])
            changed = replace(batch, inputs={**batch.inputs, name: shaken})
            options: dict[str, Any] = {"methods": self.methods, "layers": self.layer and [self.layer]}
            others.append(explain(self.task, changed, choice, seed=self.seed, **options))
        for case, row in zip(cases, rows, strict=True):
            nearby = [found[case.owner].map(case.target, method=case.method).float() for found in others]
            own = explanations[case.owner].map(case.target, method=case.method).float()
            row["sensitivity"] = max_sensitivity(own, torch.stack(nearby))


def _storable(row: Row, wanted: Sequence[str]) -> Row:
    """What a file holds: the metrics that were asked for, None where one is not a number."""
    kept = {name: value for name, value in row.items() if isinstance(value, str) or name in wanted}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in kept.items()}
