"""Weakly supervised localisation: boxes drawn from maps, and how much of a map lies in the boxes of its class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmexplain.errors import InputError
from mmexplain.evaluate.metrics.localisation import iou, loc, segment_box
from mmexplain.evaluate.on_objects import Looked, OnObjects
from mmexplain.evaluate.protocol import Metric, Row

OVERLAP = 0.5
DELTAS = (0.0, 0.25, 0.5)


class Localisation(OnObjects):
    """ILSVRC's localisation error (Selvaraju et al. 2017, §4.1) and Loc(δ) (Chattopadhay et al. 2018, §4).

    Error: each of the five likeliest labels gets the box of its map's largest segment above ``share`` of the maximum.
    Top-1 is right if the likeliest label means a class of the photo and its box has IoU ≥ 0.5 with any box of that
    class; top-5 if any of the five is. A flat map is wrong. Loc(δ): for the map of each class in the photo, see
    :func:`mmexplain.evaluate.metrics.localisation.loc`.

    Other arguments are those of :class:`~mmexplain.evaluate.on_objects.OnObjects`.

    Args:
        share: of the map's maximum that the segment has at least.

    Raises:
        InputError: as OnObjects; or an option is out of range.
        MethodError: no such method.
    """

    name: ClassVar[str] = "localisation"
    title: ClassVar[str] = "Weakly supervised localisation (ILSVRC; Selvaraju et al. 2017; Chattopadhay et al. 2018)"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("error_top1", "localisation error, top 1", percent=True, better="lower"),
        Metric("error_top5", "localisation error, top 5", percent=True, better="lower"),
        Metric("class_error_top1", "class error, top 1", percent=True, better="lower"),
        Metric("class_error_top5", "class error, top 5", percent=True, better="lower"),
        *(Metric(f"loc_{delta}", f"Loc({delta:g})") for delta in DELTAS),
    )

    def __init__(
        self,
        task: Any,
        data: str | Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        share: float = 0.15,
    ) -> None:
        if not 0 < share < 1:
            raise InputError(f"share={share}: a share of the map's maximum lies between 0 and 1")
        super().__init__(task, data, methods, layer=layer, seed=seed)
        self._share = share

    def settings(self) -> Mapping[str, Any]:
        """Those of all, and the threshold."""
        return {**super().settings(), "share": self._share}

    def notes(self) -> Sequence[str]:
        """How classes became labels, and what the papers leave open."""
        return [
            *super().notes(),
            f"Box: around the largest segment (8-connectivity) above {self._share:.0%} of the maximum; right from IoU "
            f"{OVERLAP:g} with any box of the class, crowds excepted. A flat map is wrong.",
            "The class error bounds the localisation error from below. Loc: boxes of one class are taken "
            "together, crowds excepted; maps that are flat or positive nowhere have none.",
        ]

    def wanted(
        self, present: Sequence[str], ranked: Sequence[str], label: Mapping[str, int], top: Sequence[int]
    ) -> list[int]:
        """The five likeliest labels, and those of the photo's classes."""
        return [*top, *(label[name] for name in present)]

    def rows(self, looked: Looked) -> Iterator[Row]:
        """Per method one row with the errors, and one with Loc for each class."""
        present = self._present(looked.scene)
        classes = [[name for name in self._class_of.get(label, ()) if name in present] for label in looked.top]
        for method in self._methods:
            boxed = [
                bool(names) and self._boxed(looked, label, names, method)
                for label, names in zip(looked.top, classes, strict=True)
            ]
            yield {
                "method": method,
                "error_top1": float(not boxed[0]),
                "error_top5": float(not any(boxed)),
                "class_error_top1": float(not classes[0]),
                "class_error_top5": float(not any(classes)),
            }
            for name in present:
                heat, boxes = looked.heat(looked.label[name], method), looked.scene.boxes(name, crowds=False)
                if not boxes.any():
                    continue
                found = {f"loc_{delta}": loc(heat, boxes, delta) for delta in DELTAS}
                yield {
                    "method": method,
                    "class": name,
                    **{key: None if math.isnan(value) else value for key, value in found.items()},
                }

    def _boxed(self, looked: Looked, label: int, names: Sequence[str], method: str) -> bool:
        box = segment_box(looked.heat(label, method), self._share)
        things = [thing for name in names for thing in looked.scene.of(name) if not thing.crowd]
        return box is not None and any(iou(box, thing.box) >= OVERLAP for thing in things)
