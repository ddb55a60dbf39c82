"""Protocol: maps against where people looked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.errors import InputError
from mmexplain.evaluate.data.human_attention import Attended, read_human_attention, read_map
from mmexplain.evaluate.data.vqa_hat import looks_like_vqa_hat, read_vqa_hat
from mmexplain.evaluate.metrics.saliency import (
    GRID,
    auc_judd,
    cc,
    centre_gaussian,
    fixated_pixels,
    grid_spearman,
    kl,
    nss,
    strongest_pixels,
)
from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.io import load_image
from mmexplain.methods.registry import select


class HumanAttention(Protocol):
    """Agreement of maps with human attention, on VQA-HAT (Das et al. 2016) or on photos with maps of several kinds.

    A classifier's map is that of its likeliest class, a captioner's that of its whole caption, a VQA model's that of
    its answer to the question. Beside the methods stand controls: a Gaussian in the middle of the photo, the human map
    of another photo, a uniform map, and the human maps of the other kinds or annotators as a ceiling.

    Args:
        task: that explains photos.
        data: a folder in the layout of ``human_attention`` or of VQA-HAT.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the methods' draws, and of which other photo's map is taken.

    Raises:
        InputError: no folder, a task that is not asked about photos, questions where none are in the data, or none
            where a question is what a person looked at.
    """

    name: ClassVar[str] = "human-attention"
    title: ClassVar[str] = "Human attention (Das et al. 2016; Bylinskii et al. 2019)"
    labels: ClassVar[tuple[str, ...]] = ("method", "human")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("spearman", f"Spearman {GRID}×{GRID}"),
        Metric("auc_judd", "AUC-Judd"),
        Metric("nss", "NSS"),
        Metric("cc", "CC"),
        Metric("kl", "KL", better="lower"),
    )

    @classmethod
    def wants(cls, data: Path) -> str | None:
        """VQA-HAT asks questions."""
        return "vqa" if data.is_dir() and looks_like_vqa_hat(data) else None

    def __init__(
        self, task: Any, data: Path, methods: Sequence[str], *, layer: str | None = None, seed: int = 0
    ) -> None:
        self.task, self.data, self.methods, self.layer, self.seed = task, Path(data), tuple(methods), layer, seed
        if task.name not in ("classify", "caption", "vqa"):
            raise InputError(
                f"protocol {self.name!r} is for photos: a model for {task.name!r} cannot be measured by it"
            )
        if not self.data.is_dir():
            raise InputError(f"no such folder: {str(self.data)!r}")
        self._asked = looks_like_vqa_hat(self.data)
        if self._asked and task.name != "vqa":
            raise InputError(f"people looked to answer questions in {str(self.data)!r}: name a VQA model")
        if not self._asked and task.name == "vqa":
            raise InputError(
                f"{str(self.data)!r} holds no questions (*questions*.json) as VQA-HAT's layout has: name a classifier "
                "or a captioner, or such a folder"
            )
        select(self.methods)
        self._attended: list[Attended] = []

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer and seed."""
        return {"model": self.task.model_id, "methods": list(self.methods), "layer": self.layer, "seed": self.seed}

    def items(self) -> Sequence[Item]:
        """The photos, or the questions of VQA-HAT."""
        read = read_vqa_hat if self._asked else read_human_attention
        self._attended = list(read(self.data))
        return [Item(photo.key, photo) for photo in self._attended]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """For each human map a row for each method and control."""
        return [self._rows(item.content) for item in items]

    def notes(self) -> Sequence[str]:
        """What is compared, and what the controls are."""
        asked = (
            "VQA-HAT: the map is that of the model's own answer; questions that it cannot read are left out."
            if self._asked
            else "People viewed these photos freely, without a question: VQA-HAT's numbers are not comparable."
        )
        return (
            asked,
            "Pixels that the model did not see are left out of both maps. Maps of colours (guided-backprop) count by "
            "magnitude; negative parts count as 0 in KL.",
            "Fixations are the recorded points (a pixel once); of kinds without points the 5 % strongest pixels of "
            "the human map stand for them.",
            "centre: a Gaussian with a deviation of a quarter of each side. another photo: the human map of the same "
            "kind, or annotator, of another photo. uniform: has no ranks, deviation or ROC curve; its KL is that of "
            "knowing nothing. humans: the maps of the other kinds, or annotators, of the same photo, the ceiling.",
        )

    # -- one photo --------------------------------------------------------------------------------------------------

    def _rows(self, photo: Attended) -> list[Row]:
        predictions = self._predictions(photo)
        if not predictions:
            return []
        height, width = next(iter(predictions.values())).shape
        human = {kind: _resized(read_map(path), height, width) for kind, path in photo.maps.items()}
        rows = []
        for kind, wanted in human.items():
            points = photo.points.get(kind)
            fixated = (
                strongest_pixels(wanted)
                if points is None
                else fixated_pixels(torch.tensor(points, dtype=torch.float64), height, width)
            )
            controls = [("centre", centre_gaussian(height, width)), ("uniform", torch.ones(height, width))]
            if (other := self._other(photo, kind)) is not None:
                controls.append(("another photo", _resized(read_map(other), height, width)))
            controls += [("humans", value) for name, value in human.items() if name != kind]
            rows += [
                {"method": method, "human": "annotators" if self._asked else kind, **_agreement(value, wanted, fixated)}
                for method, value in [*predictions.items(), *controls]
            ]
        return rows

    def _predictions(self, photo: Attended) -> dict[str, Tensor]:
        options: dict[str, Any] = {"methods": self.methods, "seed": self.seed}
        options["layers"] = None if self.layer is None else [self.layer]
        source = load_image(photo.photo)
        if self.task.name == "vqa":
            try:
                explanation = self.task.explain(source, photo.question, **options)
            except InputError:
                # The photo was read: it is the question that the model does not understand.
                return {}
        elif self.task.name == "caption":
            explanation = self.task.explain(source, words=[], whole=True, **options)
        else:
            explanation = self.task.explain(source, **options)
        found = {}
        for key in explanation.maps:
            several = sum(other.method == key.method for other in explanation.maps) > 1
            name = f"{key.method} at {key.layer}" if several else key.method
            values = explanation.heatmap(0, key.layer, key.method).cpu().double()
            found[name] = values.abs() if key.method in explanation.pixel_methods else values
        return found

    def _other(self, photo: Attended, kind: str) -> Path | None:
        """A map of that kind, of another photo: the same one in every run."""
        if not self._attended:
            self.items()
        others = [held for held in self._attended if kind in held.maps and held.photo != photo.photo]
        if not others:
            return None
        keys = [held.key for held in self._attended]
        return others[(keys.index(photo.key) + self.seed) % len(others)].maps[kind]


def _agreement(values: Tensor, human: Tensor, fixated: Tensor) -> dict[str, float | None]:
    found = {
        "spearman": grid_spearman(values, human),
        "auc_judd": auc_judd(values, fixated),
        "nss": nss(values, fixated),
        "cc": cc(values, human),
        "kl": kl(values, human),
    }
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def _resized(values: Tensor, height: int, width: int) -> Tensor:
    """The map in the photo's pixels."""
    if values.shape == (height, width):
        return values
    return functional.interpolate(values[None, None], (height, width), mode="bilinear", antialias=True)[0, 0]
