"""Protocol: randomisation of a model's layers, from the head down or one by one (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmexplain.errors import InputError
from mmexplain.evaluate.data.folder import CLIPS, PHOTOS, files
from mmexplain.evaluate.data.questions import read_asked
from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.randomisation import again, similarities
from mmexplain.evaluate.weights import RandomWeights
from mmexplain.methods.registry import select

MODES = ("cascading", "independent")


class LayerRandomisation(Protocol):
    """Rank correlation of each map with the one made after layers of the model were given random weights.

    Cascading: the layers from the head down to the named one are random. Independent: the named one alone. A map that
    stays the same tells of the photo and the architecture, and not of what the model learned. The targets are those of
    the trained model throughout: the likeliest class or action, the whole caption, the answer.

    Args:
        task: a copy of its model is randomised (:class:`~mmexplain.evaluate.weights.RandomWeights`).
        data: a folder of photos, at any depth; of clips for an action model; for question answering one with
            ``qa.jsonl`` (``image``, ``question``, ``split``: only "test" is taken where it is told) and ``images/``.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the random weights and of the methods' draws.
        modes: of :data:`MODES`.
        stages: at most so many groups of layers; see :meth:`RandomWeights.stages`.

    Raises:
        InputError: no folder, an unknown mode, or no stage.
        ModelError: the model cannot be copied, or has no parameter.
    """

    name: ClassVar[str] = "randomisation"
    title: ClassVar[str] = "Randomisation of the model's layers (Adebayo et al. 2018)"
    labels: ClassVar[tuple[str, ...]] = ("method", "mode", "random layers")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("signed", "rank correlation", better="lower"),
        Metric("absolute", "of magnitudes", better="lower"),
    )

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
        self.task, self.data, self.methods, self.layer, self.seed = task, Path(data), tuple(methods), layer, seed
        self.modes, self.stages = tuple(modes), stages
        if not self.data.is_dir():
            raise InputError(f"no such folder: {str(self.data)!r}")
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(f"unknown mode {mode!r}; there are: {', '.join(MODES)}")
        if stages < 1 or not self.modes:
            raise InputError(f"stages={stages}, modes={list(self.modes)}: name 1 or more of each")
        select(self.methods)
        self._weights = RandomWeights(task, seed)

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer, seed, modes and stages."""
        return {
            "model": self.task.model_id,
            "methods": list(self.methods),
            "layer": self.layer,
            "seed": self.seed,
            "modes": list(self.modes),
            "stages": self.stages,
        }

    def items(self) -> Sequence[Item]:
        """The photos or clips of the folder, or its questions."""
        if self.task.name == "vqa":
            asked = read_asked(self.data)
            return [Item(item.key, (item.content.photo, {"question": item.content.question})) for item in asked]
        found = files(self.data, CLIPS if self.task.name == "action" else PHOTOS)
        return [Item(item.key, (item.content, {})) for item in found]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """For each item a row for each map, mode and group of layers."""
        return [self._rows(*item.content) for item in items]

    def notes(self) -> Sequence[str]:
        """How the weights are drawn, and what is left out."""
        return (
            "Maps are compared at the layer's own resolution. Layers are in the order in which they run; in "
            "'cascading' all from the head down to the named ones are random.",
            "Random weights are those of each layer's own initialisation, drawn once for all photos; batch "
            "normalisation starts from mean 0 and variance 1. Parameters of layers without an initialisation of their "
            "own keep their mean and deviation.",
            "Without SSIM and HOG similarity. Rows of flat or unusable maps are undefined and not in the means.",
        )

    # -- one photo or clip ------------------------------------------------------------------------------------------

    def _rows(self, path: Path, extra: dict[str, Any]) -> list[Row]:
        options: dict[str, Any] = {**extra, "methods": self.methods, "seed": self.seed}
        options["layers"] = None if self.layer is None else [self.layer]
        if self.task.name == "caption":
            options |= {"words": [], "whole": True}
        weights, source = self._weights, str(path)
        weights.randomise([])
        explanation = weights.traced(lambda task: task.explain(source, **options))
        groups = weights.stages(self.stages)[::-1]
        rows: list[Row] = []
        for mode in self.modes:
            chosen: list[str] = []
            for name, layers in groups:
                chosen = [*chosen, *layers] if mode == "cascading" else layers
                weights.randomise(chosen)
                named = f"down to {name}" if mode == "cascading" else name
                for found in similarities(explanation, again(weights.task, source, explanation, options)):
                    apart = sum(key.method == found.method for key in explanation.maps) > 1
                    rows.append(
                        {
                            "method": f"{found.method} at {found.layer}" if apart else found.method,
                            "mode": mode,
                            "random layers": named,
                            "signed": None if math.isnan(found.signed) else found.signed,
                            "absolute": None if math.isnan(found.absolute) else found.absolute,
                        }
                    )
        weights.randomise([])
        return rows
