"""What a study of seeds tells: how well masks agree with those that people drew, and whether other maps do as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmexplain.evaluate import intervals
from mmexplain.evaluate.data.labelled import Labelled
from mmexplain.evaluate.intervals import Mean
from mmexplain.studies.annotation.cues import LabelMap
from mmexplain.studies.annotation.labelled import left_out
from mmexplain.studies.annotation.seed_recipe import Made
from mmexplain.studies.annotation.segmentation import Agreement, better
from mmexplain.studies.study import Cell, Control, Study, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CENTRE, RANDOM = "centre", "random class"
SHOWN = 15
"""Classes in the table; all are among the details."""

MASKS, CUES = "Masks against those that people drew", "Cues, pixel by pixel"


class Score:
    """How well the label maps of one kind of maps agree with the truth.

    Args:
        count: of numbers, the background's among them.

    Attributes:
        cues: cues alone; pixels without one are neither right nor wrong.
        masks: cues as masks; pixels without one are background.
        refined: what GrabCut made of them.
    """

    def __init__(self, count: int) -> None:
        self.cues, self.masks, self.refined = (Agreement(count) for _ in range(3))

    def add(self, made: Made, true: LabelMap) -> None:
        """Count a photo."""
        self.cues.add(made.seeds, true)
        self.masks.add(made.unrefined, true)
        if made.refined is not None:
            self.refined.add(made.refined, true)

    @property
    def final(self) -> Agreement:
        """Of the masks that a trainer would take."""
        return self.refined if self.refined.shared else self.masks

    def iou(self, numbers: Mapping[str, int]) -> dict[str, dict[str, float]]:
        """Stage → class → intersection over union."""
        names = {0: "background"} | {number: name for name, number in numbers.items()}
        stages = {"cues": self.masks, "grabcut": self.refined}
        return {
            stage: {names[number]: value for number, value in agreement.iou().items()}
            for stage, agreement in stages.items()
            if agreement.shared
        }


def tables(scores: Mapping[str, Score], numbers: Mapping[str, int], seed: int) -> list[Table]:
    """Masks, cues, and classes of the method that comes first.

    Args:
        scores: kind of maps → what they came to; the method's own first.
        numbers: class → number in label maps.
        seed: of the bootstrap.
    """
    masks: list[list[Cell]] = []
    for kind, score in scores.items():
        made = {"cues alone": score.masks, "GrabCut": score.refined}
        masks += [[kind, stage, one.mean_iou(seed), one.mean_iou(seed, 1)] for stage, one in made.items() if one.shared]
    found: list[list[Cell]] = [
        [kind, *(side(part, seed) for part in (True, False) for side in (score.cues.precision, score.cues.recall))]
        for kind, score in scores.items()
    ]
    heads = ("mIoU", "mIoU of objects")
    parts = ("object precision", "object recall", "background precision", "background recall")
    method, own = next(iter(scores.items()))
    names = {number: name for name, number in numbers.items()}
    photos = (np.array(own.cues.true) > 0).sum(0)
    stages = {"cues alone": own.masks.iou(), **({"GrabCut": own.refined.iou()} if own.refined.shared else {})}
    listed = sorted(set(stages["cues alone"]) - {0}, key=lambda number: (-int(photos[number]), number))[:SHOWN]
    return [
        Table(MASKS, ("maps", "masks", *heads), masks, labels=2, percent=heads),
        Table(CUES, ("maps", *parts), found, percent=parts),
        Table(
            f"IoU of the classes in most photos, {method}",
            ("class", *stages, "photos"),
            [[names[number], *(iou.get(number) for iou in stages.values()), int(photos[number])] for number in listed],
            percent=tuple(stages),
        ),
    ]


def marked_table(method: str, shares: Sequence[float], keys: Sequence[str], seed: int) -> Table:
    """How much of the photos has a cue, whether or not anything says that it is right."""
    found = intervals.mean(shares, keys, seed)
    return Table("Pixels with a cue", ("maps", "share"), [[method, found]], percent=("share",))


def controls(scores: Mapping[str, Score], seed: int) -> list[Control]:
    """Whether other maps are worse by the mean IoU of the masks that a trainer would take; with an interval (from 10
    photos on) it must be above 0. The background, which masks of anything leave, is left out."""
    own = next(iter(scores.values()))
    stage = "after GrabCut" if own.refined.shared else "by cues alone"
    told = {
        CENTRE: "than those from a Gaussian in the middle that marks as many pixels",
        RANDOM: "than those from the map of a class that is not in the photo",
    }
    found = []
    for kind, text in told.items():
        if kind not in scores or len(scores[kind].final.shared) != len(own.final.shared):
            continue
        gain = better(own.final, scores[kind].final, seed)
        least = gain.value if np.isnan(gain.low) else gain.low
        expected = f"Masks from the maps of the photo's classes agree better with those that people drew {text}."
        found.append(Control(expected, f"mIoU of objects {stage}: {gain.told(100, 1, '+')} points.", bool(least > 0)))
    return found


def notes(
    everything: Sequence[Labelled], chosen: Sequence[Labelled], labels: Mapping[str, Any], measured: int
) -> list[str]:
    """What a reader must know.

    Args:
        everything: the data.
        chosen: what seeds were made of.
        labels: of the classes that the model has.
        measured: photos that people drew masks in.
    """
    names = [name for photo in everything for name in photo.names]
    found = [
        "Weak supervision: all that is used of a photo is which classes are in it. A class that several of the model's "
        "labels mean is explained by the likeliest of them in each photo.",
        *left_out(names, labels),
    ]
    if not measured:
        return [*found, "In these photos no masks are drawn: nothing says how good the seeds are, no control was made."]
    return [
        *found,
        f"Measured on {measured:,} of {len(chosen):,} photos, those with masks at the photo's size. Pixels of classes "
        "that the model does not have are background; VOC's contours and COCO's crowds are left out. mIoU: pixels are "
        "summed over photos first, and the background is one of the classes; of cues alone, what has no cue is "
        "background.",
    ]


_COLOURS = ("#2b6cb0", "#666b73", "#666b73")
_INK, _MUTED, _FAINT = "#22252b", "#666b73", "#d5d8dd"


def seeds_figure(study: Study) -> Figure | None:
    """The tables of masks and cues as dots with their intervals, controls hollow; None where nothing was measured."""
    from mmexplain.render.printed import Printed

    found = {table.title: table for table in study.tables}
    if MASKS not in found:
        return None
    figure = Printed(figsize=(9.6, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=(1, 1.35))
    masks, precise = found[MASKS], found[CUES]
    _dots(panels[0], [(f"{row[0]}, {row[1]}", row[0] == masks.rows[0][0], row[2]) for row in masks.rows])
    panels[0].set_title("masks: mean IoU, %", fontsize=9.5, color=_INK, loc="left")
    rows = [
        (f"{head}, {row[0]}", place == 0, row[number])
        for number, head in enumerate(precise.heads[1:], start=1)
        for place, row in enumerate(precise.rows)
    ]
    _dots(panels[1], rows, group=len(precise.rows))
    panels[1].set_title("cues: precision and recall of pixels, %", fontsize=9.5, color=_INK, loc="left")
    return figure


def _dots(axes: Any, rows: Sequence[tuple[str, bool, Cell]], group: int = 0) -> None:
    """A dot with its interval for each row; filled for the method, hollow for a control."""
    for place, (_, own, cell) in enumerate(rows):
        if not isinstance(cell, Mean) or np.isnan(cell.value):
            continue
        colour = _COLOURS[0] if own else _COLOURS[1]
        axes.plot([100 * cell.low, 100 * cell.high], [place, place], color=colour, lw=1.6 if own else 1, alpha=0.6)
        axes.plot(100 * cell.value, place, "o", ms=5, mfc=colour if own else "white", mec=colour)
    for edge in range(group, len(rows), group or len(rows) + 1):
        axes.axhline(edge - 0.5, color=_FAINT, lw=0.6)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=_FAINT, lw=0.6)
    axes.tick_params(labelsize=8, length=0, labelcolor=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
