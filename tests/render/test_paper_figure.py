"""The figure for papers: the width that was asked for, the right words under the right maps, text as text."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from base64 import b64decode
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mmexplain.errors import InputError, LayerError, MethodError, TargetError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.render import paper_figure
from mmexplain.render.legend import ENDS
from mmexplain.targets import Target, contrast
from tests.render.samples import QUESTION, clip, question

KEY = ("encoder.6", "gradcam")
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
ODD = (LONG, "שלום", "السلام", "一只狗在草地上奔跑", "$x_2$", "$5", "\\frac{", "a\nb", "🐶", "", "W" * 400, "a b " * 40)


def texts(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.axes[0].texts]


def boxes(drawn: Figure) -> list[tuple[str, Any]]:
    """Every text that is not empty, and where the renderer puts it, in pixels."""
    renderer = drawn.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in drawn.axes[0].texts if text.get_text()]


def assert_legible(drawn: Figure) -> None:
    """No text over another, or over the edge of the page; none smaller than it should be."""
    width, height = drawn.get_size_inches() * drawn.dpi
    found = boxes(drawn)
    for text, box in found:
        assert box.x0 >= -1.5 and box.x1 <= width + 1.5 and box.y0 >= -1.5 and box.y1 <= height + 1.5, text
    for (one, first), (other, second) in combinations(found, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        along = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 1 or along <= 1, (one, other)


def tiles(drawn: Figure) -> list[tuple[np.ndarray, tuple[float, float, float, float]]]:
    """Every picture, and its left, right, bottom and top edge in inches from the upper left corner."""
    return [(np.asarray(image.get_array()), tuple(image.get_extent())) for image in drawn.axes[0].images]


def under(drawn: Figure, extent: tuple[float, float, float, float]) -> list[str]:
    """Texts whose middle stands under a picture, nearest first, down to the next picture."""
    left, right, bottom, _ = extent
    ends = [e[3] for _, e in tiles(drawn) if e[3] > bottom and e[0] < right and e[1] > left]
    limit = min(ends, default=np.inf)
    found = [
        (text.get_position()[1], text.get_text())
        for text in drawn.axes[0].texts
        if left < text.get_position()[0] < right and bottom < text.get_position()[1] < limit
    ]
    return [text for _, text in sorted(found)]


def photo_of(make: Any, height: int, width: int) -> Explanation:
    explanation = make()
    explanation.geometry = Geometry.identity(height, width).resize(48, 48)
    explanation.picture = Picture(torch.full((height, width, 3), 90, dtype=torch.uint8))
    return explanation


@pytest.mark.parametrize("width,inches", [("column", 3.25), ("page", 6.875), (4, 4.0), (2.5, 2.5)])
def test_it_is_exactly_as_wide_as_asked_for(make, tmp_path: Path, width, inches: float) -> None:
    drawn = make().figure(methods=["gradcam"], width=width)
    assert drawn.get_size_inches()[0] == inches
    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.dpi": 55}):
        for kind in ("png", "pdf", "svg"):
            drawn.savefig(tmp_path / f"f.{kind}")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width == pytest.approx(300 * inches, abs=1)
    box = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+) ([\d.]+)", (tmp_path / "f.pdf").read_bytes())
    assert box is not None and float(box[1]) == pytest.approx(72 * inches, abs=0.01)
    root = ElementTree.parse(tmp_path / "f.svg").getroot()
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(72 * inches, abs=0.01)


def test_every_map_is_over_its_own_word(make, geometry_name: str) -> None:
    explanation = make(geometry=geometry_name)
    drawn = explanation.figure(methods=["gradcam"], legend=False)
    (photo, _), *maps = tiles(drawn)
    assert photo.std() == 0 and len(maps) == len(explanation)
    for (pixels, extent), number in zip(maps, range(len(explanation)), strict=True):
        expected = np.asarray(explanation.overlay(number, *KEY, size=pixels.shape[:2]))
        assert np.array_equal(pixels, expected)
        label, percent = under(drawn, extent)
        assert label == explanation.targets[number].label and percent.endswith("%")
    assert_legible(drawn)


def test_methods_are_rows_and_targets_columns(make) -> None:
    explanation = make(pixels=True)
    drawn = explanation.figure(["dog", 5], labels={"gradcam": "Grad-CAM"}, legend=False)
    found = tiles(drawn)
    rows = sorted({round(extent[3], 3) for pixels, extent in found if pixels.std() > 0})
    for pixels, extent in found:
        if pixels.std() > 0:
            key = list(explanation.maps)[rows.index(round(extent[3], 3))]
            number = [1, 5][extent[0] > 2]
            assert np.array_equal(pixels, explanation.overlay(number, key.layer, key.method, size=pixels.shape[:2]))
    assert next(t.get_text() for t in drawn.axes[0].texts if t.get_rotation() == 90) == "Grad-CAM"
    assert {"dog", "grass", "attention"} <= set(texts(drawn))
    assert_legible(drawn)


def test_one_target_by_many_methods_is_a_strip_of_methods(make) -> None:
    explanation = make(pixels=True)
    for photo in (True, False):
        drawn = explanation.figure(["dog"], photo=photo, legend=False)
        assert texts(drawn).count("dog") == 1
        maps = [(pixels, extent) for pixels, extent in tiles(drawn) if pixels.std() > 0]
        for (pixels, extent), key in zip(maps, explanation.maps, strict=True):
            assert "".join(under(drawn, extent)[:2]).startswith(key.method)
            assert np.array_equal(pixels, explanation.overlay("dog", key.layer, key.method, size=pixels.shape[:2]))


def test_names_of_rows_tell_them_apart(make) -> None:
    both = make(keys=(("conv.1", "gradcam"), ("conv.1", "gradcam++"), ("conv.2", "gradcam")))
    sideways = [t.get_text() for t in both.figure([0, 1]).axes[0].texts if t.get_rotation() == 90]
    assert sideways == ["gradcam", "conv.1", "gradcam++", "conv.1", "gradcam", "conv.2"]
    layers = make(keys=(("conv.1", "gradcam"), ("conv.2", "gradcam")))
    sideways = [t.get_text() for t in layers.figure([0, 1]).axes[0].texts if t.get_rotation() == 90]
    assert sideways == ["conv.1", "conv.2"]


def test_function_words_are_grey(make) -> None:
    drawn = make().figure(methods=["gradcam"])
    colours = {text.get_text(): text.get_color() for text in drawn.axes[0].texts}
    assert colours["a"] == colours["on"] == colours["the"] != colours["dog"] == colours["grass"]


def test_a_question_stands_over_its_answers_and_a_caption_over_some_of_its_words(make) -> None:
    asked = question().figure()
    assert texts(asked)[0] == f"{QUESTION}?"
    assert {"cup", "red cup", "nothing"} <= set(texts(asked))
    assert_legible(asked)
    assert texts(make().figure(["dog"], methods=["gradcam"]))[0] == "a dog runs on the grass"
    assert texts(make().figure(methods=["gradcam"]))[0] == "a"
    assert texts(make().figure(methods=["gradcam"], labels=False, legend=False)) == []


def test_legends_say_what_appears_and_nothing_else(make) -> None:
    plain = make(geometry="squashed").figure(methods=["gradcam"])
    assert texts(plain)[-2:] == ["none", "strongest"]
    cropped = make(geometry="cropped").figure(methods=["gradcam"], peaks=True)
    assert texts(cropped)[-4:] == ["none", "strongest", "not seen by the model", "peak"]
    assert texts(make(geometry="squashed").figure(methods=["gradcam"], peaks=True))[-1] == "peak"
    pixels = make(pixels=True, geometry="squashed").figure()
    assert texts(pixels)[-4:] == ["none", "strongest", "lowers it", "raises it"]
    assert texts(make().figure(methods=["gradcam"], legend=False))[-1].endswith("%")
    flat = make(geometry="squashed")
    flat.maps[MapKey(*KEY)][:] = 0
    assert "strongest" not in texts(flat.figure(methods=["gradcam"], peaks=True))


def test_signed_maps_have_the_ramp_of_their_method(make) -> None:
    explanation = make(geometry="squashed", keys=(("input", "occlusion"), ("input", "input-x-gradient")))
    for values in explanation.maps.values():
        values[:, 0, 5] = -9
    drawn = explanation.figure()
    assert texts(drawn)[-4:] == ["against", "for"] * 2
    blue, fire = (pixels.astype(int)[0, :, 0] - pixels[0, :, 2] for pixels, _ in tiles(drawn)[-2:])
    assert blue[-1] < -30 and blue[0] > 30, "blue is for, red against"
    assert fire[-1] > 30 and fire[0] < -30, "fire is for, ice against"


def test_words_of_the_legend_are_those_of_the_report() -> None:
    folder = Path(sys.modules["mmexplain.render.legend"].__file__ or "").parent
    script = (folder / "report.js").read_text(encoding="utf-8")
    for kind, (low, high) in ENDS.items():
        assert f'{kind}: ["{low}", "{high}"]' in script


@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
@pytest.mark.parametrize("width", ["column", "page", 1.5])
def test_odd_labels_fit(make, width) -> None:
    targets = tuple(Target(label, "span", (number,), number) for number, label in enumerate(ODD))
    explanation = make(extra=targets)
    explanation.text = LONG + " $5 _{ \n" + "一只狗在草地上奔跑" * 30
    for options in ({"methods": ["gradcam"]}, {}, {"targets": ["dog", 6]}, {"targets": [6], "photo": False}):
        drawn = explanation.figure(width=width, **options)
        assert_legible(drawn)
        assert {round(text.get_fontsize(), 2) for text in drawn.axes[0].texts} <= {8, 6.56, 6}
    strip = texts(explanation.figure(methods=["gradcam"], width=width))
    assert any(text.startswith("Donau") and text.endswith("…") for text in strip)
    assert {"$5", "$x_2$", "a b"} <= set(strip)


def test_right_to_left_words_keep_their_letters_in_reading_order(make, tmp_path: Path) -> None:
    explanation = make(extra=(Target("שלום", "span", (1,), 1),))
    path = explanation.save(tmp_path / "f.svg")
    assert "שלום" in spoken(path)


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("width", ["column", "page"])
def test_any_number_of_targets(make, count: int, width: str) -> None:
    explanation = make(" ".join(f"word{number}" for number in range(count)))
    for options in ({"methods": ["gradcam"]}, {"methods": ["gradcam"], "photo": False}, {}):
        drawn = explanation.figure(width=width, legend=False, **options)
        assert_legible(drawn)
        for number in range(count):
            assert f"word{number}" in texts(drawn)
        pictures = tiles(drawn)
        edges = [(e[0], e[1], e[3], e[2]) for _, e in pictures]
        assert min(e[0] for e in edges) >= 0 and max(e[1] for e in edges) <= drawn.get_size_inches()[0] + 1e-9
        for one, other in combinations(edges, 2):
            apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert apart, "tiles lie side by side"


@pytest.mark.parametrize("height,width", [(40, 900), (900, 40), (60, 300), (300, 60), (1, 500), (500, 1)])
def test_photos_keep_their_shape(make, height: int, width: int) -> None:
    for page in ("column", "page"):
        drawn = photo_of(make, height, width).figure(methods=["gradcam"], width=page)
        shape = tiles(drawn)[0][0].shape
        assert max(1, round(shape[1] * height / width)) == pytest.approx(shape[0], abs=max(1, 0.6 * height / width))
        assert_legible(drawn)


def test_maps_that_say_nothing_say_so(make) -> None:
    explanation = make()
    explanation.maps[explanation.key()][0] = torch.nan
    explanation.maps[explanation.key()][1] = 0
    drawn = explanation.figure(methods=["gradcam"])
    shown = " ".join(texts(drawn)).replace("\n", " ")
    assert "the whole map is NaN or infinite" in shown and "flat map: zero everywhere" in shown
    assert_legible(drawn)


def test_long_contrasts_are_broken_into_lines(make) -> None:
    one, other = Target("golden retriever", "class", (1,)), Target("tiger cat", "class", (2,))
    explanation = make("a dog runs", extra=(contrast(one, other),))
    drawn = explanation.figure(methods=["gradcam"])
    assert_legible(drawn)
    assert "golden retriever rather than tiger cat" in " ".join(texts(drawn)), "whole, in lines that follow each other"


@pytest.mark.parametrize("options", [{"columns": 99}, {"font_size": 20}, {"width": 2}, {"columns": 1}])
def test_texts_have_room_however_many_columns_are_asked_for(make, options: dict[str, Any]) -> None:
    for explanation in (make(), question(), clip()):
        for chosen in ({}, {"targets": [0]}, {"methods": ["gradcam"]}):
            assert_legible(explanation.figure(legend="font_size" not in options, **chosen, **options))


@pytest.mark.parametrize("width", ["column", "page"])
def test_clips_are_strips_of_frames_with_their_times(width: str) -> None:
    drawn = clip().figure(width=width, peaks=True)
    assert drawn.get_size_inches()[0] == {"column": 3.25, "page": 6.875}[width]
    frames = [(pixels, extent) for pixels, extent in tiles(drawn) if pixels.shape[0] > 60]
    stamped = [under(drawn, extent)[0] for _, extent in frames]
    assert len(frames) == 4 * {"column": 5, "page": 6}[width] and all(stamp.endswith(" s") for stamp in stamped)
    assert {"jump", "fall", "80%", "gradcam · conv", "not seen by the model", "peak"} <= set(texts(drawn))
    assert len(drawn.axes[0].collections) == 4, "a curve for each row"
    assert_legible(drawn)
    for (pixels, _), stamp in zip(frames, stamped, strict=True):
        # Frame n is grey 10 n, at n tenths of a second; its corner is veiled, the middle below the map is not.
        grey = np.median(pixels[-pixels.shape[0] // 5 :, pixels.shape[1] // 2 :][:, : pixels.shape[1] // 10], (0, 1))
        assert abs(grey.mean() - 100 * float(stamp.removesuffix(" s"))) <= 3


def spoken(svg: Path) -> list[str]:
    root = ElementTree.parse(svg).getroot()
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def fonts_of(pdf: Path) -> set[bytes]:
    """The kinds of all fonts in a PDF, with its compressed streams read too."""
    raw = pdf.read_bytes()
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", raw, re.DOTALL):
        try:
            raw += zlib.decompress(stream)
        except zlib.error:
            continue
    return set(re.findall(rb"/Subtype\s*/(Type3|Type0|CIDFontType2|TrueType|Type1)\b", raw))


@pytest.mark.parametrize("by_hand", [True, False])
def test_text_is_text_whatever_the_settings_are(make, tmp_path: Path, by_hand: bool) -> None:
    explanation = make(extra=(Target("Ελλάδα", "span", (1,), 1),))
    with matplotlib.rc_context({"pdf.fonttype": 3, "svg.fonttype": "path"}):
        for kind in ("svg", "pdf"):
            path = tmp_path / f"f.{kind}"
            if by_hand:
                explanation.figure(methods=["gradcam"]).savefig(path)
            else:
                assert explanation.save(path) == path
        assert {"dog", "runs", "grass", "Ελλάδα", "90%", "strongest"} <= set(spoken(tmp_path / "f.svg"))
        assert fonts_of(tmp_path / "f.pdf") == {b"Type0", b"CIDFontType2"}
        plain = Figure()
        plain.text(0.5, 0.5, "dog")
        plain.savefig(tmp_path / "plain.pdf")
        assert b"Type3" in fonts_of(tmp_path / "plain.pdf"), "the check can fail"
        assert matplotlib.rcParams["pdf.fonttype"] == 3 and matplotlib.rcParams["svg.fonttype"] == "path"


def test_photos_have_the_resolution_that_is_stated(make) -> None:
    for dpi in (100, 300, 600):
        pixels, (left, right, bottom, top) = tiles(make().figure(methods=["gradcam"], dpi=dpi))[0]
        assert pixels.shape[1] == round((right - left) * dpi) and pixels.shape[0] == round((bottom - top) * dpi)


def test_pictures_are_written_pixel_by_pixel(make, tmp_path: Path) -> None:
    settings = {"image.origin": "lower", "image.interpolation": "bicubic", "figure.autolayout": True, "savefig.dpi": 70}
    with matplotlib.rc_context({**settings, "text.usetex": True, "savefig.transparent": True}):
        drawn = make().figure(methods=["gradcam"], dpi=200)
        drawn.savefig(tmp_path / "f.png")
        drawn.savefig(tmp_path / "f.svg")
    with Image.open(tmp_path / "f.png") as opened:
        page = np.asarray(opened.convert("RGB"))
    for pixels, (left, _, _, top) in tiles(drawn)[:7]:
        x, y = round(left * 200), round(top * 200)
        assert np.array_equal(page[y : y + pixels.shape[0], x : x + pixels.shape[1]], pixels)
    svg = (tmp_path / "f.svg").read_text(encoding="utf-8")
    embedded = [Image.open(BytesIO(b64decode(found))) for found in re.findall(r'base64,\s*([^"]+)"', svg)]
    shown = [np.asarray(picture.convert("RGB")) for picture in embedded]
    for found, (pixels, _) in zip(shown, tiles(drawn), strict=True):
        assert np.array_equal(found, pixels) or np.array_equal(found[::-1], pixels), "stored from below"
    assert "pixelated" not in svg


def test_the_same_figure_is_the_same_file(make, tmp_path: Path) -> None:
    for kind in ("pdf", "svg"):
        first, second = (make().save(tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
        assert first == second and b"mmexplain" in first


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"width": "colum"}, InputError, "cannot make a figure of width 'colum'"),
        ({"width": 0}, InputError, "width 0: give 'column', 'page' or inches"),
        ({"width": float("nan")}, InputError, "width nan"),
        ({"width": True}, InputError, "width True"),
        ({"width": None}, InputError, "width None"),
        ({"colormap": "infern"}, InputError, "unknown colour map 'infern'; closest: 'inferno'"),
        ({"alpha": 2}, InputError, "opacity 2 is not between 0 and 1"),
        ({"font_size": 0}, InputError, "not 0 and 300"),
        ({"dpi": float("inf")}, InputError, "not 8 and inf"),
        ({"font_size": 100, "legend": False}, InputError, "a figure of 3.25 inches has no room for its texts at 100"),
        ({"font_size": 30, "methods": ["gradcam"]}, InputError, "make it wider, the font smaller"),
        ({"columns": 0}, InputError, "at least one column"),
        ({"targets": []}, InputError, "nothing to show"),
        ({"targets": ["zebra"]}, TargetError, "'zebra'"),
        ({"layers": ["conv"]}, LayerError, "no map was made at layer 'conv'"),
        ({"methods": ["magic"]}, MethodError, "no map was made by 'magic'"),
    ],
)
def test_bad_input_is_one_line(make, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        paper_figure(make(), **options)
    assert "\n" not in str(caught.value)


def test_settings_and_pyplot_are_left_alone(make, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for kind in ("pdf", "svg", "png"):
        make().figure().savefig(tmp_path / f"f.{kind}")
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys, torch; from tests.render.conftest import build; "
        "build().figure().savefig(sys.argv[1]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "g.pdf")], check=True)
