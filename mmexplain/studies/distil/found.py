"""What came of learning from explanations: tables, controls, and the figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mmexplain.evaluate.intervals import LEVEL, Mean, difference, mean
from mmexplain.studies.distil.training import Answers, Lesson
from mmexplain.studies.study import Cell, Control, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEACHER = "teacher"
PLAIN, MAPS, SOFT = Lesson("CE"), Lesson("CE + maps", "teacher"), Lesson("CE + KD", soft=True)
BOTH = Lesson("CE + KD + maps", "teacher", soft=True)
OTHERS = Lesson("CE + maps of other photos", "other photos")
UNTRAINED = Lesson("CE + maps of an untrained teacher", "untrained")
LESSONS = (PLAIN, MAPS, SOFT, BOTH, OTHERS, UNTRAINED)
"""The rows of the paper's table, and two controls."""

PUBLISHED = "CE 6.78, CE + maps 6.74, CE + KD 5.68, CE + KD + maps 5.56, teacher 5.8"
"""Test errors in percent, WRN-40-2 → WRN-16-2 on CIFAR-10, α .01, T 4: Chattopadhay et al., WACV 2018, section 5."""

Results = Mapping[str, Sequence[Answers]]
"""What was trained → what it did on the test photos, for each seed."""


def tables_of(results: Results, items: Sequence[str], seeds: Sequence[int]) -> list[Table]:
    """Errors and likeness of maps, each with an interval over test photos; then what was gained, seed by seed.

    Args:
        results: of :data:`LESSONS` and the teachers.
        items: of the test photos.
        seeds: that networks were trained from.
    """
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            mean(errors(found), _items(items, found), share=True),
            float(np.std(by_seed(found), ddof=1)) if len(found) > 1 else None,
            None if name == PLAIN.name else gain(results, name, PLAIN.name, items),
            None if name == TEACHER else mean(likeness(found), _items(items, found)),
        )
        for name, found in results.items()
    ]
    shares = ("test error", "sd over seeds", "less than CE")
    heads = ("learns by", *shares, "maps like teacher's (r)")
    each = (*(f"seed {seed}" for seed in seeds), f"mean [{LEVEL:.0%} t interval over seeds]")
    gains: list[tuple[Cell, ...]] = [
        (name, *(less := gain_by_seed(results, name, PLAIN.name)), over_seeds(less))
        for name in results
        if name != PLAIN.name
    ]
    return [
        Table("Test error, %", heads, rows, percent=shares),
        Table("How much less than CE's it is, %", ("learns by", *each), gains, percent=each),
    ]


def controls_of(results: Results, items: Sequence[str], apart: float, steps: int) -> list[Control]:
    """What could have failed.

    Args:
        results: of :data:`LESSONS` and the teachers.
        items: of the test photos.
        apart: the largest difference of a weight between training with α = 0 and by cross entropy.
        steps: after so many.
    """
    own, plain = results[MAPS.name], results[PLAIN.name]
    nearer = difference(likeness(own), likeness(plain), _items(items, own))
    return [
        Control(
            "Students who learn from their teacher's maps have maps more like its than those who do not.",
            f"Correlation {nearer.told(sign='+')}.",
            nearer.low > 0,
        ),
        *(
            _against(gain(results, MAPS.name, lesson.name, items), gain_by_seed(results, MAPS.name, lesson.name), what)
            for lesson, what in ((OTHERS, "of other photos"), (UNTRAINED, "of an untrained teacher"))
        ),
        Control(
            "With α = 0 training with maps is training by cross entropy.",
            f"Largest difference of a weight after {steps} steps: {apart:g}.",
            apart == 0,
        ),
    ]


def _against(over_photos: Mean, less: Sequence[float], what: str) -> Control:
    """Whether maps are better to learn from than a control's, beyond the chance of test photos and of seeds."""
    seeds = over_seeds(less)
    held = over_photos.low > 0 and seeds.low > 0
    spread = f"{seeds.told(100, 1)} over seeds" if len(less) > 1 else "of other seeds one tells nothing"
    found = f"Error lower by {over_photos.told(100, 1)} points over test photos, {spread}"
    return Control(f"Maps help more than those {what}.", found + ("." if held else ": not told apart."), held)


def errors(found: Sequence[Answers]) -> list[float]:
    """1 for a wrong answer, of each test photo, seed after seed."""
    return [float(wrong) for one in found for wrong in one.wrong.tolist()]


def likeness(found: Sequence[Answers]) -> list[float]:
    """How like the teacher's its maps are, of each test photo, seed after seed."""
    return [value for one in found for value in one.alike.tolist()]


def gain(results: Results, name: str, than: str, items: Sequence[str]) -> Mean:
    """How much less often one errs than another: paired by seed and test photo, interval over photos."""
    return difference(errors(results[than]), errors(results[name]), _items(items, results[name]))


def gain_by_seed(results: Results, name: str, than: str) -> list[float]:
    """The same for each seed."""
    return [other - own for own, other in zip(by_seed(results[name]), by_seed(results[than]), strict=True)]


def _items(items: Sequence[str], found: Sequence[Answers]) -> list[str]:
    return [item for _ in found for item in items]


def by_seed(found: Sequence[Answers]) -> list[float]:
    """The share of wrong answers for each seed."""
    return [one.wrong.double().mean().item() for one in found]


def over_seeds(values: Sequence[float]) -> Mean:
    """The mean of a number for each seed, with Student's t interval; NaN ends for a single seed."""
    value, low, high = float(np.mean(values)), math.nan, math.nan
    if len(values) > 1:
        reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1))
        low, high = value - reach / math.sqrt(len(values)), value + reach / math.sqrt(len(values))
    return Mean(value, low, high, len(values), len(values))


# -- figure -----------------------------------------------------------------------------------------------------------

_INK, _MUTED, _FAINT, _DOT = "#22252b", "#666b73", "#d5d8dd", "#2b6cb0"


def figure_of(title: str, results: Results) -> Figure:
    """Test errors and likeness of maps: a dot for each seed, a line at their mean, controls in grey."""
    from matplotlib.figure import Figure

    names = list(results)
    figure = Figure(figsize=(9.2, 0.9 + 0.34 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    controls = {OTHERS.name, UNTRAINED.name}
    for place, name in enumerate(names):
        color = _MUTED if name in controls else _DOT
        likeness = [one.alike.nanmean().item() for one in results[name]]
        shown = [(left, [100 * error for error in by_seed(results[name])])]
        shown += [(right, likeness)] if name != TEACHER else []
        for axes, values in shown:
            axes.plot(values, [place] * len(values), "o", ms=5, mfc="white", mec=color, mew=1.1, zorder=3)
            if len(values) > 1:
                axes.plot([np.mean(values)] * 2, [place - 0.28, place + 0.28], color=color, lw=2, zorder=2)
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_title("test error, %", fontsize=9, color=_INK, loc="left")
    right.set_title("correlation of their maps with the teacher's", fontsize=9, color=_INK, loc="left")
    for axes in (left, right):
        axes.grid(axis="x", color=_FAINT, lw=0.6)
        axes.tick_params(labelsize=8, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_axisbelow(True)
    several = ": a dot for each seed, a line at their mean" if len(results[PLAIN.name]) > 1 else ""
    figure.suptitle(f"{title}{several}", fontsize=10.5, color=_INK, x=0.01, ha="left")
    return figure
