"""Protocol: randomisation of a model's layers, from the head down or one by one (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmexplain.errors import InputError
from mmexplain.evaluate.compared import MEASURED, ComparedMaps, similarity_rows
from mmexplain.evaluate.protocol import Item, Row
from mmexplain.evaluate.weights import RandomWeights

MODES = ("cascading", "independent")


class LayerRandomisation(ComparedMaps):
    """Similarity of each map to the one made after layers of the model were given random weights.

    Cascading: the layers from the head down to the named one are random. Independent: the named one alone. A map that
    stays the same tells of the photo and the architecture, and not of what the model learned. The targets are those of
    the trained model throughout.

    Args:
        task: a copy of its model is randomised (:class:`~mmexplain.evaluate.weights.RandomWeights`).
        data: as for :class:`~mmexplain.evaluate.compared.ComparedMaps`.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the random weights and of the methods' draws.
        modes: "cascading", "independent" or both.
        stages: at most so many groups of layers; see :meth:`~mmexplain.evaluate.weights.RandomWeights.stages`.

    Raises:
        InputError: no folder, an unknown mode, or no stage.
        ModelError: the model cannot be copied, or has no parameter.
    """

    name: ClassVar[str] = "randomisation"
    title: ClassVar[str] = "Randomisation of the model's layers (Adebayo et al. 2018)"
    labels: ClassVar[tuple[str, ...]] = ("method", "mode", "random layers")

    def __init__(
        self,
        task: Any,
        data: Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        modes: Sequence[str] = MODES,
        stages: int = 16,
    ) -> None:
        super().__init__(task, data, methods, layer=layer, seed=seed)
        self.modes, self.stages = tuple(modes), stages
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(f"unknown mode {mode!r}; there are: {', '.join(MODES)}")
        if stages < 1 or not self.modes:
            raise InputError(f"stages={stages}, modes={list(self.modes)}: name 1 or more of each")
        self._weights = RandomWeights(task, seed)

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer, seed, modes and stages."""
        return {**super().settings(), "modes": list(self.modes), "stages": self.stages}

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """For each item a row for each map, mode and group of layers."""
        weights = self._weights
        weights.randomise([])
        together = self.together(weights.task, items)
        explanations = weights.traced(together.explain)
        groups = weights.stages(self.stages)[::-1]
        rows: list[list[Row]] = [[] for _ in items]
        for mode in self.modes:
            chosen: list[str] = []
            for name, layers in groups:
                chosen = [*chosen, *layers] if mode == "cascading" else layers
                weights.randomise(chosen)
                labels = {"mode": mode, "random layers": f"down to {name}" if mode == "cascading" else name}
                others = together.again(weights.task, explanations)
                for found, explanation, other in zip(rows, explanations, others, strict=True):
                    found += similarity_rows(explanation, other, **labels)
        weights.randomise([])
        return rows

    def notes(self) -> Sequence[str]:
        """How the weights are drawn, and what is measured."""
        return (
            "Layers are in the order in which they run; in 'cascading' all from the head down to the named ones are "
            "random.",
            "Random weights are those of each layer's own initialisation, drawn once for all photos; batch "
            "normalisation starts from mean 0 and variance 1. Parameters of layers without an initialisation of their "
            "own keep their mean and deviation.",
            *MEASURED,
        )
