"""Numbers as people write them, foreign strings made harmless, colour tables fit for photos."""

from __future__ import annotations

import numpy as np
import pytest

from mmexplain.render.colors import DIVERGING, SEQUENTIAL, css_gradient, rgb_table, rgba_table
from mmexplain.render.text import clean, number, percent, rows, stops, tone


@pytest.mark.parametrize(
    "probability,shown",
    [
        (None, ""), (0.834, "83%"), (1.0, "100%"), (0.9996, "100%"), (0.9949, "99.5%"), (0.0312, "3.1%"),
        (0.0951, "9.5%"), (0.09961, "10%"), (0.0004, "<0.1%"), (0.0, "<0.1%"), (float("nan"), "–"),
    ],
)  # fmt: skip
def test_percent(probability, shown) -> None:
    assert percent(probability) == shown


def test_number() -> None:
    assert [number(v) for v in (-0.14499, 12.3456, 0.0, float("nan"), float("-inf"))] == [
        "−0.145",
        "12.3",
        "0",
        "–",
        "–",
    ]


def test_tone_is_linear_in_log_probability() -> None:
    assert tone(1.0) == 1 and tone(np.exp(-2.0)) == 0.5 and tone(np.exp(-4.0)) == 0 and tone(1e-9) == 0
    assert tone(0.0) == 0 and tone(None) is None and tone(float("nan")) is None


def test_clean() -> None:
    assert clean("a\n\tb\x00c\u2028d") == "a b c d"
    assert clean("\u202egpj.exe\u200b") == "gpj.exe"
    assert clean("caf\udce9") == "caf\ufffd"
    family = "👩\u200d👧"
    assert clean(family) == family, "joiners belong to the emoji"


def test_rows_flatten_nested_records() -> None:
    assert rows({"seed": 0, "versions": {"torch": "2", "x": {}}, "mean": [0.5, 1]}) == [
        ("seed", "0"), ("versions · torch", "2"), ("versions · x", "{}"), ("mean", "[0.5, 1]"),
    ]  # fmt: skip


def lightness(table) -> np.ndarray:
    return table[:, :3] @ np.array([0.2126, 0.7152, 0.0722])


def test_colours_grow_lighter_and_more_opaque_with_the_value() -> None:
    table = rgba_table(SEQUENTIAL, signed=False).astype(float)
    assert (np.diff(lightness(table)) >= -1).all() and (np.diff(table[:, 3]) >= 0).all()
    assert table[0, 3] == 0 and table[-1, 3] == 255
    signed = rgba_table(DIVERGING, signed=True).astype(float)
    assert signed.shape == (256, 4) and signed[127:129, 3].max() == 0 and signed[[0, -1], 3].min() == 255
    assert (signed[:128, 3] == signed[128:, 3][::-1]).all()
    assert (signed[:30, 2] > signed[:30, 0]).all() and (signed[-30:, 0] > signed[-30:, 2]).all()
    assert rgb_table("viridis").shape == (256, 3)
    assert css_gradient(SEQUENTIAL, signed=False).count("rgb(") == 13


def test_stops_follow_their_words() -> None:
    assert stops("A dog, with two balls...", ["a", "dog", "with", "two", "balls"]) == ["", ",", "", "", "..."]
    assert stops("what is it?", ["what", "is", "it"]) == ["", "", "?"]
    assert stops("it is (red).", ["it", "is", "red"]) == ["", "", ""]
    assert stops("a cat.", ["a", "dog", "cat"]) == ["", "", ""]
    assert stops("", []) == []
