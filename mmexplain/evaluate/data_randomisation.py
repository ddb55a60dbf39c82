"""Protocol: the data randomisation test, maps of a model against those of one that was trained on permuted labels
(Adebayo et al., NeurIPS 2018, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmexplain.errors import InputError
from mmexplain.evaluate.compared import MEASURED, ComparedMaps, similarity_rows
from mmexplain.evaluate.protocol import Item, Row


class DataRandomisation(ComparedMaps):
    """Similarity of the maps of two models of one architecture.

    A map that is the same for a model that learned the true labels and for one that learned permuted ones by heart
    tells nothing of how photos and labels go together. The targets are those that the first model names. Training the
    models is up to the user: ``benchmarks/data_randomisation.py`` does it for a small CNN.

    Args:
        task: with the model that was trained on the true labels.
        data: as for :class:`~mmexplain.evaluate.compared.ComparedMaps`.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the methods' draws.
        against: with the model that was trained on permuted labels.

    Raises:
        InputError: no folder, no second model, or one of another task or architecture.
    """

    name: ClassVar[str] = "data-randomisation"
    title: ClassVar[str] = "Randomisation of the training labels (Adebayo et al. 2018)"
    compares: ClassVar[bool] = True

    def __init__(
        self,
        task: Any,
        data: Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        against: Any = None,
    ) -> None:
        super().__init__(task, data, methods, layer=layer, seed=seed)
        if against is None:
            raise InputError(f"protocol {self.name!r} compares two models: name the other, trained on permuted labels")
        if against.name != task.name or _shapes(against) != _shapes(task):
            raise InputError(
                f"models {task.model_id!r} and {against.model_id!r} differ in more than their weights: maps can be "
                "compared within one architecture only"
            )
        self.against = against

    def settings(self) -> Mapping[str, Any]:
        """Both models, methods, layer and seed."""
        return {**super().settings(), "against": self.against.model_id}

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """For each item a row for each map."""
        together = self.together(self.task, items)
        explanations = together.explain(self.task)
        others = together.again(self.against, explanations)
        return [similarity_rows(*pair) for pair in zip(explanations, others, strict=True)]

    def notes(self) -> Sequence[str]:
        """Whose targets are explained, and what is measured."""
        return (
            "Explained are the targets that the first model names. How alike the maps of two models with the same "
            "training and other seeds are is the yardstick: compare them too.",
            *MEASURED,
        )


def _shapes(task: Any) -> dict[str, Any]:
    return {name: tuple(value.shape) for name, value in task.model.state_dict().items()}
