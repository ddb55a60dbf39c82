"""Two captions word by word, against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mmexplain.app import pieces
from mmexplain.app.changes import Change, changes, log_probability
from tests.render.conftest import build


def test_one_word_for_another() -> None:
    before, after = build("a dog runs"), build("a cat runs", spots={2: (0, 5)})
    found = changes(before, after)
    assert [(row.before, row.after) for row in found] == [("a", "a"), ("dog", "cat"), ("runs", "runs")]
    assert before.probabilities is not None
    assert [row.p_before for row in found] == pytest.approx(before.probabilities.tolist())
    # one-hot maps of 36 cells: the same one, or another, whose rank correlation is -1 / 35
    assert found[0].alike == pytest.approx(1.0)
    assert found[2].alike == pytest.approx(-1 / 35)


def test_words_that_come_and_go() -> None:
    found = changes(build("a dog runs"), build("a big dog"))
    assert [(row.before, row.after) for row in found] == [("a", "a"), (None, "big"), ("dog", "dog"), ("runs", None)]
    assert found[1].p_before is None and found[1].alike is None and found[3].p_after is None


def test_flat_maps_are_like_nothing() -> None:
    before, after = build("a dog"), build("a dog")
    for values in after.maps.values():
        values.zero_()
    assert [row.alike for row in changes(before, after)] == [None, None]


def test_probability_of_a_caption() -> None:
    explanation = build("a dog runs")
    assert explanation.probabilities is not None
    assert log_probability(explanation) == pytest.approx(float(explanation.probabilities.log().sum()))
    explanation.probabilities = torch.tensor([0.5, 0.0, 1.0])
    assert log_probability(explanation) == -math.inf
    assert log_probability(build("a dog", spots={})) is not None
    some = build("a dog runs")
    some.targets = some.targets[:2]
    assert log_probability(some) is None


def test_the_table_escapes_what_people_write() -> None:
    row = Change("<b>dog</b>", "<script>alert(1)</script>", 0.5, None, 0.25)
    table = pieces.changed([row], -2.0, -1.0)
    assert "<b>" not in table and "<script>" not in table
    assert "&lt;b&gt;dog&lt;/b&gt;" in table and "50%" in table and "0.25" in table
    assert "2.7 times likelier than before" in table
    assert "as likely as before" in pieces.changed([row], -1.0, -1.0)
    assert "7.4 times less likely" in pieces.changed([row], -1.0, -3.0)
    assert "<img" not in pieces.problem("<img src=x onerror=alert(1)>")
