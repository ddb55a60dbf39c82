"""Pictures of the study of region captions: how the ratios spread, and the maps of some photos over their boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmexplain.errors import InputError
from mmexplain.evaluate.metrics.grounding import Sums
from mmexplain.explanation import Explanation
from mmexplain.render.lettering import wrapped
from mmexplain.render.overlay import overlay, photo_image
from mmexplain.render.page import INK, SOFT, page, put, put_lines, trim, write
from mmexplain.studies.regions.data import Region, RegionPhoto
from mmexplain.studies.regions.maps import (
    CENTRE,
    MOVED,
    OWN,
    STRANGER,
    UNIFORM,
    Lying,
    Score,
    explained,
    known_regions,
    region_mask,
)
from mmexplain.studies.regions.study import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST, MOST = 0.05, 40.0
"""Ends of the axis; what lies beyond is drawn at them."""

INKS = {OWN: "#b5451b", STRANGER: "#3b6ea5", MOVED: "#7a7f87"}

WIDE, TALL, GAP, FONT = 1.75, 1.45, 0.12, 8.0  # a tile and the space between two, inches; points


def spread_figure(rows: Sequence[Lying]) -> Figure:
    """How the ratios of each method spread, and those of its controls: quartiles, the middle nine tenths, median, mean.

    Args:
        rows: what was measured.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    from mmexplain.render.printed import Printed

    lines = [line for line in dict.fromkeys((row.method, row.of) for row in rows) if line[0] != UNIFORM]
    lines.sort(key=lambda line: line[0] == CENTRE)
    methods = list(dict.fromkeys(method for method, _ in lines))
    figure = Printed(figsize=(7.4, 0.95 + 0.27 * len(lines) + 0.12 * len(methods)), dpi=130, layout="constrained")
    axes = figure.add_subplot(xscale="log", xlim=(LEAST, MOST))
    places, y = [], 0.0
    for number, (method, of) in enumerate(lines):
        if number and method != lines[number - 1][0]:
            y += 0.45
        places.append(y)
        values = [row.ratio for row in rows if (row.method, row.of) == (method, of) and not math.isnan(row.ratio)]
        _spread(axes, values, y, INKS[of] if method != CENTRE else INK)
        if of == OWN and method in PUBLISHED:
            _mark(axes, float(PUBLISHED[method].split()[0]), y, "D", "white", INK)
        y += 1.0
    axes.axvline(1.0, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.set_yticks(places, [method if of == OWN else of for method, of in lines], fontsize=8)
    for label, (_, of) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_color(INK if of == OWN else SOFT)
    ticks = [0.1, 0.3, 1, 3, 10, 30]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_xlabel(
        "mean inside the boxes / mean outside (dashed: a uniform map); beyond the axis: at its ends",
        fontsize=8,
        color=SOFT,
    )
    axes.set_title(
        "bar: quartiles, line: 5 to 95 %, ●: median, |: mean, ◇: the paper's mean", fontsize=8, color=SOFT, loc="left"
    )
    axes.tick_params(length=0, labelsize=8)
    axes.grid(axis="x", color="#e3e5e8", lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure


def _spread(axes: Axes, values: Sequence[float], y: float, ink: str) -> None:
    if not values:
        return
    low, first, middle, third, high = np.clip(np.percentile(values, [5, 25, 50, 75, 95]), LEAST, MOST)
    axes.plot([low, high], [y, y], color=ink, lw=1.0, alpha=0.55, solid_capstyle="butt")
    axes.plot([first, third], [y, y], color=ink, lw=7.0, alpha=0.35, solid_capstyle="butt")
    _mark(axes, float(middle), y, "o", ink, ink)
    _mark(axes, float(np.mean(values)), y, "|", ink, ink)


def _mark(axes: Axes, x: float, y: float, marker: str, face: str, edge: str) -> None:
    size, breadth = (9.0, 1.8) if marker == "|" else (4.5, 1.0)
    axes.plot(min(max(x, LEAST), MOST), y, marker, ms=size, mfc=face, mec=edge, mew=breadth, zorder=4)


def photos_figure(
    task: Any,
    photos: Sequence[RegionPhoto],
    method: str = "gradcam",
    *,
    layer: str | None = None,
    score: Score = "log-probability",
    seed: int = 0,
    rows: int = 3,
    columns: int = 4,
) -> Figure:
    """Photos with the maps of their phrases, each over the boxes that the phrase is of, and its ratio.

    Args:
        task: a captioner whose tokens are words.
        photos: the first ones with the most kinds of boxes, up to ``columns``, are shown: not the best ones.
        method: a name from the registry.
        layer: the task's own if None.
        score: what of a phrase is explained.
        seed: of what the method draws.
        rows: photos at most.
        columns: phrases of a photo at most, of each set of boxes the first.

    Raises:
        InputError: the model knows the words of no phrase.
    """
    known = [(photo, _distinct(photo)[:columns]) for photo in known_regions(task, photos)]
    most = max((len(regions) for _, regions in known), default=0)
    if not most:
        raise InputError(f"{task.model_id!r} knows the words of none of the phrases")
    shown = [(photo, regions) for photo, regions in known if len(regions) == most][:rows]
    asked = [(number, region.phrase) for number, (_, regions) in enumerate(shown) for region in regions]
    maps = explained(task, [photo for photo, _ in shown], asked, [method], layer=layer, score=score, seed=seed)
    drawn, axes = page((WIDE + GAP) * (most + 1) + GAP, 0.3 + (TALL + 0.6) * len(shown), 130)
    head = f"{task.model_id}, {method}: the map of each phrase as a caption, and its mean inside / outside the boxes"
    write(axes, GAP, 0.06, head, FONT, color=SOFT)
    y = 0.3
    for number, (photo, regions) in enumerate(shown):
        held = [maps[number, region.phrase] for region in regions]
        ends = [_tile(axes, held[0], photo, regions, 0, y, None)]
        for column, (region, explanation) in enumerate(zip(regions, held, strict=True), 1):
            ends.append(_tile(axes, explanation, photo, [region], column, y, method))
        y = max(ends) + GAP
    return trim(drawn, y)


def _distinct(photo: RegionPhoto) -> list[Region]:
    return list({region.boxes: region for region in reversed(photo.regions)}.values())[::-1]


def _tile(
    axes: Axes,
    explanation: Explanation,
    photo: RegionPhoto,
    regions: Sequence[Region],
    column: int,
    y: float,
    method: str | None,
) -> float:
    """A photo with the boxes of all its regions, or the map of one region's phrase over it; returns where it ends."""
    from matplotlib.patches import Rectangle

    height, width = photo.shape or explanation.geometry.original
    scale = min(WIDE / width, TALL / height)
    wide, tall = width * scale, height * scale
    x = GAP + column * (WIDE + GAP) + (WIDE - wide) / 2
    size = max(1, round(tall * axes.figure.dpi)), max(1, round(wide * axes.figure.dpi))
    picture = photo_image(explanation, size) if method is None else overlay(explanation, method=method, size=size)
    put(axes, picture, (x, y, wide, tall))
    for left, top, right, bottom in (box for region in regions for box in region.boxes):
        corner, sides = (x + left * wide, y + top * tall), ((right - left) * wide, (bottom - top) * tall)
        for ink, breadth in (("black", 2.0), ("white", 1.0)):
            axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=ink, linewidth=breadth))
    middle, y = x + wide / 2, y + tall + 0.04
    if method is None:
        return y
    y = put_lines(axes, wrapped(regions[0].phrase, FONT, WIDE), FONT, middle, y)
    heat = explanation.heatmap(method=method).cpu()
    ratio = float(Sums.of(heat, region_mask(regions[0].boxes, explanation.geometry.original)).inside_outside())
    return put_lines(axes, ["no ratio" if math.isnan(ratio) else f"{ratio:.1f}"], FONT, middle, y, weight="bold")
