"""Means with their confidence intervals as a figure: a panel for each metric, a row for each line of the table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmexplain.evaluate.result import Result

_INK, _FAINT, _DOT = "#22252b", "#d5d8dd", "#2b6cb0"


def means_figure(result: Result) -> Figure:
    """Draw the table of an evaluation.

    Args:
        result: what was measured.

    Returns:
        A matplotlib Figure that no pyplot state knows.
    """
    from matplotlib.figure import Figure

    shown = [metric for metric in result.metrics if any(metric.name in line.means for line in result.lines)]
    names = [", ".join(label for label in line.labels.values() if label) for line in result.lines]
    width = 2.2 + 0.075 * max(map(len, names)) + 2.6 * len(shown)
    figure = Figure(figsize=(width, 1.3 + 0.27 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        scale = 100 if metric.percent else 1
        for place, line in enumerate(result.lines):
            found = line.means.get(metric.name)
            if found is None or math.isnan(found.value):
                continue
            if not math.isnan(found.low):
                axes.plot([scale * found.low, scale * found.high], [place, place], color=_DOT, lw=1.6, alpha=0.6)
            axes.plot(scale * found.value, place, "o", color=_DOT, ms=5)
        unit = ", %" if metric.percent else ""
        better = {"higher": " (higher is better)", "lower": " (lower is better)"}.get(metric.better, "")
        axes.set_title(f"{metric.title}{unit}", fontsize=9, color=_INK, loc="left")
        axes.set_xlabel(better.strip(" ()"), fontsize=8, color="#666b73")
        axes.grid(axis="x", color=_FAINT, lw=0.6)
        axes.tick_params(labelsize=8, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(result.title, fontsize=10.5, color=_INK, x=0.01, ha="left")
    return figure
