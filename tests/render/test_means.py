"""The figure of an evaluation's means: how lines are named and grouped, and what is hollow."""

from __future__ import annotations

import math

from mmexplain.evaluate.intervals import Mean
from mmexplain.evaluate.protocol import Metric
from mmexplain.evaluate.result import Line, Result
from mmexplain.render.means import means_figure, named


def line(value: float = 0.5, spread: float = 0.1, **labels: str) -> Line:
    return Line(labels, {name: Mean(value, value - spread, value + spread, 9, 4, 0) for name in "abcd"})


def result(*lines: Line) -> Result:
    metrics = tuple(Metric(name, name) for name in "abcd")
    return Result("p", "A title", tuple(lines[0].labels), metrics, list(lines), {}, [], 4, 1.0, {})


def test_names_of_lines() -> None:
    assert named(line(method="gradcam", against="")) == ("", "gradcam")
    assert named(line(method="gradcam", against="layercam")) == ("", "gradcam against layercam")
    assert named(line(phrase="people", method="gradcam")) == ("people", "gradcam")
    assert named(line(mode="m", layer="l")) == ("m", "l")


def test_panels_wrap_and_groups_are_banded() -> None:
    kept = [line(0.5, 0.1, phrase=phrase, method=method) for method in ("x", "y") for phrase in ("all", "few")]
    figure = means_figure(result(*kept))
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 4 and [axes.get_subplotspec().colspan.start for axes in panels] == [0, 1, 2, 0]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["all: x", "all: y", "few: x", "few: y"]
    (band,) = panels[0].patches
    assert (band.get_y(), band.get_height()) == (1.5, 2)


def test_controls_and_what_has_no_interval_are_hollow() -> None:
    methods = ["gradcam", "(centre of the photo)", "random", "another word", "uniform", "randomcam"]
    figure = means_figure(result(*(line(method=name) for name in methods), line(0.5, math.nan, method="layercam")))
    dots = [drawn for drawn in figure.axes[0].lines if drawn.get_marker() == "o"]
    hollow = [dot.get_markerfacecolor() == "white" for dot in dots]
    assert hollow == [False, True, True, True, True, False, True]
    assert len(figure.axes[0].lines) - len(dots) == 6, "no interval, no line"
