"""The pointing game: whether the maximum of a class's map lies on an object of the class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from mmexplain.errors import InputError
from mmexplain.evaluate.masks import Mask, near
from mmexplain.evaluate.metrics.grounding import Sums
from mmexplain.evaluate.metrics.pointing import TOLERANCE, hit, is_difficult, point_or_reject
from mmexplain.evaluate.on_objects import Looked, OnObjects
from mmexplain.evaluate.protocol import Metric, Row

CENTRE = "centre"
REJECT = (0.0, 0.25, 0.5, 0.75)
TOP = 5


class Pointing(OnObjects):
    """The pointing game (Zhang et al. 2016), its energy-based form (Wang et al. 2020), and the Grad-CAM paper's form on
    the five likeliest classes with rejection (Selvaraju et al. 2017, §4.2).

    Every class in a photo is pointed at: a hit if the maximum of its map lies on one of its objects (masks where the
    data has them, else boxes) or nearer than the tolerance. "difficult": classes whose boxes sum to less than a quarter
    of the photo, in photos that hold another class.

    Other arguments are those of :class:`~mmexplain.evaluate.on_objects.OnObjects`.

    Args:
        tolerance: in pixels of the file.
        reject: shares of the strongest map's maximum below which a map of the top five is rejected; a line for each.

    Raises:
        InputError: as OnObjects; or an option is out of range.
        MethodError: no such method.
    """

    name: ClassVar[str] = "pointing"
    title: ClassVar[str] = "Pointing game (Zhang et al. 2016; Wang et al. 2020; Selvaraju et al. 2017)"
    labels: ClassVar[tuple[str, ...]] = ("subset", "method")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("class_hit", "accuracy, mean of classes", percent=True, within="class"),
        Metric("hit", "accuracy", percent=True),
        Metric("energy", "energy inside", percent=True),
    )

    def __init__(
        self,
        task: Any,
        data: str | Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        tolerance: float = TOLERANCE,
        reject: Sequence[float] = REJECT,
    ) -> None:
        if tolerance < 0:
            raise InputError(f"tolerance={tolerance}: a number of pixels cannot be negative")
        if not all(0 <= share <= 1 for share in reject):
            raise InputError(f"reject={list(reject)}: shares of the strongest maximum lie between 0 and 1")
        super().__init__(task, data, methods, layer=layer, seed=seed)
        self._tolerance, self._reject = tolerance, tuple(reject)

    def settings(self) -> Mapping[str, Any]:
        """Those of all, and the thresholds."""
        return {**super().settings(), "tolerance": self._tolerance, "reject": list(self._reject)}

    def notes(self) -> Sequence[str]:
        """How classes became labels, and what was decided where the papers leave it open."""
        return [
            *super().notes(),
            f"Hit: the maximum lies on an object (mask if given, else box) or nearer than {self._tolerance:g} pixels "
            "of the file, as TorchRay has it. Published accuracies are means of classes. A flat map is no hit; one "
            "that is positive nowhere has no energy, and is left out there; one that is not finite is left out. Maps "
            "of VOC's and COCO's own classifiers are not comparable with maps of ImageNet's labels.",
            "top 5: the five likeliest classes of the data; a rejected one is right if it is not in the photo. The "
            "paper does not tell its threshold: here it is a share of the strongest of the five maps' maxima.",
        ]

    def wanted(
        self, present: Sequence[str], ranked: Sequence[str], label: Mapping[str, int], top: Sequence[int]
    ) -> list[int]:
        """The labels of the photo's classes and of the five likeliest."""
        return [label[name] for name in (*present, *ranked[:TOP])]

    def rows(self, looked: Looked) -> Iterator[Row]:
        """Per method and subset a row for each class."""
        scene, present = looked.scene, self._present(looked.scene)
        masks = {name: scene.mask(name) for name in scene.names if name in self._labels}
        wide = {name: near(mask, self._tolerance) for name, mask in masks.items()}
        height, width = scene.size
        for name in present:
            if not masks[name].any():
                continue
            subsets = ["all", *(["difficult"] if is_difficult(scene, name) else [])]
            boxes = torch.from_numpy(scene.boxes(name))
            for subset in subsets:
                yield _row(subset, CENTRE, name, hit((width // 2, height // 2), wide[name]))
            for method in self._methods:
                label = looked.label[name]
                on_it: float | None = hit(looked.peak(label, method), wide[name])
                energy = float(Sums.of(torch.from_numpy(looked.heat(label, method)), boxes).energy())
                if not looked.finite(label, method):
                    on_it, energy = None, math.nan
                for subset in subsets:
                    yield {**_row(subset, method, name, on_it), "energy": None if math.isnan(energy) else energy}
        for method in self._methods:
            yield from self._top(looked, method, wide)

    def _top(self, looked: Looked, method: str, wide: Mapping[str, Mask]) -> Iterator[Row]:
        names = looked.ranked[:TOP]
        labels = [looked.label[name] for name in names]
        strengths = [
            float(looked.values(label, method).max()) if looked.finite(label, method) else None for label in labels
        ]
        strongest = max((strength for strength in strengths if strength is not None), default=0.0)
        for name, label, strength in zip(names, labels, strengths, strict=True):
            present = name in wide
            hits = present and bool(hit(looked.peak(label, method), wide[name]))
            for share in self._reject:
                subset = f"top {TOP}, reject below {share:.0%}" if share else f"top {TOP}, reject none"
                right = None if strength is None else point_or_reject(present, hits, strength, strongest, share)
                yield {
                    "subset": subset,
                    "method": method,
                    "class": name,
                    "hit": None if right is None else float(right),
                }


def _row(subset: str, method: str, name: str, hits: float | None) -> Row:
    return {"subset": subset, "method": method, "class": name, "hit": hits, "class_hit": hits}
