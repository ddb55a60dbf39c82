"""A study of bias as a figure: dots with their intervals, and a line at what chance gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmexplain.evaluate.intervals import Mean
from mmexplain.studies.bias.regions import KIND

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmexplain.studies.study import Study, Table

_INK, _MUTED, _FAINT = "#22252b", "#666b73", "#d5d8dd"
_COLOURS = ("#2b6cb0", "#c05621", "#718096")
"""Blue, orange and grey differ in brightness too."""


def bias_figure(study: Study) -> Figure:
    """Draw what :func:`~mmexplain.studies.bias.bias` or :func:`~mmexplain.studies.bias.planting` found.

    Args:
        study: its outcome.

    Returns:
        A matplotlib Figure that no pyplot state knows.
    """
    from mmexplain.render.printed import Printed

    first = study.tables[0]
    if first.title != "Accuracy":
        regions = list(dict.fromkeys(str(row[0]) for row in first.rows))
        groups = list(dict.fromkeys(str(row[1]) for row in first.rows))
        figure = Printed(figsize=(6.2, 1.3 + 0.34 * len(regions)), layout="constrained")
        axes = figure.subplots()
        _dots(axes, [one.removeprefix(KIND) for one in regions], _by(first, 1, "energy / area", groups, regions))
        _chance(axes, "energy / area (1 is chance)")
        figure.legend(loc="outside upper right", ncols=len(groups), frameon=False, fontsize=8.5)
    else:
        looks = study.tables[1]
        trainings = [str(row[0]) for row in first.rows]
        regions = list(dict.fromkeys(str(row[1]) for row in looks.rows))
        figure = Printed(figsize=(9.4, 2.6), layout="constrained")
        left, *right = figure.subplots(1, 1 + len(regions), sharey=True)
        tests = first.heads[1:3]
        found = {head: _column(first, head) for head in tests}
        _dots(left, trainings, found, 100)
        left.axvline(50, color=_MUTED, lw=0.9, ls=":")
        left.set_xlabel("accuracy, % (50 is chance)", fontsize=8.5, color=_INK)
        figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8.5)
        for axes, region in zip(right, regions, strict=True):
            rows = [row for row in looks.rows if row[1] == region]
            _dots(axes, trainings, {"": [row[list(looks.heads).index("energy / area")] for row in rows]}, colour=_INK)
            _chance(axes, f"{region}: energy / area (1 is chance)")
    figure.suptitle(study.title, fontsize=10.5, color=_INK, x=0.01, ha="left")
    return figure


def _column(table: Table, head: str) -> list[Any]:
    return [row[list(table.heads).index(head)] for row in table.rows]


def _by(table: Table, column: int, head: str, groups: Sequence[str], names: Sequence[str]) -> dict[str, list[Any]]:
    """Group → its cells under a head, in the order of ``names``, the first column."""
    cells = {(row[0], row[column]): cell for row, cell in zip(table.rows, _column(table, head), strict=True)}
    return {group: [cells.get((name, group)) for name in names] for group in groups}


def _dots(
    axes: Any, names: Sequence[str], found: Mapping[str, Sequence[Any]], scale: float = 1, colour: str | None = None
) -> None:
    """A row for each name, from top to bottom; in it a dot with an interval for each series."""
    for number, (series, means) in enumerate(found.items()):
        shift = 0.24 * (number - (len(found) - 1) / 2)
        own = colour or _COLOURS[number]
        label = series or None
        for place, one in enumerate(means):
            if not isinstance(one, Mean) or math.isnan(one.value):
                continue
            if not math.isnan(one.low):
                axes.plot([scale * one.low, scale * one.high], [place + shift] * 2, color=own, lw=1.6, alpha=0.6)
            axes.plot(scale * one.value, place + shift, "o", ms=5, color=own, label=label)
            label = None
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color=_FAINT, lw=0.6)
    axes.tick_params(labelsize=8.5, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)


def _chance(axes: Any, label: str) -> None:
    axes.axvline(1, color=_MUTED, lw=0.9, ls=":")
    axes.margins(x=0.08)
    axes.set_xlabel(label, fontsize=8.5, color=_INK)
