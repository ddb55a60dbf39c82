"""The report in a real browser, where one is at hand: clicking, keys, opacity, no errors, no overflow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmexplain.render import save_report
from mmexplain.targets import Target
from tests.chromium import quiet_page


@pytest.fixture
def page(browser, make, tmp_path) -> Iterator[object]:
    first = make(pixels=True, extra=(Target("the grass", "span", (4, 5), 4),))
    path = save_report([first, make("x" * 300 + " cats", geometry="padded")], tmp_path / "report.html")
    with quiet_page(browser, path, 900) as opened:
        yield opened


def shown(page) -> tuple[str, str]:
    article = page.locator("article").first
    return article.locator(".stage .heat").get_attribute("href"), article.locator(".chosen").inner_text()


def test_choosing_words(page) -> None:
    article = page.locator("article").first
    assert shown(page) == ("#e0-0-1", "dog")
    article.locator(".word", has_text="grass").click()
    assert shown(page) == ("#e0-0-5", "grass")
    article.locator(".word", has_text="runs").hover()
    assert shown(page) == ("#e0-0-2", "runs")
    page.mouse.move(2, 2)
    assert shown(page) == ("#e0-0-5", "grass"), "leaving ends the preview"
    article.locator(".word", has_text="grass").focus()
    for key, place in [("ArrowLeft", 4), ("Home", 0), ("ArrowLeft", 6), ("ArrowRight", 0), ("End", 6)]:
        page.keyboard.press(key)
        assert shown(page)[0] == f"#e0-0-{place}"
    assert article.locator(".within").count() == 2, "the words of the phrase are marked"
    article.locator(".strip button").nth(2).click()
    assert shown(page) == ("#e0-0-2", "runs")


def test_choosing_methods(page) -> None:
    article = page.locator("article").first
    article.locator("[data-pick=method] label", has_text="attention").click()
    assert shown(page)[0] == "#e0-1-1"
    assert article.locator(".strip .heat").first.get_attribute("href") == "#e0-1-0"
    article.locator(".compare button").nth(2).click()
    assert shown(page)[0] == "#e0-2-1"
    assert article.locator("[data-pick=layer] input:checked").get_attribute("value") == "1"
    assert article.locator("output").inner_text() == "100%", "pixel maps start opaque"


def test_opacity_and_peaks(page) -> None:
    article = page.locator("article").first
    heat, slider = article.locator(".stage .heat"), article.locator(".opacity")
    assert heat.evaluate("e => getComputedStyle(e).opacity") == "0.65"
    with_map = article.locator(".stage .frame").screenshot()
    slider.fill("0")
    assert heat.evaluate("e => getComputedStyle(e).opacity") == "0"
    assert article.locator(".stage .frame").screenshot() != with_map
    peak = article.locator(".stage .peak")
    box, frame = peak.bounding_box(), article.locator(".stage .frame").bounding_box()
    x = (box["x"] + box["width"] / 2 - frame["x"]) / frame["width"] * 90
    assert x == pytest.approx(15 + 1.5 / 6 * 60, abs=1.5), "the marker stands on the cell's centre"
    article.locator(".peaks").uncheck()
    assert not peak.is_visible()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_runs_off_the_page(page, width) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == width
