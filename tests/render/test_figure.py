"""The figure shows each word under its map, in any format, without touching pyplot."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError, MethodError
from mmexplain.render import figure, save_figure
from mmexplain.render.printed import SHOWN_DPI
from mmexplain.targets import Target


def texts(drawn) -> list[str]:
    return [text.get_text() for text in drawn.axes[0].texts]


def test_each_word_stands_under_its_map(make) -> None:
    drawn = figure(make(), methods=["gradcam"], legend=False)
    shown = texts(drawn)
    assert shown[:2] == ["a dog runs on the grass", "toy-captioner · gradcam at encoder.6"]
    for word in ("a", "dog", "runs", "on", "the", "grass", "90%"):
        assert word in shown
    assert len(drawn.axes[0].images) == 7


def test_methods_by_targets(make) -> None:
    drawn = figure(make(pixels=True), targets=["dog", 5], legend=False)
    assert len(drawn.axes[0].images) == 1 + 3 * 2
    assert {"gradcam", "attention", "guided-backprop"} <= set(texts(drawn))


def test_tiles_are_spread_evenly(make) -> None:
    eight = make("one two three four five six seven eight")

    def rows(drawn) -> list[int]:
        tops = [round(image.get_extent()[3], 3) for image in drawn.axes[0].images]
        return [tops.count(top) for top in sorted(set(tops))]

    assert rows(figure(eight, methods=["gradcam"], legend=False)) == [5, 4]
    # A row of four maps for each of two methods, twice, and beside each two rows the photo, at half their height.
    assert rows(figure(eight, legend=False)) == [4, 1, 4] * 2


def test_it_is_written_as_png_and_pdf(make, tmp_path) -> None:
    path = save_figure(make(), tmp_path / "f.png", methods=["gradcam"], columns=4)
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10
        assert picture.width > picture.height
    assert save_figure(make(), tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


def test_foreign_text_is_drawn_as_it_is(make, tmp_path) -> None:
    explanation = make(extra=(Target("$x^2$ \\frac{ 日本 🐶", "span", (1,), 1),))
    explanation.text = "costs $5 and $6 _{ <b>\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(explanation, tmp_path / "f.png")
    assert "costs $5 and $6 _{ <b>" in texts(figure(explanation))


def test_flat_maps_say_so(make) -> None:
    explanation = make()
    explanation.maps[explanation.key()][0] = torch.nan
    explanation.maps[explanation.key()][1] = 0
    shown = texts(figure(explanation, methods=["gradcam"]))
    assert "the whole map is NaN or infinite" in shown and "flat map: zero everywhere" in shown


def test_bad_input_is_one_line(make, tmp_path) -> None:
    with pytest.raises(MethodError, match="no map was made by 'magic'"):
        figure(make(), methods=["magic"])
    with pytest.raises(InputError, match="nothing to show"):
        figure(make(), targets=[])
    with pytest.raises(InputError, match=r"cannot write a figure as '\.xyz'"):
        save_figure(make(), tmp_path / "f.xyz")
    with pytest.raises(InputError, match="cannot write"):
        save_figure(make(), tmp_path / "missing" / "f.png")


def test_pyplot_is_left_alone() -> None:
    code = "import sys, mmexplain.render; assert not {'matplotlib', 'jinja2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebook_shows_it_without_pyplot(make) -> None:
    drawn = figure(make(), methods=["gradcam"])
    width, height = drawn.get_size_inches()
    with Image.open(io.BytesIO(drawn._repr_jpeg_())) as shown:
        assert shown.format == "JPEG"
        assert shown.size == pytest.approx((SHOWN_DPI * width, SHOWN_DPI * height), abs=1)
