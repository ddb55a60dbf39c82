"""Galleries as files: every card once, no link that leads nowhere, nobody's text a command, none half written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import MapKey
from mmexplain.gallery import write_gallery
from tests.gallery.reading import DANGEROUS, broken, card_pages, cards, read, shown
from tests.gallery.stores import CROPPED, HEIGHT, KEY, SQUASHED, WIDTH, Told, photo, spot, write
from tests.videos import write_video

WORDS = "a dog runs on the grass"


def captions(tmp_path, count: int = 7) -> list[Told]:
    cells = [(n % 6, n % 6) for n in range(6)]
    return [
        Told(
            f"p{n}", WORDS, spot(*cells), [0.1 * k + 0.01 * n for k in range(1, 7)],
            source=photo(tmp_path / "photos" / f"{n}.jpg"),
        )
        for n in range(count)
    ]  # fmt: skip


# -- paging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit, per_page, pages", [(500, 60, 1), (500, 10, 5), (25, 10, 3), (20, 10, 2), (1, 60, 1)])
def test_every_card_is_on_one_page(tmp_path, limit, per_page, pages) -> None:
    store = write(tmp_path / "store", captions(tmp_path))
    found = write_gallery(store, tmp_path / "out", limit=limit, per_page=per_page)
    expected = min(limit, 42)
    assert (found.cards, found.total, found.pages) == (expected, 42, pages)
    listed = [picture for path in card_pages(tmp_path / "out") for picture in shown(path)]
    assert len(card_pages(tmp_path / "out")) == pages
    assert listed == [card["picture"] for card in cards(tmp_path / "out")]
    assert len(set(listed)) == len(listed) == expected
    assert broken(tmp_path / "out") == []
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert ("25 of 42 maps" if limit == 25 else "1 of 42 maps" if limit == 1 else "maps") in text


def test_what_is_asked_for_is_shown_in_that_order(tmp_path) -> None:
    store = write(tmp_path / "store", captions(tmp_path))
    write_gallery(store, tmp_path / "out", where="word in ('dog', 'runs')", sort="probability desc", limit=3)
    found = cards(tmp_path / "out")
    assert [(card["label"], card["id"]) for card in found] == [("runs", "p6"), ("runs", "p5"), ("runs", "p4")]
    assert found[0]["text"] == ["a dog", "runs", "on the grass"]
    assert found[0]["percent"] == "36%" and found[0]["probability"] == pytest.approx(0.36)
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<mark>runs</mark>" in html and "3 of 14 maps" in html and "probability desc" in html


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_a_card_shows_the_map_over_the_right_pixels(tmp_path) -> None:
    source = photo(tmp_path / "wide.jpg", 600, 900)
    told = Told("wide", "dog", spot((1, 4)), geometry=SQUASHED, source=source)
    store = write(tmp_path / "store", [told])
    write_gallery(store, tmp_path / "out")
    (card,) = cards(tmp_path / "out")
    with Image.open(tmp_path / "out" / card["picture"]) as picture:
        assert picture.size == (card["width"], card["height"]) == (90, 60)  # no larger than what was explained
        pixels = np.asarray(picture).astype(int)
    plain = np.zeros_like(pixels)
    plain[:, :45, 0], plain[:, 45:, 2] = 220, 220
    difference = np.abs(pixels - plain).sum(2)
    assert abs(divmod(int(difference.argmax()), 90)[0] - 15) <= 6
    assert difference[40:, :30].mean() < 15 < difference[10:20, 62:72].mean()


def test_photos_are_reduced_to_what_is_shown(tmp_path) -> None:
    from mmexplain.geometry import Geometry

    source = photo(tmp_path / "large.jpg", 1200, 900)
    told = Told("large", "dog", spot((1, 4)), geometry=Geometry.identity(1200, 900).resize(48, 48), source=source)
    write_gallery(write(tmp_path / "store", [told]), tmp_path / "out")
    (card,) = cards(tmp_path / "out")
    assert (card["width"], card["height"]) == (216, 288)


def test_lost_and_exchanged_photos_are_said_to_be(tmp_path) -> None:
    inputs = captions(tmp_path, 3)
    store = write(tmp_path / "store", inputs)
    (tmp_path / "photos" / "0.jpg").unlink()
    photo(tmp_path / "photos" / "1.jpg", 90, 60)
    found = write_gallery(store, tmp_path / "out", where="word = 'dog'")
    assert (found.cards, found.lost) == (3, 2)
    lost = [card["lost"] for card in cards(tmp_path / "out")]
    assert "no such file" in lost[0] and "another picture now: 90 × 60" in lost[1] and lost[2] is None
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8").partition("<template")[0]
    assert html.count("cannot be read any more") == 2
    page = (tmp_path / "out" / "inputs" / "000000000.html").read_text(encoding="utf-8")
    assert "the maps stand alone" in page and "no such file" in page
    with Image.open(tmp_path / "out" / cards(tmp_path / "out")[0]["picture"]) as picture:
        assert np.asarray(picture)[-5:, :5].reshape(-1, 3).mean(0) == pytest.approx([128] * 3, abs=3)  # grey, no photo


def test_clips(tmp_path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 12)
    from mmexplain.geometry import Geometry

    geometry = Geometry.identity(64, 96).resize(48, 48).sample((1, 4, 7, 10), 12)
    maps = torch.zeros(2, 4, 6, 6)
    maps[0, 2, 1, 1] = maps[1, 0, 4, 4] = 1.0
    told = Told("c", "", maps, [0.7, 0.2], geometry, "action", ["jump", "fall"], str(clip))
    lost = Told("gone", "", maps, [0.7, 0.2], geometry, "action", ["jump", "fall"], str(tmp_path / "no.mp4"))
    found = write_gallery(write(tmp_path / "store", [told, lost], task="action"), tmp_path / "out", against=None)
    assert (found.cards, found.lost) == (4, 1)
    assert broken(tmp_path / "out") == []
    from tests.videos import read_number

    with Image.open(tmp_path / "out" / cards(tmp_path / "out")[0]["picture"]) as picture:
        assert read_number(picture) == 7  # the peak's frame
    page = read(tmp_path / "out" / "inputs" / "000000000.html")
    assert len([one for one in page.of("img") if "-0-00-" in one["src"]]) == 5  # four frames, and one in the strip


# -- what strangers wrote ---------------------------------------------------------------------------------------------


def test_nothing_that_strangers_wrote_is_a_command(tmp_path) -> None:
    method = MapKey(DANGEROUS, "gradcam")
    inputs = [
        Told("../../../etc/" + DANGEROUS, "a dog", {method: spot((1, 1), (2, 2))}, labels=["a", DANGEROUS],
             source=photo(tmp_path / "x.jpg")),
        Told("🎉/\\..\u202egpj.exe", DANGEROUS, {method: spot((0, 0), (1, 1), (2, 2))}, labels=["a", "b", "c"]),
        Told(DANGEROUS, "", spot(), error=InputError(DANGEROUS), source=DANGEROUS),
    ]  # fmt: skip
    store = write(tmp_path / "store", inputs, model=DANGEROUS)
    other = write(tmp_path / "other", [*inputs[:1], Told("</script>", "a dog", {method: spot((1, 1), (2, 2))})])
    write_gallery(store, tmp_path / "out", where=f"label <> '{DANGEROUS.replace(chr(39), chr(39) * 2)}' or true",
                  against=other)  # fmt: skip
    assert broken(tmp_path / "out") == []
    for path in (tmp_path / "out").rglob("*.html"):
        page = read(path)
        assert {script.get("src") for script in page.of("script")} <= {"cards.js", "gallery.js"}, path
        assert not any("onerror" in attributes for _, attributes in page.elements), path
        assert not any(attributes.get("src") == "x" for attributes in page.of("img"))
        assert "\u202e" not in path.read_text(encoding="utf-8")
    script = (tmp_path / "out" / "cards.js").read_text(encoding="utf-8")
    assert script.isascii() and "<" not in script
    assert cards(tmp_path / "out")[1]["label"] == DANGEROUS
    outside = [path for path in tmp_path.rglob("*.html") if not path.is_relative_to(tmp_path / "out")]
    assert outside == []
    assert all(path.name.isascii() for path in (tmp_path / "out").rglob("*"))


# -- the folder -------------------------------------------------------------------------------------------------------


def test_only_a_new_empty_or_own_folder_is_written_to(tmp_path) -> None:
    store = write(tmp_path / "store", captions(tmp_path, 2))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("dear diary")
    with pytest.raises(InputError, match="is no gallery and not empty"):
        write_gallery(store, mine)
    assert (mine / "index.html").read_text() == "dear diary" and len(list(mine.iterdir())) == 1
    with pytest.raises(InputError, match="is no gallery and not empty"):
        write_gallery(store, tmp_path / "store")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="it is a file"):
        write_gallery(store, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    write_gallery(store, tmp_path / "empty")
    assert (tmp_path / "empty" / "index.html").is_file()


def test_an_earlier_gallery_is_replaced_and_what_others_put_there_stays(tmp_path) -> None:
    store = write(tmp_path / "store", captions(tmp_path))
    out = tmp_path / "out"
    write_gallery(store, out, per_page=5, against=store)
    (out / "notes.txt").write_text("mine")
    assert (out / "page-9.html").exists() and (out / "compare.html").exists()
    write_gallery(store, out, where="word = 'dog'", limit=2)
    assert sorted(path.name for path in out.glob("*.html")) == ["index.html", "statistics.html", "where.html"]
    assert len(list((out / "cards").iterdir())) == 2 and (out / "notes.txt").read_text() == "mine"
    assert broken(out) == []


def test_a_gallery_that_was_interrupted_has_no_first_page(tmp_path, monkeypatch) -> None:
    store = write(tmp_path / "store", captions(tmp_path))
    out = tmp_path / "out"
    write_gallery(store, out, per_page=5)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gallery(store, out, progress=stop)
    assert not list(out.glob("*.html")) and (out / "cards").exists()
    write_gallery(store, out)
    assert (out / "index.html").exists() and broken(out) == []


def test_what_is_wrong_with_a_query_is_told_before_anything_is_touched(tmp_path) -> None:
    store = write(tmp_path / "store", captions(tmp_path, 2))
    write_gallery(store, tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    for options in ({"where": "x = 1"}, {"where": "1; select 1"}, {"sort": "x"}, {"where": "word = 'cow'"}):
        with pytest.raises(InputError):
            write_gallery(store, tmp_path / "out", **options)
        with pytest.raises(InputError):
            write_gallery(store, tmp_path / "new", **options)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == before
    assert not (tmp_path / "new").exists()


# -- stores -----------------------------------------------------------------------------------------------------------


def test_a_store_while_it_is_written(tmp_path) -> None:
    """Half of the files are there, and one is being written."""
    store = write(tmp_path / "store", captions(tmp_path, 8), shards=[0, 2])
    (tmp_path / "store" / "rows" / ".part-000001.parquet.abc.partial").write_bytes(b"PAR1 half")
    found = write_gallery(store, tmp_path / "out")
    assert (found.cards, found.inputs) == (24, 4)
    assert {card["id"] for card in cards(tmp_path / "out")} == {"p0", "p1", "p4", "p5"}
    nothing = write(tmp_path / "nothing", captions(tmp_path, 2), shards=[])
    with pytest.raises(InputError, match="has no maps yet"):
        write_gallery(nothing, tmp_path / "none")


def test_errors_are_grouped_and_told(tmp_path) -> None:
    bad = [Told(f"bad{n}", "", spot(), error=InputError(f"cut short {n}"), source=f"/x/{n}.jpg") for n in range(3)]
    other = Told("odd", "", spot(), error=ValueError("a map of 3"))
    store = write(tmp_path / "store", [*captions(tmp_path, 1), *bad, other])
    found = write_gallery(store, tmp_path / "out")
    assert found.errors == 4
    html = (tmp_path / "out" / "errors.html").read_text(encoding="utf-8")
    assert "4 of 5 inputs could not be explained" in html
    assert html.index("InputError") < html.index("ValueError")
    assert all(f"cut short {n}" in html and f"/x/{n}.jpg" in html for n in range(3))
    alone = write(tmp_path / "alone", [other])
    with pytest.raises(InputError, match="has no maps"):
        write_gallery(alone, tmp_path / "none")


def test_two_stores(tmp_path) -> None:
    one = write(tmp_path / "one", captions(tmp_path, 4))
    inputs = captions(tmp_path, 6)[2:]
    inputs[0].maps = spot(*[(5 - n, n) for n in range(6)])
    two = write(tmp_path / "two", inputs, model="toy-2")
    found = write_gallery(one, tmp_path / "out", against=two, per_page=4)
    assert found.pairs == 12
    out = tmp_path / "out"
    assert broken(out) == []
    first = (out / "compare.html").read_text(encoding="utf-8")
    assert "12 pairs" in first and "toy-2" in first and "comparison.csv" in first
    pairs = [path for path in out.glob("compare*.html")]
    assert len(pairs) == 18  # three orders of twelve pairs, two on each page
    listed = (out / "unpaired.html").read_text(encoding="utf-8")
    assert all(name in listed for name in ("p0", "p1", "p4", "p5")) and "p2" not in listed
    # the input whose maps were exchanged comes first
    assert 'alt="A: a in p2"' in first or " in p2" in first
    assert (out / "comparison.csv").read_text().count("\n") == 13


def test_several_maps_of_a_word(tmp_path) -> None:
    keys = [KEY, MapKey("attention", "attention")]
    told = Told("x", WORDS, {key: spot(*[(n, n) for n in range(6)]) for key in keys}, geometry=CROPPED,
                source=photo(tmp_path / "x.jpg"))  # fmt: skip
    write_gallery(write(tmp_path / "store", [told]), tmp_path / "out")
    made = [card["made"] for card in cards(tmp_path / "out")]
    assert made[:2] == ["the model's own attention", "gradcam at conv"] and len(made) == 12
    assert broken(tmp_path / "out") == []


def test_the_mark_says_whose_it_is(tmp_path) -> None:
    write_gallery(write(tmp_path / "store", captions(tmp_path, 1)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "gallery.json").read_text()) == {"format": "mmexplain.gallery/1"}
    assert Image.open(tmp_path / "photos" / "0.jpg").size[::-1] == (HEIGHT, WIDTH)
