"""Do maps depend on what the model learned? Randomisation of its weights (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmexplain.errors import InputError, ModelError
from mmexplain.evaluate.metrics.rank_correlation import rank_correlation
from mmexplain.evaluate.weights import RandomWeights
from mmexplain.explanation import Explanation
from mmexplain.means import mean

LITTLE = 0.7
"""From this rank correlation on, a map is much the same whatever the model learned. The two cut-offs are mmexplain's
own: Adebayo et al. name none. Maps that have nothing in common correlate about 0."""

PARTLY = 0.4
"""From this one on, a good part of it is."""

DRAWS = 3
"""Random models that the quick check compares with: one may be odd."""


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
        undefined: how many could not, because one of the two maps is flat with every draw.
        drawn: :attr:`signed` and :attr:`absolute` for each draw of random weights; NaN where all maps of it are flat.
    """

    layer: str
    method: str
    named: str
    signed: float
    absolute: float
    targets: int
    undefined: int
    drawn: tuple[tuple[float, float], ...] = ()

    @property
    def spread(self) -> tuple[float, float, int]:
        """The least and the largest :attr:`correlation` over the draws, and how many draws could be compared; NaN and 0
        where none could."""
        place = 0 if self.signed >= self.absolute else 1
        values = [numbers[place] for numbers in self.drawn if not math.isnan(numbers[place])]
        return (min(values), max(values), len(values)) if values else (math.nan, math.nan, 0)

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

    @property
    def says(self) -> str:
        """The verdict as a sentence."""
        if not self.targets:
            return "with random weights the map is flat, or this one is: nothing to compare"
        of = "" if self.signed >= self.absolute else " of magnitudes"
        over = f"rank correlation{of} over {self.targets} target{'' if self.targets == 1 else 's'}"
        flat = f", {self.undefined} flat" if self.undefined else ""
        low, high, draws = self.spread
        spread = f"; between {low:.2f} and {high:.2f} over {draws} draws" if draws > 1 else ""
        told = {
            "little": "it tells little of the model",
            "partly": "part of it does not come from what the model learned",
            "depends": "it depends on what the model learned",
        }[self.word]
        return (
            f"with random weights the map would correlate {self.correlation:.2f} with this one "
            f"({over}{flat}{spread}): {told}"
        )

    def line(self) -> str:
        """The verdict for people, with the name of the map."""
        return f"{self.named}: {self.says}"

    def to_json(self) -> dict[str, Any]:
        """For ``--json``; numbers that are not defined are None."""
        low, high, draws = self.spread
        numbers = {
            "correlation": self.correlation,
            "low": low,
            "high": high,
            "signed": self.signed,
            "absolute": self.absolute,
        }
        return {
            "layer": self.layer,
            "method": self.method,
            **{name: None if math.isnan(value) else value for name, value in numbers.items()},
            "targets": self.targets,
            "undefined": self.undefined,
            "draws": draws,
            "verdict": self.word,
            "says": self.says,
        }


def quick(
    task: Any,
    source: Any,
    explanation: Explanation | None = None,
    *,
    weights_seed: int = 0,
    draws: int = DRAWS,
    **options: Any,
) -> list[Verdict]:
    """Compare an explanation with that of the same targets by the same model with random weights in every layer.

    The full end of cascading randomisation; each draw costs one more explanation and a copy of the model. Activations
    of random layers shrink with depth, so that a softmax over places may come out exactly flat: undefined then. ::

        task = load("efficientnet-lite0")
        for verdict in quick(task, "photo.jpg", methods=["gradcam", "guided-backprop"]):
            print(verdict.line())

    Args:
        task: classification, captioning, question answering, actions; or one whose ``explain`` takes ``targets``.
        source: the photo or the clip.
        explanation: what ``task.explain(source, **options)`` returned; made here if None.
        weights_seed: of the random weights of the first draw; the others take the numbers after it.
        draws: how many random models.
        options: what ``task.explain`` is told besides.

    Raises:
        InputError: no draw.
        ModelError: the model cannot be copied, or has no parameter.
        What ``task.explain`` raises.
    """
    if draws < 1:
        raise InputError(f"draws={draws}: compare with 1 random model or more")
    if explanation is None:
        explanation = task.explain(source, **options)
    found = [_drawn(task, source, explanation, weights_seed + draw, options) for draw in range(draws)]
    methods = [key.method for key in explanation.maps]
    return [
        _verdict(
            key.layer,
            key.method,
            methods.count(key.method) > 1,
            [[one for one in draw if (one.layer, one.method) == (key.layer, key.method)] for draw in found],
        )
        for key in explanation.maps
    ]


def _drawn(task: Any, source: Any, explanation: Explanation, seed: int, options: Mapping[str, Any]) -> list[Similarity]:
    """Similarities to the maps of one random model, which is gone afterwards."""
    weights = RandomWeights(task, seed)
    weights.randomise(weights.layers)
    return similarities(explanation, again(weights.task, source, explanation, options))


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


def _verdict(layer: str, method: str, several: bool, draws: Sequence[Sequence[Similarity]]) -> Verdict:
    """Means over the targets of each draw, and over the draws of these."""
    drawn = tuple((mean(s.signed for s in found), mean(s.absolute for s in found)) for found in draws)
    targets = {s.target for found in draws for s in found}
    compared = {s.target for found in draws for s in found if not (math.isnan(s.signed) and math.isnan(s.absolute))}
    return Verdict(
        layer,
        method,
        f"{method} at {layer}" if several else method,
        mean(signed for signed, _ in drawn),
        mean(absolute for _, absolute in drawn),
        len(compared),
        len(targets) - len(compared),
        drawn,
    )
