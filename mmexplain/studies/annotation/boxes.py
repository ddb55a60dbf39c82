"""Weakly supervised annotation: boxes around what maps mark, for a labelling tool to start from (Selvaraju et al. 2017,
§4.1, after Zhou et al. 2016: the largest segment above 15 % of the map's maximum)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.data.labelled import Labelled
from mmexplain.evaluate.metrics.localisation import Heat, iou, segment_box
from mmexplain.evaluate.protocol import Progress
from mmexplain.geometry import Box, Size
from mmexplain.studies.annotation.boxes_told import Measured, controls, notes, tables
from mmexplain.studies.annotation.labelled import (
    Seen,
    Wanted,
    labels_of,
    look,
    one_method,
    read,
    require_classifier,
    top,
    wanted,
)
from mmexplain.studies.study import Study

THRESHOLD = 0.15
GRID = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
"""Thresholds that are tried where one is to be calibrated."""


@dataclass(frozen=True)
class Annotation:
    """A box.

    Attributes:
        name: of its class.
        box: ``(left, top, right, bottom)``: edges in upright pixels of the file.
        score: the model's probability of the label that was explained; None for models without probabilities.
        contrast: how much stronger the map is inside than outside, as a share of its maximum; -1 to 1.
    """

    name: str
    box: Box
    score: float | None
    contrast: float


@dataclass(frozen=True)
class Annotated:
    """A photo and its boxes.

    Attributes:
        photo: the photo.
        size: ``(h, w)`` of the upright file.
        boxes: none where no map said anything.
    """

    photo: Labelled
    size: Size
    boxes: tuple[Annotation, ...]


@dataclass(frozen=True)
class _Row:
    """Of one class in one photo the boxes at all thresholds that are tried; those of a random class beside it, and all
    true ones, where they are known."""

    name: str
    drawn: Sequence[Annotation | None]
    random: Sequence[Box | None] | None
    true: Sequence[Box]


def study_boxes(
    task: Any,
    data: str | Path,
    *,
    method: str = "gradcam",
    layer: str | None = None,
    threshold: float | None = THRESHOLD,
    count: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Study, list[Annotated]]:
    """Draw boxes in all photos; where people drew them too, tell how good they are.

    Classes are those that the data says are in the photo; without such labels, or if ``count`` is given, the
    likeliest labels of the model. The controls, for classes that are known: a box in the middle, of the mean size of
    the boxes that were drawn, and the box of the map of a label drawn at random from those of classes not in the photo.

    Args:
        task: a classifier with class names.
        data: see :func:`mmexplain.studies.annotation.labelled.read`.
        method: of the registry.
        layer: where maps are read; the model's default if None.
        threshold: share of the map's maximum that a box's segment has at least. None: the one of :data:`GRID` with the
            best mean IoU in every other photo; the numbers are then of the photos between.
        count: of the likeliest labels, in place of the classes that are known.
        limit: the first photos only.
        seed: of all draws.
        progress: told how many photos are done.

    Returns:
        What was found, and the photos with their boxes.

    Raises:
        InputError: the task is no classifier, the data cannot be used, or an option is out of range.
        MethodError, LayerError: see :func:`mmexplain.explain`.
    """
    started = time.perf_counter()
    require_classifier(task, "boxes")
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(f"threshold={threshold}: a share of the map's maximum lies between 0 and 1")
    for name, number in (("limit", limit), ("top", count)):
        if number is not None and number < 1:
            raise InputError(f"{name}={number}: give 1 or more")
    method = one_method(method)
    everything = read(Path(data))
    given = count is None and any(photo.names for photo in everything)
    count = None if given else count or 1
    labels = labels_of(task, everything, Path(data)) if given else {}
    chosen = [photo for photo in everything if not given or any(name in labels for name in photo.names)][:limit]
    tried = GRID if threshold is None else (threshold,)
    explained: dict[str, list[Wanted]] = {}

    def choose(photo: Labelled, logits: Tensor) -> Sequence[int]:
        explained[photo.key] = (
            wanted(photo, labels, logits, seed)
            if count is None
            else [Wanted(str(task.labels[number]), number) for number in top(logits, count)]
        )
        return [number for one in explained[photo.key] for number in one.numbers]

    photos: list[tuple[Labelled, list[_Row]]] = []
    sizes: list[Size] = []
    for seen in look(task, chosen, choose, [method], layer, seed, progress):
        rows = [_row(seen, method, one, tried) for one in explained.pop(seen.photo.key)]
        photos.append((seen.photo, rows))
        sizes.append(seen.explanation.geometry.original)

    measured, best = _measure(photos, sizes, tried)
    annotated = [
        Annotated(photo, size, tuple(found for row in rows if (found := row.drawn[best]) is not None))
        for (photo, rows), size in zip(photos, sizes, strict=True)
    ]
    study = Study(
        name="boxes",
        title="Boxes from maps, for annotation (Selvaraju et al. 2017, §4.1; Zhou et al. 2016)",
        tables=tables(measured, [box for one in annotated for box in one.boxes], method, seed),
        controls=controls(measured, seed),
        settings={
            "model": task.model_id,
            "method": method,
            "layer": layer or "default",
            "threshold": f"{tried[best]:g}" + (" (calibrated)" if threshold is None else ""),
            "classes": "of the data" if given else f"the {count} likeliest",
            "seed": seed,
        },
        notes=notes(everything, annotated, labels, measured, given, threshold is None),
        items=len(chosen),
        seconds=time.perf_counter() - started,
        details={
            "threshold": tried[best],
            "boxes": sum(len(one.boxes) for one in annotated),
            "measured": [asdict(row) for row in measured],
        },
    )
    return study, annotated


def _row(seen: Seen, method: str, one: Wanted, tried: Sequence[float]) -> _Row:
    name, heat, scene = one.name, seen.heat(one.label, method), seen.photo.scene
    drawn = [
        None
        if (box := segment_box(heat, threshold)) is None
        else Annotation(name, box, seen.probability(one.label), contrast(heat, box))
        for threshold in tried
    ]
    if scene is None or not seen.measurable:
        return _Row(name, drawn, None, ())
    true = [thing.box for thing in scene.of(name) if thing.area and not thing.crowd]
    if one.other is None or not true:
        return _Row(name, drawn, None, true)
    map_of_other = seen.heat(one.other, method)
    return _Row(name, drawn, [segment_box(map_of_other, threshold) for threshold in tried], true)


def contrast(heat: Heat, box: Box) -> float:
    """The mean of a map in a box less that outside, as a share of its maximum; a box of the whole photo has 0 outside.

    Args:
        heat: ``[H, W]``, NaN where the model saw nothing.
        box: edges in whole pixels.
    """
    left, top_, right, bottom = (int(edge) for edge in box)
    inside = np.zeros(heat.shape, bool)
    inside[top_:bottom, left:right] = True
    seen = ~np.isnan(heat)
    means = [float(heat[part & seen].mean()) if (part & seen).any() else 0.0 for part in (inside, ~inside)]
    return (means[0] - means[1]) / float(np.nanmax(heat))


def _measure(
    photos: Sequence[tuple[Labelled, Sequence[_Row]]], sizes: Sequence[Size], tried: Sequence[float]
) -> tuple[list[Measured], int]:
    """IoUs of what is to be reported, and the number of the threshold; the best in every other photo if there are
    several."""
    known = [
        (photo.key, size, rows)
        for (photo, all_rows), size in zip(photos, sizes, strict=True)
        if (rows := [row for row in all_rows if row.true])
    ]
    best = 0
    if len(tried) > 1:
        if len(known) < 2:
            raise InputError("calibrating a threshold needs two or more photos in which people drew boxes; give one")
        rows = [row for _, _, found in known[::2] for row in found]
        best = int(np.argmax([np.mean([_overlap(_box(row.drawn[n]), row) for row in rows]) for n in range(len(tried))]))
        known = known[1::2]
    middle = _mean_size([(_box(row.drawn[best]), size) for _, size, rows in known for row in rows])
    return [
        Measured(
            photo=key,
            name=row.name,
            alone=len(row.true) == 1,
            own=_overlap(_box(row.drawn[best]), row),
            centre=_overlap(centred(middle, size), row),
            random=None if row.random is None else _overlap(row.random[best], row),
            score=None if (found := row.drawn[best]) is None else found.score,
            contrast=None if found is None else found.contrast,
        )
        for key, size, rows in known
        for row in rows
    ], best


def _box(annotation: Annotation | None) -> Box | None:
    return None if annotation is None else annotation.box


def _overlap(box: Box | None, row: _Row) -> float:
    """IoU with the object that it overlaps most, as ILSVRC has it."""
    return 0.0 if box is None else max(iou(box, true) for true in row.true)


def _mean_size(boxes: Sequence[tuple[Box | None, Size]]) -> tuple[float, float]:
    """Mean height and width as shares of the photos'."""
    shares = [
        ((box[3] - box[1]) / height, (box[2] - box[0]) / width) for box, (height, width) in boxes if box is not None
    ]
    down, across = np.mean(shares, axis=0) if shares else (0.0, 0.0)
    return float(down), float(across)


def centred(shares: tuple[float, float], size: Size) -> Box:
    """The box in the middle of a photo ``(h, w)`` that is as high and wide as ``shares`` of it."""
    (height, width), (down, across) = size, shares
    return (
        width * (1 - across) / 2,
        height * (1 - down) / 2,
        width * (1 + across) / 2,
        height * (1 + down) / 2,
    )
