"""Reports on a phone, by touch: taps, targets that fingers hit, clips that are played and scrubbed, no overflow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.chromium import quiet_page
from tests.render.heated import pixels
from tests.render.sorts import SORTS

PHONE = {"width": 390, "has_touch": True, "is_mobile": True, "device_scale_factor": 2, "reduced_motion": "reduce"}
LEAST = 24  # CSS pixels, WCAG 2.2, 2.5.8
# What a finger can hit of a control: its label's room counts too.
SIZES = """() => [...document.querySelectorAll('a, button, input, select, summary, .track')]
    .filter((e) => e.checkVisibility()).map((e) => [e, (e.closest('label') ?? e).getBoundingClientRect()])
    .map(([e, {width, height}]) => [e.outerHTML.slice(0, 80), width, height])"""


@pytest.fixture
def page(browser, tmp_path) -> Iterator[object]:
    with quiet_page(browser, SORTS["several"](tmp_path / "page.html"), 844, **PHONE) as opened:
        yield opened


@pytest.mark.parametrize("sort", ["several", "classes", "layers"])
def test_all_fits_and_can_be_hit(browser, tmp_path, sort) -> None:
    with quiet_page(browser, SORTS[sort](tmp_path / "page.html"), 844, **PHONE) as page:
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        found = page.evaluate(SIZES)
        assert sort == "layers" or len(found) > 20
        assert [one for one in found if min(one[1:]) < LEAST] == []


def test_a_tap_on_a_word_changes_the_map(page) -> None:
    article = page.locator("article").first
    frame = article.locator(".stage .frame")
    before = pixels(frame)
    article.locator(".word", has_text="grass").tap()
    assert article.locator(".stage .heat").get_attribute("href") == "#e0-0-5"
    assert article.locator(".chosen").inner_text() == "grass"
    assert (np.abs(pixels(frame) - before).sum(axis=2) > 100).mean() > 0.01
    article.locator(".strip button").nth(2).tap()
    assert article.locator(".chosen").inner_text() == "runs"
    assert 0 <= frame.bounding_box()["y"] < 844, "the map that was asked for is brought into view"
    article.locator("[data-pick=method] label").nth(1).tap()
    assert article.locator(".stage .heat").get_attribute("href") == "#e0-1-2"
    article.locator("summary").first.tap()
    assert article.locator("table").first.is_visible()


def test_a_tap_on_a_question_shows_all_numbers(page) -> None:
    article = page.locator("article").nth(1)
    weak = article.locator(".added").nth(2)
    assert weak.evaluate("e => getComputedStyle(e).opacity") == "0"
    article.locator(".numbered .read").first.tap()
    page.wait_for_timeout(250)
    assert weak.evaluate("e => getComputedStyle(e).opacity") == "1"


def test_a_clip_is_played_and_scrubbed(page) -> None:
    article = page.locator("article").nth(2)
    photo = article.locator(".stage .photo")
    article.locator(".play").tap()
    page.wait_for_timeout(900)
    assert photo.get_attribute("href") != "#e2-f2", "it plays"
    article.locator(".play").tap()
    track = article.locator(".track")
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *numbers: int) -> None:
        points = [{"x": box["x"] + (n + 0.5) / 20 * box["width"], "y": box["y"] + 25} for n in numbers]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", 8)
    assert photo.get_attribute("href") == "#e2-f8"
    for number in (10, 12, 14):
        send("touchMove", number)
    page.wait_for_timeout(400)  # lifted in full motion a finger throws, and the next tap would only stop that
    send("touchEnd")
    assert photo.get_attribute("href") == "#e2-f14"
    assert article.locator(".now").inner_text().startswith("frame 14")
    article.locator(".to-peak").tap()
    assert photo.get_attribute("href") == "#e2-f2"
