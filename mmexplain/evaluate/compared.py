"""What protocols share that compare the maps of two models of one architecture (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmexplain.errors import InputError
from mmexplain.evaluate.data.folder import CLIPS, PHOTOS, files
from mmexplain.evaluate.data.questions import QUESTIONS, read_asked
from mmexplain.evaluate.metrics.structure import hog_similarity, ssim
from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.randomisation import similarities
from mmexplain.evaluate.together import Together
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import select

METRICS = (
    Metric("signed", "rank correlation", better="lower"),
    Metric("absolute", "of magnitudes", better="lower"),
    Metric("ssim", "SSIM", better="lower"),
    Metric("hog", "HOG", better="lower"),
)
"""The four similarities of the paper."""

MEASURED = (
    "Rank correlations are of maps at the layer's own resolution. SSIM (5 × 5 window) and HOG (Pearson's correlation; "
    "cells of 16 × 16 pixels) are of magnitudes at the input's resolution, divided by their 99th percentile and cut "
    "off at 1; of clips the mean over frames. Flat or unusable maps, and HOG of inputs below 48 pixels, are undefined "
    "and not in the means. Maps that have nothing in common have SSIM and HOG similarities above 0, smooth ones an "
    "SSIM of about .3: read differences.",
)
"""What a reader of their tables must know."""


def similarity_rows(explanation: Explanation, other: Explanation | None, **labels: str) -> list[Row]:
    """A row of :data:`METRICS` for each map of ``explanation``, target by target, compared with that of ``other``.

    Args:
        explanation: whose maps are gone through.
        other: of the same targets; without a map, or where it is None altogether, nothing is defined.
        labels: go into every row, after ``method``.
    """
    rows: list[Row] = []
    methods = [key.method for key in explanation.maps]
    for found in similarities(explanation, other):
        numbers = {"signed": found.signed, "absolute": found.absolute, "ssim": math.nan, "hog": math.nan}
        if other is not None and not math.isnan(found.signed):
            size = explanation.geometry.input
            one, against = (each.map(found.target, found.layer, found.method) for each in (explanation, other))
            numbers |= {"ssim": ssim(one, against, size), "hog": hog_similarity(one, against, size)}
        apart = methods.count(found.method) > 1
        rows.append(
            {
                "method": f"{found.method} at {found.layer}" if apart else found.method,
                **labels,
                **{name: None if math.isnan(value) else value for name, value in numbers.items()},
            }
        )
    return rows


class ComparedMaps(Protocol):
    """A protocol over photos, clips or questions that explains each by one model and compares another's maps.

    Args:
        task: names the targets: the likeliest class or action, the whole caption, the answer.
        data: a folder of photos, at any depth; of clips for an action model; for question answering one with
            ``qa.jsonl`` (``image``, ``question``, ``split``: only "test" is taken where it is told) and ``images/``.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the methods' draws.

    Raises:
        InputError: no folder.
    """

    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    @classmethod
    def wants(cls, data: Path) -> str | None:
        """Questions in the data are answered by those that can."""
        return "vqa" if (data / QUESTIONS).is_file() else None

    def __init__(self, task: Any, data: Path, methods: Sequence[str], *, layer: str | None, seed: int) -> None:
        self.task, self.data, self.methods, self.layer, self.seed = task, Path(data), tuple(methods), layer, seed
        if not self.data.is_dir():
            raise InputError(f"no such folder: {str(self.data)!r}")
        select(self.methods)
        if task.name == "action":
            self.batch = 1  # clips do not go together, and are large

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer and seed."""
        return {"model": self.task.model_id, "methods": list(self.methods), "layer": self.layer, "seed": self.seed}

    def items(self) -> Sequence[Item]:
        """The photos or clips of the folder, or its questions: paths, and what ``explain`` is told besides."""
        if self.task.name == "vqa":
            asked = read_asked(self.data)
            return [Item(item.key, (item.content.photo, {"question": item.content.question})) for item in asked]
        found = files(self.data, CLIPS if self.task.name == "action" else PHOTOS)
        return [Item(item.key, (item.content, {})) for item in found]

    def options(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """What ``explain`` is told of an item."""
        options: dict[str, Any] = {**extra, "methods": self.methods, "seed": self.seed}
        options["layers"] = None if self.layer is None else [self.layer]
        if self.task.name == "caption":
            options |= {"words": [], "whole": True}
        return options

    def together(self, task: Any, items: Sequence[Item]) -> Together:
        """The photos, clips or questions of items, read for a task."""
        return Together(
            task,
            [path for path, _ in (item.content for item in items)],
            [self.options(extra) for _, extra in (item.content for item in items)],
        )
