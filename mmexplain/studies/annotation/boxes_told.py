"""What a study of boxes tells: how well they agree with those that people drew, and whether other boxes do as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from mmexplain.evaluate import intervals
from mmexplain.evaluate.localisation import OVERLAP
from mmexplain.studies.annotation.labelled import left_out
from mmexplain.studies.study import Cell, Control, Study, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmexplain.evaluate.data.labelled import Labelled
    from mmexplain.studies.annotation.boxes import Annotated, Annotation

CENTRE, RANDOM = "centre", "random class"
SHOWN = 15
"""Classes in the table."""


@dataclass(frozen=True)
class Measured:
    """One class in one photo: IoU of boxes with the object of the class that they overlap most.

    Attributes:
        photo: key of the photo.
        name: of the class.
        alone: whether it has one object only.
        own: of the box from the class's map; 0 where the map says nothing.
        centre: of the box in the middle.
        random: of the box from the map of a class that is not in the photo; None where there is none.
        score: the model's probability.
        contrast: of the map.
    """

    photo: str
    name: str
    alone: bool
    own: float
    centre: float
    random: float | None
    score: float | None
    contrast: float | None


def _kinds(rows: Sequence[Measured], method: str) -> dict[str, list[float | None]]:
    return {method: [r.own for r in rows], CENTRE: [r.centre for r in rows], RANDOM: [r.random for r in rows]}


def tables(rows: Sequence[Measured], boxes: Sequence[Annotation], method: str, seed: int) -> list[Table]:
    """Agreement with people's boxes, whether scores tell the good ones, and how many there are of each class."""
    found = [_boxes_table(boxes)]
    if not rows:
        return found
    lines: list[list[Cell]] = []
    for title, part in (("all", rows), ("one object", [row for row in rows if row.alone])):
        keys = [row.photo for row in part]
        for kind, values in _kinds(part, method).items():
            right = [None if value is None else float(value >= OVERLAP) for value in values]
            means = intervals.mean(values, keys, seed), intervals.mean(right, keys, seed, share=True)
            lines.append([title, kind, *means, sum(value is not None for value in values)])
    heads = ("mean IoU", f"Loc@{OVERLAP:g}")
    agreement = Table(
        "Boxes against those that people drew", ("classes with", "maps", *heads, "boxes"), lines, 2, percent=heads
    )
    return [agreement, *_halves(rows, seed), *found]


def _halves(rows: Sequence[Measured], seed: int) -> list[Table]:
    lines: list[list[Cell]] = []
    for name in ("score", "contrast"):
        scored = [(value, row) for row in rows if (value := getattr(row, name)) is not None]
        scored.sort(key=lambda pair: pair[0])
        middle = len(scored) // 2
        if middle:
            parts = [[row for _, row in part] for part in (scored[:middle], scored[middle:])]
            means = [intervals.mean([row.own for row in part], [row.photo for row in part], seed) for part in parts]
            lines.append([name, *means])
    heads = ("lower half", "upper half")
    return [Table("Mean IoU of boxes by what is written beside them", ("number", *heads), lines, percent=heads)]


def _boxes_table(boxes: Sequence[Annotation]) -> Table:
    of_class: dict[str, list[Annotation]] = {}
    for box in boxes:
        of_class.setdefault(box.name, []).append(box)
    lines: list[list[Cell]] = []
    for name, found in sorted(of_class.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:SHOWN]:
        scores = [box.score for box in found if box.score is not None]
        lines.append([name, len(found), fmean(scores) if scores else None, fmean(box.contrast for box in found)])
    return Table("Boxes of the commonest classes", ("class", "boxes", "mean score", "mean contrast"), lines, digits=3)


def controls(rows: Sequence[Measured], seed: int) -> list[Control]:
    """Whether other boxes are worse by their mean IoU; with an interval (from 10 photos on) it must be above 0."""
    told = {
        CENTRE: "than a box of their mean size in the middle",
        RANDOM: "than those of a class that is not in the photo",
    }
    own, keys, found = [row.own for row in rows], [row.photo for row in rows], []
    for kind, text in told.items():
        gain = intervals.difference(own, _kinds(rows, "own")[kind], keys, seed)
        if not gain.rows:
            continue
        least = gain.value if np.isnan(gain.low) else gain.low
        expected = f"Boxes from the maps of the photo's classes agree better with those that people drew {text}."
        found.append(Control(expected, f"Mean IoU: {gain.told(100, 1, '+')} points.", bool(least > 0)))
    return found


def notes(
    everything: Sequence[Labelled],
    annotated: Sequence[Annotated],
    labels: Mapping[str, Any],
    rows: Sequence[Measured],
    given: bool,
    calibrated: bool,
) -> list[str]:
    """What a reader must know.

    Args:
        everything: the data.
        annotated: what boxes were drawn in.
        labels: of the classes that the model has.
        rows: what was measured.
        given: whether classes were known, rather than the model's likeliest.
        calibrated: whether the threshold was chosen on every other photo.
    """
    empty = sum(not one.boxes for one in annotated)
    found = [
        "Box: around the largest segment (8-connectivity) of the map above the threshold, one for each class in a "
        "photo, in upright pixels of the file. Score: the model's probability of the label that was explained. "
        "Contrast: the map's mean inside less that outside, as a share of its maximum.",
        *(left_out([name for photo in everything for name in photo.names], labels) if given else []),
        *([f"{empty:,} of {len(annotated):,} photos got no box: no map said anything."] if empty else []),
    ]
    if not rows:
        why = "no boxes of people are known in these photos" if given else "of likeliest classes none is measured"
        return [*found, f"Nothing says how good the boxes are, and no control was made: {why}."]
    half = " (every other photo; the threshold is the best in the photos between)" if calibrated else ""
    return [
        *found,
        f"Measured on {len({row.photo for row in rows}):,} photos{half}. IoU with the object of the class that a box "
        "overlaps most, crowds excepted; a map that says nothing has 0.",
    ]


_COLOURS = {CENTRE: ("#666b73", "--"), RANDOM: ("#b7791f", "-.")}
_INK, _FAINT = "#22252b", "#d5d8dd"


def boxes_figure(study: Study) -> Figure | None:
    """For each IoU the share of boxes that reach it, with those of the controls; None where nothing was measured."""
    from mmexplain.render.printed import Printed

    rows = [Measured(**row) for row in study.details["measured"]]
    if not rows:
        return None
    figure = Printed(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    levels = np.linspace(0, 1, 201)
    for kind, values in _kinds(rows, study.settings["method"]).items():
        known = np.array([value for value in values if value is not None])
        if len(known):
            colour, style = _COLOURS.get(kind, ("#2b6cb0", "-"))
            shares = (known[:, None] >= levels).mean(0)
            at = float((known >= OVERLAP).mean())
            axes.plot(levels, 100 * shares, style, color=colour, lw=1.8, label=f"{kind}: {at:.0%} at {OVERLAP:g}")
    axes.axvline(OVERLAP, color=_FAINT, lw=1, zorder=0)
    axes.set_xlabel("IoU with the nearest object of the class", fontsize=9, color=_INK)
    axes.set_title("boxes that reach it, %", fontsize=9.5, color=_INK, loc="left")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.grid(color=_FAINT, lw=0.5)
    axes.legend(frameon=False, fontsize=8.5)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
