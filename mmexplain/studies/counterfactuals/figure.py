"""The paper's figure with what became of it (photo, maps, the photo without the region), and the means as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image
from scipy import ndimage

from mmexplain.explanation import Explanation
from mmexplain.render.lettering import cut, leading
from mmexplain.render.overlay import overlay
from mmexplain.render.page import INK, SOFT, page, put, trim, write
from mmexplain.render.text import percent
from mmexplain.studies.counterfactuals.cases import COUNTERFACTUAL, FACTUAL, MARKED, REMOVED, Case
from mmexplain.studies.counterfactuals.study import Counterfactuals
from mmexplain.studies.counterfactuals.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILE, GAP, FONT = 1.75, 0.08, 8.5  # inches, inches, points
TALLEST = 1.35
"""Times as tall as wide: narrower photos are drawn narrower."""

_FAINT, _MUTED, _DOT = "#d5d8dd", "#666b73", "#2b6cb0"


@dataclass(frozen=True)
class Example:
    """One row of the figure.

    Attributes:
        why: it is shown.
        case: what was measured.
        explanation: of the photo.
        photo: as it is.
        without: without the region that the counterfactual map marks, which is outlined.
        after: probability of the target then.
        change: of its logarithm.
    """

    why: str
    case: Case
    explanation: Explanation
    photo: Image.Image
    without: Image.Image
    after: float
    change: float


def examples(study: Counterfactuals, fill: str | None = None) -> list[Example]:
    """The targets whose ln p the removal raised most, second most, least, and the median one: both ends, so that the
    figure does not show successes alone.

    Args:
        study: after it ran.
        fill: of the removed region; the first of the study's if None.
    """
    fill = fill or study.options.fills[0]
    cases = sorted(study.summary.cases(), key=lambda case: -case.changes[fill][MARKED].log_probability)
    wanted = {"raised most": 0, "second most": 1, "median": len(cases) // 2, "least": len(cases) - 1}
    places = {place: why for why, place in reversed(wanted.items()) if place < len(cases)}
    return [_example(study, cases[place], fill, places[place]) for place in sorted(places)]


def _example(study: Counterfactuals, case: Case, fill: str, why: str) -> Example:
    subject = next(subject for subject in study.subjects if subject.key == case.subject)
    measurement = study.measurement(subject)
    region = measurement.marked(measurement.explanation.map(case.number, method=COUNTERFACTUAL))
    assert region is not None  # or nothing would have changed
    without = measurement.without(region, fill)
    without[measurement.seen][ndimage.binary_dilation(region, iterations=2) & ~region] = 255
    photo, changed = Image.fromarray(measurement.pixels), Image.fromarray(without)
    what = case.changes[fill][MARKED]
    after = case.probability + what.probability
    return Example(why, case, measurement.explanation, photo, changed, after, what.log_probability)


def examples_figure(shown: Sequence[Example]) -> Figure:
    """A row for each example: the photo with what the model is asked about and its probability, Grad-CAM, the
    counterfactual map, the photo without the region with the probability then."""
    drawn, axes = page(4 * TILE + 5 * GAP, 1.0)
    y = GAP
    for column, head in enumerate(("photo", "Grad-CAM", "counterfactual", "region removed")):
        write(axes, GAP + column * (TILE + GAP), y, head, FONT, weight="bold")
    y += leading(FONT) + GAP
    for example in shown:
        y = _row(axes, example, y)
    return trim(drawn, y)


def _row(axes: Axes, example: Example, y: float) -> float:
    tall = min(TILE * example.photo.height / example.photo.width, TALLEST * TILE)
    wide = tall * example.photo.width / example.photo.height
    dpi = float(axes.figure.dpi)
    size = max(1, round(tall * dpi)), max(1, round(wide * dpi))
    number = example.case.number
    pictures = [
        example.photo,
        *(overlay(example.explanation, number, method=method, size=size) for method in (FACTUAL, COUNTERFACTUAL)),
        example.without,
    ]
    for column, picture in enumerate(pictures):
        put(axes, picture, (GAP + column * (TILE + GAP), y, wide, tall))
    y += tall + 0.03
    texts = {
        0: f"{example.case.target}: {percent(example.case.probability)}",
        2: example.why,
        3: f"{percent(example.after)} (ln p {example.change:+.2f})",
    }
    for column, text in texts.items():
        shown = cut(text, FONT, 2 * TILE if column == 0 else TILE)
        write(axes, GAP + column * (TILE + GAP), y, shown, FONT, color=INK if column == 0 else SOFT)
    return y + leading(FONT) + GAP


def chart(summary: Summary) -> Figure:
    """The mean change of ln p after each removal with its interval: a panel for each fill."""
    from mmexplain.render.printed import Printed

    count = len(summary.fills)
    figure = Printed(figsize=(1.3 + 2.5 * count, 1.9), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, sharex=True, squeeze=False)[0]
    for axes, fill in zip(panels, summary.fills, strict=True):
        axes.axvline(0, color=_MUTED, lw=0.8)
        for place, removed in enumerate(REMOVED):
            found = summary.mean(fill, removed, "log_probability")
            color = _DOT if removed == MARKED else _MUTED
            axes.plot([found.low, found.high], [place, place], color=color, lw=1.6, alpha=0.6)
            axes.plot(found.value, place, "o", ms=5, mfc=color if removed == MARKED else "white", mec=color)
        axes.set_title(f"filled: {fill}", fontsize=9, color=INK, loc="left")
        axes.set_xlabel("change of ln p", fontsize=8, color=_MUTED)
        axes.grid(axis="x", color=_FAINT, lw=0.6)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(labelsize=8, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(REMOVED)), REMOVED)
    panels[0].set_ylim(len(REMOVED) - 0.5, -0.5)
    return figure
