"""Do maps depend on what the model learned? Randomisation of its weights (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmexplain.errors import ModelError
from mmexplain.evaluate.metrics.rank_correlation import rank_correlation
from mmexplain.evaluate.weights import RandomWeights
from mmexplain.explanation import Explanation
from mmexplain.means import mean

LITTLE = 0.7
"""From this rank correlation on, a map is much the same whatever the model learned."""

PARTLY = 0.4
"""From this one on, a good part of it is."""


@dataclass(frozen=True)
class Similarity:
    """How alike the maps of one target are in two explanations.

    Attributes:
        layer, method: of the map.
        target: its number among the targets.
        signed: Spearman's rank correlation of the maps as they are; NaN where one is flat ("no absolute values" in
            Adebayo et al.).
        absolute: that of their magnitudes.
    """

    layer: str
    method: str
    target: int
    signed: float
    absolute: float


@dataclass(frozen=True)
class Verdict:
    """What the quick check found of one method.

    Attributes:
        layer, method: of the maps.
        named: how the line calls them.
        signed: mean rank correlation of the maps with those of random weights; NaN if all are flat.
        absolute: that of their magnitudes.
        targets: how many went in.
        undefined: how many could not, because one of the two maps is flat.
    """

    layer: str
    method: str
    named: str
    signed: float
    absolute: float
    targets: int
    undefined: int

    @property
    def correlation(self) -> float:
        """The larger of :attr:`signed` and :attr:`absolute`; NaN if there is neither."""
        return max(self.signed, self.absolute) if self.targets else math.nan

    @property
    def word(self) -> str:
        """``"little"``, ``"partly"`` or ``"depends"``: how much of the map tells of the model; ``"undefined"``."""
        if not self.targets:
            return "undefined"
        return "little" if self.correlation >= LITTLE else "partly" if self.correlation >= PARTLY else "depends"

    def line(self) -> str:
        """The verdict for people."""
        if not self.targets:
            return f"{self.named}: with random weights the map is flat, or this one is: nothing to compare"
        of = "" if self.signed >= self.absolute else " of magnitudes"
        over = f"rank correlation{of} over {self.targets} target{'' if self.targets == 1 else 's'}"
        flat = f", {self.undefined} flat" if self.undefined else ""
        told = {
            "little": "it tells little of the model",
            "partly": "part of it does not come from what the model learned",
            "depends": "it depends on what the model learned",
        }[self.word]
        return (
            f"{self.named}: with random weights the map would correlate {self.correlation:.2f} with this one "
            f"({over}{flat}): {told}"
        )

    def to_json(self) -> dict[str, Any]:
        """For ``--json``; numbers that are not defined are None."""
        numbers = {"correlation": self.correlation, "signed": self.signed, "absolute": self.absolute}
        return {
            "layer": self.layer,
            "method": self.method,
            **{name: None if math.isnan(value) else value for name, value in numbers.items()},
            "targets": self.targets,
            "undefined": self.undefined,
            "verdict": self.word,
        }


def quick(
    task: Any, source: Any, explanation: Explanation | None = None, *, weights_seed: int = 0, **options: Any
) -> list[Verdict]:
    """Compare an explanation with that of the same targets by the same model with random weights in every layer.

    The full end of cascading randomisation, drawn once; costs one more explanation and a copy of the model. Activations
    of random layers shrink with depth, so that a softmax over places may come out exactly flat: undefined then. ::

        task = load("efficientnet-lite0")
        for verdict in quick(task, "photo.jpg", methods=["gradcam", "guided-backprop"]):
            print(verdict.line())

    Args:
        task: classification, captioning, question answering, actions; or one whose ``explain`` takes ``targets``.
        source: the photo or the clip.
        explanation: what ``task.explain(source, **options)`` returned; made here if None.
        weights_seed: of the random weights.
        options: what ``task.explain`` is told besides.

    Raises:
        ModelError: the model cannot be copied, or has no parameter.
        What ``task.explain`` raises.
    """
    if explanation is None:
        explanation = task.explain(source, **options)
    weights = RandomWeights(task, weights_seed)
    weights.randomise(weights.layers)
    found = similarities(explanation, again(weights.task, source, explanation, options))
    methods = [key.method for key in explanation.maps]
    return [
        _verdict(
            key.layer,
            key.method,
            methods.count(key.method) > 1,
            [one for one in found if (one.layer, one.method) == (key.layer, key.method)],
        )
        for key in explanation.maps
    ]


def compare(task: Any, other: Any, source: Any, **options: Any) -> list[Similarity]:
    """How alike the maps of two models of one architecture are, for the targets that the first one names.

    With a model that was trained on permuted labels as ``other`` this is the data randomisation test (Adebayo et al.
    2018, section 4); :class:`~mmexplain.evaluate.data_randomisation.DataRandomisation` is it over a folder.

    Args:
        task: names the targets.
        other: has the same layers and targets.
        source: the photo or the clip.
        options: what ``task.explain`` is told besides.
    """
    explanation = task.explain(source, **options)
    return similarities(explanation, again(other, source, explanation, options))


def similarities(one: Explanation, other: Explanation | None) -> list[Similarity]:
    """Rank correlations of all maps of ``one`` with those of ``other``, target by target; NaN where it has none."""
    found = []
    for key, number, values in one.each_map():
        numbers = (math.nan, math.nan)
        if other is not None and key in other.maps:
            against = other.map(number, key.layer, key.method)
            numbers = (rank_correlation(values, against), rank_correlation(values.abs(), against.abs()))
        found.append(Similarity(key.layer, key.method, number, *numbers))
    return found


def again(task: Any, source: Any, explanation: Explanation, options: Mapping[str, Any]) -> Explanation | None:
    """Explain the very targets of an explanation by another model, whatever that one would say itself. None where its
    output is unusable (not finite, without a gradient), which a model with random weights may be.

    Args:
        task: with the other model.
        source: the photo or the clip.
        explanation: whose targets are taken.
        options: what ``explain`` was told when it was made.
    """
    told = dict(options)
    if told.get("text"):
        told["text"] = ()
    match explanation.task:
        case "caption":
            told["caption"] = explanation.text
        case "vqa":
            told |= {"answers": list(explanation.targets), "versus": (), "top": 0}
        case _:
            told = {name: value for name, value in told.items() if name not in ("top", "versus")}
            told["targets"] = list(explanation.targets)
    try:
        found: Explanation = task.explain(source, **told)
    except ModelError:
        return None
    return found


def _verdict(layer: str, method: str, several: bool, found: Sequence[Similarity]) -> Verdict:
    defined = [s for s in found if not (math.isnan(s.signed) and math.isnan(s.absolute))]
    return Verdict(
        layer,
        method,
        f"{method} at {layer}" if several else method,
        mean([s.signed for s in defined]),
        mean([s.absolute for s in defined]),
        len(defined),
        len(found) - len(defined),
    )
