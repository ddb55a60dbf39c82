"""Means with their confidence intervals as a figure: a panel for each metric, a row for each line of the table."""

from __future__ import annotations

import math
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmexplain.evaluate.protocol import Metric
    from mmexplain.evaluate.result import Line, Result

_INK, _MUTED, _FAINT, _BAND, _DOT = "#22252b", "#666b73", "#d5d8dd", "#f1f3f6", "#2b6cb0"

ACROSS = 3
"""Panels beside each other at most."""

_CONTROL = re.compile(
    r"\(?(centre|center|random|uniform|another|others?|whole caption|humans?|people)\b", re.IGNORECASE
)
"""How lines begin that no method made: what a map is held against."""


def named(line: Line) -> tuple[str, str]:
    """The group of a line and its name within: all labels but the method's, and the method; a line that tells how often
    one method wins is called "A against B"."""
    labels = dict(line.labels)
    method = labels.pop("method", "")
    against = labels.pop("against", "")
    if not method:
        *rest, method = labels.values() or [""]
        labels = dict(enumerate(rest))  # type: ignore[arg-type]  # only the values matter
    return ", ".join(filter(None, labels.values())), f"{method} against {against}" if against else method


def means_figure(result: Result) -> Figure:
    """Draw the table of an evaluation: lines in groups, every other group on a band; controls as hollow dots.

    Args:
        result: what was measured.

    Returns:
        A matplotlib Figure that no pyplot state knows.
    """
    from matplotlib.figure import Figure

    shown = [metric for metric in result.metrics if any(metric.name in line.means for line in result.lines)]
    grouped: dict[str, list[Line]] = {}
    for line in result.lines:
        grouped.setdefault(named(line)[0], []).append(line)
    lines = [line for group in grouped.values() for line in group]
    names = [f"{group}: {name}" if group else name for group, name in map(named, lines)]
    across = max(1, min(ACROSS, len(shown)))
    down = max(1, math.ceil(len(shown) / across))
    width = 1.2 + 0.068 * max(map(len, names), default=0) + 2.7 * across
    figure = Figure(figsize=(width, 0.5 + down * (0.75 + 0.23 * len(names))), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, metric in zip(panels.flat, shown, strict=False):
        _panel(axes, metric, lines)
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_axis_off()
    for row in panels:
        row[0].set_yticks(range(len(names)), names)
    panels[0, 0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(result.title, fontsize=10.5, color=_INK, x=0.01, ha="left")
    return figure


def _panel(axes: Any, metric: Metric, lines: list[Line]) -> None:
    scale, start = (100 if metric.percent else 1), 0
    for number, (_, group) in enumerate(groupby(lines, key=lambda line: named(line)[0])):
        count = len(list(group))
        if number % 2:
            axes.axhspan(start - 0.5, start + count - 0.5, color=_BAND, lw=0, zorder=0)
        start += count
    for place, line in enumerate(lines):
        found = line.means.get(metric.name)
        if found is None or math.isnan(found.value):
            continue
        bare = math.isnan(found.low)
        hollow = bare or bool(_CONTROL.match(line.labels.get("method") or next(iter(line.labels.values()), "")))
        color = _MUTED if hollow else _DOT
        if not bare:
            ends = [scale * found.low, scale * found.high]
            axes.plot(ends, [place, place], color=color, lw=1.0 if hollow else 1.6, alpha=0.6)
        face, edge = ("white" if hollow else color), (0.7 if bare else 1.1)
        axes.plot(scale * found.value, place, "o", ms=5, mfc=face, mec=color, mew=edge)
    unit = ", %" if metric.percent else ""
    better = {"higher": "higher is better", "lower": "lower is better"}.get(metric.better, "")
    axes.set_title(f"{metric.title}{unit}", fontsize=9, color=_INK, loc="left")
    axes.set_xlabel(better, fontsize=8, color=_MUTED)
    axes.grid(axis="x", color=_FAINT, lw=0.6)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
