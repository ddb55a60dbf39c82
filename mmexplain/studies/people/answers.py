"""What people said of maps: accuracy and preference for each method, against chance."""

from __future__ import annotations

import csv
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from mmexplain.errors import InputError
from mmexplain.evaluate.intervals import LEAST, Mean, wilson
from mmexplain.render.whole import whole
from mmexplain.studies.people.answer_files import Answer, Answers
from mmexplain.studies.people.crossed import crossed_mean
from mmexplain.studies.people.plan import COLUMNS, cell
from mmexplain.studies.study import Cell, Control, Study, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORED = "scored.csv"
CHANCE = 0.5

PUBLISHED = {
    "discrimination": "Selvaraju et al. (2017, §5.1), 90 pairs of photo and class of VOC 2007, 43 people: "
    "deconvolution 53.33 %, guided backpropagation 44.44 %, Deconvolution Grad-CAM 60.37 %, Guided Grad-CAM 61.23 %.",
    "trust": "Selvaraju et al. (2017, §5.2), VGG-16 against AlexNet, 54 people: guided backpropagation +1.00, Guided "
    "Grad-CAM +1.27.",
}


def analyse(answers: Answers, seed: int = 0) -> Study:
    """Accuracy, or mean preference for the better model, of each method.

    Intervals are of :func:`~mmexplain.studies.people.crossed.crossed_mean`. The control is the arm whose pictures say
    nothing.

    Args:
        answers: see :func:`~mmexplain.studies.people.answer_files.read_answers`.
        seed: of the bootstrap.

    Raises:
        InputError: nobody's answers count.
    """
    started = time.perf_counter()
    counted, key = answers.counted, answers.key
    if not counted:
        first = answers.participants[0]
        raise InputError(
            f"no answers are left: all {len(answers.participants)} participants are left out ({first.name}: "
            f"{first.left_out}, …)"
        )
    trust = key["kind"] == "trust"
    given = [answer for one in counted for answer in one.answers if answer.question.kind != "check"]
    methods = {arm["method"]: arm["control"] for arm in key["arms"].values()}
    by_method = {method: [answer for answer in given if answer.method == method] for method in methods}
    found = {method: _mean(some, seed) for method, some in by_method.items()}
    tables = [_trust_table(by_method, found) if trust else _accuracy_table(by_method, found)]
    if trust:
        tables.append(_spread_table(by_method))
    left_out = [(one.name, one.left_out) for one in answers.participants if one.left_out]
    if left_out:
        tables.append(Table("Left out", ("participant", "why"), left_out, labels=2))
    controls = [(_same_twice if trust else _noise)(by_method[method]) for method, control in methods.items() if control]
    leading = sum(int(answer.row["answer"]) <= (2 if trust else 1) for answer in given)
    told = "A was preferred" if trust else "The first option was chosen"
    notes = [
        f"{len(counted):,} participants count, {len(left_out):,} are left out"
        + (f"; {len(answers.copies)} files are copies of others" if answers.copies else "")
        + ".",
        "In the intervals participants and photos are both drawn again (pigeonhole bootstrap, Owen 2007); none with "
        f"fewer than {LEAST} of either.",
        f"{told} in {leading / len(given):.1%} of the answers; sides are drawn, so that this favours nothing.",
        PUBLISHED[key["kind"]],
    ]
    details = {
        "study": key["study"],
        "participants": [
            {"participant": one.name, "file": one.file.name, "answers": len(one.answers), "left_out": one.left_out}
            for one in answers.participants
        ],
    }
    title = "Trust: which model seems more reliable?" if trust else "Class discrimination: which object is shown?"
    settings = {"study": key["study"], "models": key["models"], "seed": seed}
    photos = len({answer.photo for answer in given})
    return Study("answers", title, tables, controls, settings, notes, photos, time.perf_counter() - started, details)


def save_scored(answers: Answers, path: Path) -> Path:
    """All answers in one CSV, with what the key adds: ``photo``, ``method``, ``correct``, ``preference``, ``left_out``.

    Raises:
        InputError: the system refused.
    """
    with whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "photo", "method", "correct", "preference", "left_out"])
        for one in answers.participants:
            for answer in one.answers:
                right = "" if answer.correct is None else int(answer.correct)
                # a number, which no spreadsheet takes for a formula
                preference = "" if answer.preference is None else answer.preference
                texts = [cell(answer.row[name]) for name in COLUMNS]
                writer.writerow(
                    [*texts, cell(answer.photo), cell(answer.method), right, preference, cell(one.left_out)]
                )
    return path


def figure(study: Study) -> Figure:
    """Each method's mean with its interval, beside chance."""
    from mmexplain.render.printed import Printed

    table = study.tables[0]
    trust = "preference" in table.heads
    values = [row[table.heads.index("preference" if trust else "accuracy")] for row in table.rows]
    scale = 1.0 if trust else 100.0
    drawn = Printed(figsize=(6.4, 1.3 + 0.42 * len(values)), layout="constrained")
    axes = drawn.add_subplot()
    for place, (row, value) in enumerate(zip(table.rows, values, strict=True)):
        assert isinstance(value, Mean)
        color = "#7a7f87" if row[0] in _controls(study) else "#1d5fa6"
        if not math.isnan(value.low):
            axes.plot([scale * value.low, scale * value.high], [place, place], color=color, lw=2, solid_capstyle="butt")
        axes.plot(scale * value.value, place, "o", color=color, ms=7)
    axes.axvline(0 if trust else 100 * CHANCE, color="#1c1e22", lw=1, ls=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(values)), [str(row[0]) for row in table.rows])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim((-2.05, 2.05) if trust else (0, 102))
    axes.set_xlabel("mean preference for the better model (dashed: none)" if trust else "accuracy, % (dashed: chance)")
    axes.grid(axis="x", color="#e3e0da", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return drawn


def _controls(study: Study) -> set[str]:
    from mmexplain.studies.people.pictures import CONTROL

    return set(CONTROL.values())


def _mean(answers: Sequence[Answer], seed: int) -> Mean:
    share = any(answer.correct is not None for answer in answers)
    values = [float((answer.correct if share else answer.preference) or 0) for answer in answers]
    people = [answer.participant for answer in answers]
    return crossed_mean(values, people, [answer.photo for answer in answers], seed, share=share)


def _accuracy_table(by_method: dict[str, list[Answer]], found: dict[str, Mean]) -> Table:
    heads = ("method", "against chance", "accuracy", "answers", "participants", "photos", "median s")
    rows: list[list[Cell]] = [
        [method, _against(found[method], CHANCE), found[method], *_counts(some)] for method, some in by_method.items()
    ]
    return Table("Accuracy, % (chance 50)", heads, rows, labels=2, percent=("accuracy",), digits=1)


def _trust_table(by_method: dict[str, list[Answer]], found: dict[str, Mean]) -> Table:
    heads = ("method", "against none", "preference", "answers", "participants", "photos", "median s")
    rows: list[list[Cell]] = [
        [method, _against(found[method], 0.0), found[method], *_counts(some)] for method, some in by_method.items()
    ]
    return Table("Mean preference for the better model, −2 to +2", heads, rows, labels=2)


def _spread_table(by_method: dict[str, list[Answer]]) -> Table:
    heads = ("method", "−2", "−1", "0", "+1", "+2")
    rows: list[list[Cell]] = []
    for method, some in by_method.items():
        counts = Counter(answer.preference for answer in some)
        rows.append([method, *(counts[value] for value in range(-2, 3))])
    return Table("Answers, + for the better model", heads, rows)


def _counts(some: Sequence[Answer]) -> list[Cell]:
    people = len({answer.participant for answer in some})
    seconds = median([answer.milliseconds for answer in some]) / 1000 if some else math.nan
    return [len(some), people, len({answer.photo for answer in some}), float(seconds)]


def _against(found: Mean, none: float) -> str:
    if math.isnan(found.low):
        return "too few to tell"
    return "above" if found.low > none else "below" if found.high < none else "no difference"


def _noise(answers: Sequence[Answer]) -> Control:
    """Which class noise stands for is a coin, so that answers are as good as flips of it."""
    right = sum(bool(answer.correct) for answer in answers)
    what = "Nobody can tell which object random noise stands for: 50 % must lie in the 95 % interval."
    return _coin(what, right, len(answers), "right")


def _same_twice(answers: Sequence[Answer]) -> Control:
    preferences = [answer.preference or 0 for answer in answers]
    right = sum(value > 0 for value in preferences)
    what = "Of one map shown twice neither side is better: of those who preferred one, half must have met the better's."
    return _coin(what, right, sum(value != 0 for value in preferences), "of those who preferred one")


def _coin(what: str, heads: int, flips: int, told: str) -> Control:
    if not flips:
        return Control(what, "None of the answers tells a difference.", True)
    low, high = wilson(flips, heads)
    found = f"{heads / flips:.1%} {told} [{low:.1%}, {high:.1%}], {flips:,} answers."
    return Control(what, found, low <= CHANCE <= high)
