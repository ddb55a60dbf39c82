"""The report is one self-contained file that shows every map and trusts no text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmexplain.errors import InputError
from mmexplain.explanation import MapKey
from mmexplain.picture import Picture
from mmexplain.render import notebook_html, report_html, save_report
from mmexplain.render.colors import rgba_table
from mmexplain.render.encode import STEPS, TABLES, exchangeable
from mmexplain.targets import Target
from tests.render.page import Page, decode

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


def test_every_target_and_method_has_its_picture(make) -> None:
    explanation = make(pixels=True)
    page = Page(report_html([explanation]))
    images = {image["id"]: image["href"] for image in page.of("image")}
    assert set(images) == {"e0-photo"} | {f"e0-{k}-{t}" for k in range(3) for t in range(6)}
    assert all(decode(uri).size for uri in images.values())
    assert decode(images["e0-photo"]).format == "JPEG"
    assert decode(images["e0-0-1"]).mode == "P" and "transparency" in decode(images["e0-0-1"]).info
    assert report_html([explanation]).count(images["e0-photo"]) == 1, "the photo is stored once"


def test_pictures_lie_where_the_model_looked(make, geometry_name) -> None:
    explanation = make(geometry=geometry_name, spots={1: (3, 2)})
    page = Page(report_html([explanation]))
    image = next(image for image in page.of("image") if image["id"] == "e0-0-1")
    alpha = np.asarray(decode(image["href"]).convert("RGBA"))[..., 3]
    rows, columns = np.nonzero(alpha == alpha.max())
    x = float(image["x"]) + (columns.mean() + 0.5) / alpha.shape[1] * float(image["width"])
    y = float(image["y"]) + (rows.mean() + 0.5) / alpha.shape[0] * float(image["height"])
    left, top, right, bottom = explanation.geometry.box
    assert x == pytest.approx(left + 2.5 / 6 * (right - left), abs=1.5)
    assert y == pytest.approx(top + 3.5 / 6 * (bottom - top), abs=1.5)
    peak = page.data()[0]["cells"][0][1]["peak"]
    assert peak == list(explanation.peak(1))
    assert abs(peak[0] - x) <= 2 and abs(peak[1] - y) <= 2


@pytest.mark.parametrize("name", TABLES)
def test_other_colours_are_other_letters_of_the_same_picture(make, name) -> None:
    page = Page(report_html([make(keys=(("conv", "gradcam"), ("conv", "cam")), pixels=True)]))
    own, other = exchangeable(TABLES[0])["letters"], exchangeable(name)["letters"]
    for place, uri in page.images().items():
        assert uri.count(own) == place.startswith("e0-0-"), "only maps of evidence have these colours"
    uri = page.images()["e0-0-1"]
    before, after = decode(uri), decode(uri.replace(own, other))
    after.load()
    assert np.array_equal(np.asarray(before), np.asarray(after)) and before.info == after.info
    wanted = rgba_table(name, False)[np.linspace(0, 255, STEPS).round().astype(int)]
    assert after.getpalette() == wanted[:, :3].ravel().tolist()
    assert list(after.info["transparency"]) == wanted[:, 3].tolist()


def test_the_unseen_is_hatched(make) -> None:
    strips = Page(report_html([make(geometry="cropped")])).with_class("unseen")
    assert {strip["style"] for strip in strips} == {
        "left: 0%; top: 0.0%; width: 16.667%; height: 100.0%",
        "left: 83.333%; top: 0.0%; width: 16.667%; height: 100.0%",
    }
    assert not Page(report_html([make(geometry="squashed")])).with_class("unseen")


def test_it_is_self_contained(make) -> None:
    explanation = make(pixels=True)
    explanation.provenance["url"] = "https://example.com/weights"
    html = report_html([explanation, make("two cats")])
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], "no inline event handlers"
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert "url(" not in style and "@import" not in style
    assert "http" not in html.replace("https://example.com/weights", "").replace("http-equiv", "")
    policy = next(meta["content"] for meta in page.of("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in policy
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(code) == 1
    assert f"'sha256-{base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode()}'" in policy


def test_no_text_can_break_out(make) -> None:
    explanation = make(extra=(Target(HOSTILE, "span", (1, 2), 1), Target(HOSTILE, "class", (3,))))
    explanation.targets[1] = replace(explanation.targets[1], label=HOSTILE)
    explanation.words = [HOSTILE, *explanation.words[1:]]
    explanation.text = explanation.model = explanation.task = HOSTILE
    explanation.picture = Picture(explanation.picture.pixels, HOSTILE)
    explanation.provenance = {HOSTILE: {HOSTILE: [HOSTILE]}}
    explanation.maps = {MapKey(HOSTILE, HOSTILE): explanation.maps[explanation.key()]}
    for html, scripts in [(report_html([explanation] * 2, title=HOSTILE), 3), (notebook_html(explanation), 0)]:
        page = Page(html)
        assert len(page.scripts) == scripts
        assert "<script>alert" not in html and "<img src=x" not in html
        assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
        assert all(image["src"].startswith("data:") for image in page.of("img"))
        assert html.count("alert(") > 3, "it is shown, as text"


def test_odd_characters_survive_the_disk(make, tmp_path) -> None:
    explanation = make(extra=(Target("日本 🐶 \udce9 \u202egpj.exe \x00", "span", (1,), 1),))
    explanation.picture = Picture(explanation.picture.pixels, "/a/b\udcff\n.jpg")
    text = save_report([explanation], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "日本 🐶" in text and "\u202e" not in text and "\x00" not in text


def test_words_show_what_is_known_about_them(make) -> None:
    explanation = make(
        extra=(Target("the grass", "span", (4, 5), 4), Target("a dog runs on the grass", "caption", (0,) * 6, 0))
    )
    page = Page(report_html([explanation]))
    words = page.with_class("word")
    assert [word["aria-label"].split(",")[0] for word in words] == explanation.words
    assert ["function" in word["class"] for word in words] == [True, False, False, True, True, False]
    assert words[0]["aria-label"] == "a, probability 90%"
    chips = page.with_class("chip")
    assert [chip["aria-label"].split(",")[0] for chip in chips] == ["the grass", "the whole caption"]
    chosen = [e for _, e in page.elements if e.get("aria-checked") == "true"]
    assert len(chosen) == 1 and chosen[0]["data-target"] == "1", "it starts at the first word that is about something"
    assert [e["tabindex"] for _, e in page.elements if e.get("role") == "radio"].count("0") == 1
    assert page.data()[0]["targets"][6]["span"] == [4, 6]


def test_words_that_were_not_explained_are_still_there(make) -> None:
    explanation = make()
    explanation.targets = explanation.targets[1:2]
    explanation.scores, explanation.probabilities = explanation.scores[1:2], None
    explanation.maps = {key: maps[1:2] for key, maps in explanation.maps.items()}
    page = Page(report_html([explanation]))
    words = page.with_class("word")
    assert len(words) == 6 and [("data-target" in word) for word in words] == [False, True, False, False, False, False]


def test_classes_become_chips(make) -> None:
    explanation = make()
    explanation.task, explanation.text, explanation.words = "classify", None, []
    explanation.targets = [Target(f"class {i}", "class", (i,)) for i in range(6)]
    page = Page(report_html([explanation]))
    assert len(page.with_class("chip")) == 6 and not page.with_class("word")


def test_many_explanations_share_one_page(make, tmp_path) -> None:
    path = save_report(
        [make(), make("two cats", geometry="padded"), make("grass", pixels=True)], tmp_path / "r.html", "Mine"
    )
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert [article["id"] for article in page.of("article")] == ["e0", "e1", "e2"]
    assert [link["href"] for link in page.of("a")] == ["#e0", "#e1", "#e2"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    uses = {use["href"].removeprefix("#") for use in page.of("use")}
    assert uses <= set(ids)
    assert "<title>Mine</title>" in html
    assert not list(tmp_path.glob("*.partial"))


def test_flat_and_broken_maps_survive_and_are_named(make) -> None:
    explanation = make()
    for maps in explanation.maps.values():
        maps[0] = 0
        maps[1] = torch.nan
        maps[2, 0, 0] = torch.inf
    explanation.probabilities[3] = torch.nan
    explanation.scores[4] = -torch.inf
    explanation.probabilities[4] = 0
    data = Page(report_html([explanation])).data()[0]
    notes = [cell["note"] for cell in data["cells"][0]]
    assert notes[0].startswith("flat map") and notes[1].startswith("the whole map is NaN")
    assert notes[2] == "1 of 36 values are NaN or infinite" and notes[3:] == [None] * 3
    assert data["cells"][0][0]["peak"] is None
    assert data["targets"][3]["percent"] == "–" and data["targets"][4]["score"] == "–"
    assert data["targets"][4]["tone"] == 0


def test_an_explanation_without_maps_still_makes_a_page(make) -> None:
    explanation = make()
    explanation.maps = {}
    assert "meadow.jpg" in report_html([explanation])
    assert "toy-captioner" in notebook_html(explanation)


def test_it_is_small_enough_to_mail(make) -> None:
    """Twelve words, three methods, a detailed photo, maps as rough as they come."""
    explanation = make(
        "a b c d e f g h i j k l", keys=tuple(("layer", m) for m in ("gradcam", "gradcam++", "attention"))
    )
    generator = torch.Generator().manual_seed(1)
    explanation.maps = {key: torch.rand(12, 14, 14, generator=generator) for key in explanation.maps}
    noise = torch.rand(1, 3, 150, 200, generator=generator) * 255
    photo = torch.nn.functional.interpolate(noise, size=(1200, 1600), mode="bilinear")[0].permute(1, 2, 0)
    explanation.picture = Picture(photo.to(torch.uint8))
    assert len(report_html([explanation])) < 1.5e6


def test_bad_input_is_one_line(make, tmp_path) -> None:
    with pytest.raises(InputError, match="at least one explanation"):
        save_report([], tmp_path / "r.html")
    with pytest.raises(InputError, match="cannot write"):
        save_report([make()], tmp_path / "missing" / "r.html")


def test_the_notebook_strip_has_a_tile_for_each_target(make) -> None:
    explanation = make()
    html = explanation._repr_html_()
    page = Page(html)
    assert [image["alt"] for image in page.of("img")] == ["photo", *explanation.words]
    assert not page.of("style") and len(html) < 100_000
    assert "and 6 more targets" in notebook_html(make(" ".join("abcdefghij" * 3)))
