"""From explanations to rows: inputs changed by all maps are run together, and each metric reads its own scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.evaluate.changes import Change, covered, guessed, shown, stepwise
from mmexplain.evaluate.metrics.average_drop import win
from mmexplain.evaluate.metrics.infidelity import foretold, infidelity, max_sensitivity, squares
from mmexplain.evaluate.metrics.insertion_deletion import blurred, order, orders
from mmexplain.evaluate.metrics.rank_correlation import on_grid, rank_correlation
from mmexplain.evaluate.protocol import Metric, Row
from mmexplain.evaluate.questions import Question, ask, probability, probe_of
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
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
OCCLUSION = "occlusion"
RADIUS = 0.02
"""Of the changes that max-sensitivity makes, in the model's input: captum's default."""


@dataclass(frozen=True)
class Options:
    """What is measured, and how finely.

    Attributes:
        methods: names of methods.
        metrics: names of :data:`METRICS`.
        layer: of the maps; the task's default if None.
        steps: of insertion and deletion.
        samples: perturbations for infidelity.
        seed: of what is drawn at random.
    """

    methods: Sequence[str]
    metrics: Sequence[str]
    layer: str | None
    steps: int
    samples: int
    seed: int

    @property
    def explained(self) -> list[str]:
        """The methods whose maps are needed."""
        more = [OCCLUSION] if "correlation" in self.metrics and OCCLUSION not in self.methods else []
        return [*self.methods, *more]


@dataclass
class _Case:
    """One map of one target of one input.

    Attributes:
        owner, target, method: which.
        values: the map as large as the input, ``[*P]``.
        row: what was measured of it.
    """

    owner: int
    target: int
    method: str
    values: Tensor
    row: Row


class Measurement:
    """The rows of B explained inputs.

    Args:
        task: of the model.
        batch: the inputs, prepared, with all that was read beside them.
        explanations: theirs, with maps of :attr:`Options.explained`.
        keys: of the items; what is drawn for an item depends on its key and on no other item.
        options: what is measured.
    """

    def __init__(
        self, task: Task, batch: Batch, explanations: Sequence[Explanation], keys: Sequence[str], options: Options
    ) -> None:
        self.task, self.batch, self.explanations, self.keys, self.options = task, batch, explanations, keys, options
        self.probe = probe_of(task, batch, explanations, options.seed)
        # What breaks ties is drawn for an item and not for a map: methods that agree are to have the same numbers.
        pixels = self.probe.inputs[0, 0].numel()
        self.shuffles = [torch.randperm(pixels, generator=self._generator(owner)) for owner in range(len(keys))]
        self.cases = [
            _Case(
                owner,
                target,
                method,
                self._over_input(explanation, target, method),
                {"method": method, "against": "", "target": said.label},
            )
            for owner, explanation in enumerate(explanations)
            for target, said in enumerate(explanation.targets)
            if said.content
            for method in options.methods
        ]

    def rows(self) -> list[list[Row]]:
        """For each input the rows of its maps, and one for each two methods where wins are asked for."""
        self._masked()
        if "correlation" in self.options.metrics:
            self._correlated()
        if "infidelity" in self.options.metrics:
            self._foretold()
        if "sensitivity" in self.options.metrics:
            self._shaken()
        for case in self.cases:
            if not bool(case.values.isfinite().any()) or bool(case.values.isinf().any()):
                undefined = [name for name in (*self.options.metrics, "fall") if name != "win"]
                case.row.update(dict.fromkeys(undefined, math.nan))
        return [
            [self._storable(row) for row in (*(case.row for case in self._of(owner)), *self._wins(owner))]
            for owner in range(len(self.explanations))
        ]

    def _of(self, owner: int) -> list[_Case]:
        return [case for case in self.cases if case.owner == owner]

    def _over_input(self, explanation: Explanation, target: int, method: str) -> Tensor:
        values = explanation.map(target, method=method).detach().float()
        size = self.probe.inputs.shape[2:]
        if values.shape == size:
            return values
        if not orders(values):
            # Interpolation rounds equal numbers to unequal ones, which would make an order of nothing.
            seen = values[~values.isnan()]
            return values.new_full(size, float(seen[0]) if seen.numel() and seen.isfinite().all() else math.nan)
        mode = "bilinear" if len(size) == 2 else "trilinear"
        return functional.interpolate(values[None, None], size=size, mode=mode)[0, 0]

    def _generator(self, owner: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.options.seed + crc32(self.keys[owner].encode()))

    def _storable(self, row: Row) -> Row:
        """What a file holds: the metrics that were asked for, None where one is not a number."""
        kept = {name: value for name, value in row.items() if isinstance(value, str) or name in self.options.metrics}
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in kept.items()}

    # -- the metrics --------------------------------------------------------------------------------------------------

    def _changes(self, case: _Case) -> list[Change]:
        """What average drop, insertion, deletion and ROAD want of one map."""
        image, values, black = self.probe.inputs[case.owner], case.values, self.probe.black
        wanted, steps = self.options.metrics, self.options.steps
        found = []
        if {"drop", "increase", "win"} & set(wanted):
            found.append(shown(image, values, black, self._probability(case)))
        ordering = {"insertion", "deletion", "road"} & set(wanted)
        if not orders(values):
            case.row.update(dict.fromkeys(ordering, math.nan))
        elif ordering:
            ordered = order(values, self.shuffles[case.owner])
            if "insertion" in wanted:
                found.append(stepwise("insertion", blurred(image), image, ordered, steps))
            if "deletion" in wanted:
                found.append(stepwise("deletion", image, black, ordered, steps))
            if "road" in wanted:
                found.append(guessed(image, ordered, self._generator(case.owner)))
        return found

    def _masked(self) -> None:
        wanted = [(case, change) for case in self.cases for change in self._changes(case)]
        questions = [Question(case.owner, change.count, change.make) for case, change in wanted]
        found = ask(self.probe, questions, probability(self.probe))
        for (case, change), scores in zip(wanted, found, strict=True):
            case.row.update(change.read(scores[:, case.target].tolist()))

    def _probability(self, case: _Case) -> float:
        probabilities = self.explanations[case.owner].probabilities
        assert probabilities is not None
        return float(probabilities[case.target])

    def _wins(self, owner: int) -> list[Row]:
        if "win" not in self.options.metrics:
            return []
        by_target: dict[int, dict[str, Row]] = {}
        for case in self._of(owner):
            by_target.setdefault(case.target, {})[case.method] = case.row
        return [
            {"method": one, "against": other, "target": row["target"], "win": win(row["fall"], named[other]["fall"])}
            for named in by_target.values()
            for one, row in named.items()
            for other in named
            if one != other
        ]

    def _correlated(self) -> None:
        for case in self.cases:
            explanation = self.explanations[case.owner]
            values = explanation.map(case.target, method=case.method).float()
            patches = explanation.map(case.target, method=OCCLUSION).float()
            case.row["correlation"] = rank_correlation(values, on_grid(patches, list(values.shape)))

    def _foretold(self) -> None:
        probe, samples = self.probe, self.options.samples
        masks = [squares(probe.inputs.shape[2:], samples, self._generator(owner)) for owner in range(probe.batch)]
        found = ask(
            probe,
            [
                Question(owner, samples, covered(image, masks[owner], probe.black))
                for owner, image in enumerate(probe.inputs)
            ],
        )
        scores = probe.scores.cpu()
        for case in self.cases:
            lost = scores[case.owner, case.target] - found[case.owner][:, case.target]
            case.row["infidelity"] = infidelity(foretold(case.values, masks[case.owner]).cpu(), lost)

    def _shaken(self) -> None:
        """The same targets are explained again in inputs nearby."""
        batch, options, name = self.batch, self.options, self.probe.problem.image
        choice = Choice([found.targets for found in self.explanations])
        generators = [self._generator(owner) for owner in range(len(self.explanations))]
        others: list[list[Explanation]] = []
        for _ in range(options.samples // 10):
            noise = torch.stack([torch.rand(batch.inputs[name].shape[1:], generator=each) for each in generators])
            shaken = batch.inputs[name] + ((2 * noise - 1) * RADIUS).to(batch.inputs[name])
            changed = replace(batch, inputs={**batch.inputs, name: shaken})
            asked: dict[str, Any] = {"methods": options.methods, "layers": options.layer and [options.layer]}
            others.append(explain(self.task, changed, choice, seed=options.seed, **asked))
        for case in self.cases:
            nearby = [found[case.owner].map(case.target, method=case.method).float() for found in others]
            own = self.explanations[case.owner].map(case.target, method=case.method).float()
            case.row["sensitivity"] = max_sensitivity(own, torch.stack(nearby))
