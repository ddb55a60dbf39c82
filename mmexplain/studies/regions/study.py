"""Study: does a captioner of whole photos look at a region when it is given the caption of that region alone?

The comparison with dense captioning of Selvaraju et al. (Grad-CAM): DenseCap (Johnson et al. 2016) tells regions and
their captions; Grad-CAM of a captioner that was never taught regions is asked for each caption, and the mean of its map
inside the region's box is held against that outside. Here people told the regions and their captions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from mmexplain.errors import InputError
from mmexplain.evaluate.captions import require_captioner
from mmexplain.evaluate.intervals import mean, ratio
from mmexplain.evaluate.metrics.grounding import MOST
from mmexplain.evaluate.protocol import Progress
from mmexplain.studies.regions.data import Region, RegionPhoto, read_regions
from mmexplain.studies.regions.maps import (
    CENTRE,
    MOVED,
    OWN,
    SPREAD,
    STRANGER,
    UNIFORM,
    Lying,
    Score,
    known_regions,
    measure,
)
from mmexplain.studies.study import Cell, Control, Study, Table

__all__ = ["PUBLISHED", "Lying", "Region", "RegionPhoto", "read_regions", "regions", "study_of"]

PUBLISHED = {"gradcam": "3.27 ± 0.18", "guided-gradcam": "6.38 ± 0.99", UNIFORM: "1.0"}
"""The ratios of Selvaraju et al.; neuraltalk2 (VGG-16, conv5_3), DenseCap's regions of COCO photos."""

EXACT = 1e-6
"""By how much the ratio of a uniform map may miss 1: it is spread over the photo in float32."""

NOTES = (
    f"Ratio: mean of the map (its positive part; of maps of pixels the strongest colour's) in the boxes of a phrase "
    f"over the mean beside them, {MOST:.0f} at most; not defined, and left out, where the map is positive nowhere or "
    "boxes cover all that the model saw. It is the same in the original's pixels and in a squashed file's. Ratio of "
    "means: the mean inside of all maps, each scaled to a mean of 1 over the photo, over the mean outside; a map with "
    "next to nothing outside weighs no more there than others.",
    "s.e.: standard error of the mean ratio as if regions were independent; the intervals are wider, for regions of "
    "one photo are drawn together. The paper does not say which its ± is.",
    "The paper's numbers are of another setting: neuraltalk2 (VGG-16, conv5_3), and DenseCap's boxes and captions. "
    "Here people wrote the phrases and drew the boxes. The phrases are shorter, and large boxes keep ratios low: a "
    "box over half of the photo gives 3 only to a map that has three quarters of its mass in it.",
    "A phrase of another photo shares no content word with this photo's phrases. Moved: all boxes of the region "
    "together, as likely to any place in the photo; those as large as the photo stay where they are.",
    f"centre: a round blur over the middle of the photo, whose standard deviation is {SPREAD:g} of the sides: what "
    "comes of things being photographed in the middle.",
)


def regions(
    task: Any,
    photos: Sequence[RegionPhoto],
    methods: Sequence[str] = ("gradcam",),
    *,
    layer: str | None = None,
    score: Score = "log-probability",
    seed: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
) -> tuple[Study, list[Lying]]:
    """The study of one captioner.

    Args:
        task: a captioner whose tokens are words.
        photos: with regions; those whose phrase holds a word that the model does not know are left out.
        methods: names from the registry.
        layer: the task's own if None.
        score: what of a phrase is explained, see :func:`mmexplain.studies.regions.maps.measure`.
        seed: of all that is drawn.
        limit: photos at most, the first ones.
        progress: told how many photos of how many are done.

    Returns:
        What was found, and the measurements behind it.

    Raises:
        InputError: no such captioner, no region whose phrase it knows, or ``limit`` is below 1.
        MethodError, LayerError: one that cannot be used.
    """
    started = time.perf_counter()
    captioner = require_captioner(task, "study regions")
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: study 1 photo or more")
    some = photos[:limit]
    known = known_regions(captioner, some)
    asked = sum(len(photo.regions) for photo in some)
    if not known:
        raise InputError(f"{captioner.model_id!r} knows the words of none of the {asked:,} phrases")
    rows = measure(captioner, known, methods, layer=layer, score=score, seed=seed, progress=progress)
    settings = {
        "model": captioner.model_id,
        "methods": list(dict.fromkeys(row.method for row in rows if row.of == STRANGER)),
        "layer": layer or captioner.default_layer(),
        "score": score,
        "seed": seed,
    }
    left = asked - sum(len(photo.regions) for photo in known)
    note = f"{left:,} of {asked:,} phrases hold a word that the model does not know and are left out."
    return study_of(rows, settings, len(known), time.perf_counter() - started, [note] if left else []), rows


def study_of(
    rows: Sequence[Lying], settings: Mapping[str, Any], items: int, seconds: float, notes: Sequence[str] = ()
) -> Study:
    """The tables and controls of measurements.

    Args:
        rows: from :func:`mmexplain.studies.regions.maps.measure`.
        settings: that they were made with, with their ``methods`` and ``model``.
        items: photos.
        seconds: that it took.
        notes: further ones.
    """
    methods: list[str] = list(settings["methods"])
    lines = [(method, of) for method in methods for of in (OWN, STRANGER, MOVED)] + [(CENTRE, OWN), (UNIFORM, OWN)]
    groups = {line: [row for row in rows if (row.method, row.of) == line] for line in lines}
    return Study(
        name="regions",
        title=f"Region captions against whole-image captions: {settings['model']}",
        tables=[_summary(groups), _by_kind(groups, methods)],
        controls=[
            *(_higher(groups[method, OWN], groups[method, of], method, of) for method in methods for of in _CLAIMS),
            _flat(groups[UNIFORM, OWN]),
        ],
        settings=dict(settings),
        notes=[*notes, *NOTES],
        items=items,
        seconds=seconds,
        details={"published": PUBLISHED},
    )


def _summary(groups: Mapping[tuple[str, str], Sequence[Lying]]) -> Table:
    rows: list[list[Cell]] = []
    for (method, of), held in groups.items():
        photos = [row.photo for row in held]
        values = [row.ratio for row in held if not math.isnan(row.ratio)]
        made_up = method in (CENTRE, UNIFORM)
        rows.append(
            [
                method,
                "–" if made_up else of,
                mean([row.ratio for row in held], photos),
                float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None,
                median(values) if values else None,
                ratio(*_levels(held), photos),
                mean([None if math.isnan(row.ratio) else float(row.ratio > 1) for row in held], photos, share=True),
                len(values),
                PUBLISHED.get(method) if of == OWN else None,
            ]
        )
    heads = ("map", "of", "ratio", "s.e.", "median", "ratio of means", "ratio > 1, %", "regions", "paper")
    title = "Mean activation inside the region's boxes over that outside"
    return Table(title, heads, rows, labels=2, percent=("ratio > 1, %",))


def _by_kind(groups: Mapping[tuple[str, str], Sequence[Lying]], methods: Sequence[str]) -> Table:
    first = methods[0]
    shown = {method: groups[method, OWN] for method in methods}
    shown |= {f"{first}, {STRANGER}": groups[first, STRANGER], CENTRE: groups[CENTRE, OWN]}
    kinds: dict[str, int] = {}
    for row in groups[first, OWN]:
        kinds[row.kind] = kinds.get(row.kind, 0) + 1
    rows: list[list[Cell]] = []
    for kind in sorted(kinds, key=lambda name: -kinds[name]):
        own = [row for row in groups[first, OWN] if row.kind == kind]
        cells: list[Cell] = [kind, len(own), float(np.mean([row.area for row in own]))]
        for held in shown.values():
            some = [row for row in held if row.kind == kind]
            cells.append(mean([row.ratio for row in some], [row.photo for row in some]))
        rows.append(cells)
    heads = ("phrase", "regions", "share of photo, %", *shown)
    return Table("Ratio by what the phrase names", heads, rows, percent=("share of photo, %",))


_CLAIMS = {
    STRANGER: "lies more on a region's boxes when it is of the region's phrase than of a phrase of another photo.",
    MOVED: "lies more on a region's boxes than on the same boxes at a random place of the photo.",
}
"""Control → what it says of a method's map if that is about the region."""


def _higher(own: Sequence[Lying], others: Sequence[Lying], method: str, of: str) -> Control:
    """Whether a region's ratio is higher than that of its control more often than not; a tie is half of each. Unlike
    the means, that is not swayed by a few regions of huge ratios."""
    wins = [_above(one.ratio, other.ratio) for one, other in zip(own, others, strict=True)]
    found = mean(wins, [row.photo for row in own], share=True)
    few = "; too few photos to tell" if math.isnan(found.low) else ""
    text = f"The ratio is higher in {found.told(100, 1)} % of {found.rows:,} regions{few}."
    return Control(f"The map of {method} {_CLAIMS[of]}", text, found.low > 0.5)


def _flat(uniform: Sequence[Lying]) -> Control:
    values = [row.ratio for row in uniform if not math.isnan(row.ratio)]
    off = max((abs(value - 1) for value in values), default=math.nan)
    text = f"It is off by {off:.0e} at most in {len(values):,} regions."
    return Control("The ratio of a uniform map is 1.", text, off < EXACT)


def _above(value: float, other: float) -> float | None:
    """1 where a ratio is above its control's, ½ where it is the same; None where one is not defined."""
    return None if math.isnan(value) or math.isnan(other) else float((1 + np.sign(value - other)) / 2)


def _levels(rows: Sequence[Lying]) -> tuple[list[float], list[float]]:
    """Means inside and outside of maps that are scaled to a mean of 1; NaN where a ratio is not defined."""
    usable = [not math.isnan(row.ratio) for row in rows]
    inside = [row.energy / row.area if ok else math.nan for row, ok in zip(rows, usable, strict=True)]
    outside = [(1 - row.energy) / (1 - row.area) if ok else math.nan for row, ok in zip(rows, usable, strict=True)]
    return inside, outside
