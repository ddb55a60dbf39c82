"""Reports by keys alone: every control is reached in order, can be seen to be, does its work and lets go."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.chromium import quiet_page
from tests.render.sorts import SORTS

# All that a key should reach: of a group of radio buttons the one that is chosen.
REACHED = """() => [...document.querySelectorAll('a, button, input, select, summary, [tabindex="0"]')].filter((e) =>
    e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && (e.type !== 'radio' || e.checked))
    .map((e, place) => { e.dataset.place = place; return place; })"""
PLACE = "() => document.activeElement?.dataset?.place ?? null"
RING = 8  # pixels around a control


@pytest.fixture
def page(browser, tmp_path) -> Iterator[object]:
    with quiet_page(browser, SORTS["several"](tmp_path / "page.html"), 1000, reduced_motion="reduce") as opened:
        yield opened


def tab_to(page, selector: str, most: int = 60) -> None:
    """Press Tab until the focus is on the element."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} was not reached")


def ring_seen(page) -> bool:
    """Whether pixels change on every side of the control when it has its mark of focus."""
    box = page.evaluate("() => document.activeElement.getBoundingClientRect().toJSON()")
    shape = {side: box[side] - RING for side in "xy"} | {side: box[side] + 2 * RING for side in ("width", "height")}
    shots = []
    for without in (True, False):
        page.evaluate("(without) => document.documentElement.classList.toggle('no-ring', without)", without)
        shots.append(Image.open(io.BytesIO(page.screenshot(clip=shape))).convert("RGB"))
    differ = np.abs(np.asarray(shots[0], dtype=int) - np.asarray(shots[1], dtype=int)).sum(axis=2) > 60
    across, down = differ[:, RING:-RING], differ[RING:-RING]
    return all(side.any() for side in (across[:RING], across[-RING:], down[:, :RING], down[:, -RING:]))


@pytest.mark.parametrize("sort", ["several", "layers"])
def test_tab_reaches_everything_in_order_and_leaves(browser, tmp_path, sort) -> None:
    with quiet_page(browser, SORTS[sort](tmp_path / "page.html"), 1600, reduced_motion="reduce") as page:
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        page.add_style_tag(content=".no-ring *, .no-ring * + span { outline: none !important; }")
        wanted = page.evaluate(REACHED)
        assert len(wanted) >= (40 if sort == "several" else 2)
        for place in wanted:
            page.keyboard.press("Tab")
            assert page.evaluate(PLACE) == str(place)
            assert ring_seen(page), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        page.keyboard.press("Tab")
        assert page.evaluate(PLACE) is None, "the focus leaves the page"
        page.keyboard.press("Shift+Tab")
        assert page.evaluate(PLACE) == str(wanted[-1])


def test_words_and_methods(page) -> None:
    article = page.locator("article").first
    heat = article.locator(".stage .heat")
    tab_to(page, ".word[role=radio]")
    for key, target in [("ArrowRight", 2), ("ArrowDown", 3), ("ArrowLeft", 2), ("End", 6), ("Home", 0)]:
        page.keyboard.press(key)
        assert heat.get_attribute("href") == f"#e0-0-{target}"
        chosen = article.locator("[role=radio][aria-checked=true]")
        assert chosen.get_attribute("data-target") == str(target)
        assert chosen.evaluate("e => e === document.activeElement")
    tab_to(page, "#e0 [data-pick=method] input")
    page.keyboard.press("ArrowRight")
    assert heat.get_attribute("href") == "#e0-1-0"
    tab_to(page, "#e0 [data-pick=layer] input")
    page.keyboard.press("ArrowRight")
    assert heat.get_attribute("href").startswith("#e0-") and heat.get_attribute("href").endswith("-0")
    tab_to(page, "#e0 .compare button:nth-child(4)")
    page.keyboard.press("Enter")
    assert heat.get_attribute("href") == "#e0-3-0"
    tab_to(page, "#e0 .strip button:nth-child(5)")
    page.keyboard.press("Space")
    assert heat.get_attribute("href") == "#e0-3-4"


def test_opacity_peaks_and_colours(page) -> None:
    article = page.locator("article").first
    heat = article.locator(".stage .heat")
    tab_to(page, "#e0 .opacity")
    for key, share in [("ArrowRight", "0.66"), ("ArrowLeft", "0.65"), ("Home", "0"), ("End", "1")]:
        page.keyboard.press(key)
        assert heat.evaluate("e => getComputedStyle(e).opacity") == share
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert not article.locator(".stage .peak").is_visible()
    page.keyboard.press("Tab")
    before = page.locator("#e0-0-1").get_attribute("href")
    page.keyboard.press("ArrowDown")
    assert article.locator(".palette select").input_value() == "magma"
    assert page.locator("#e0-0-1").get_attribute("href") != before
    page.keyboard.press("Home")
    assert page.locator("#e0-0-1").get_attribute("href") == before


def test_details_open_and_their_tables_scroll(page) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    tab_to(page, "#e0 summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    table = page.locator("#e0 .scroll").first
    assert table.evaluate("e => e === document.activeElement && e.scrollWidth > e.clientWidth")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert table.evaluate("e => e.scrollLeft") > 0
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert not table.is_visible()


def test_a_clip_is_played(page) -> None:
    article = page.locator("#e2")
    label = "e => e.getAttribute('aria-label')"
    tab_to(page, "#e2 .play", 120)
    page.keyboard.press("Enter")
    assert article.locator(".play").evaluate(label) == "Pause"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert article.locator(".play").evaluate(label) == "Play", "who steps has stopped it"
    page.keyboard.press("End")
    assert article.locator(".stage .photo").get_attribute("href") == "#e2-f17"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert article.locator(".stage .photo").get_attribute("href") == "#e2-f2", "to the peak"


def test_a_link_goes_to_its_section(page) -> None:
    tab_to(page, "nav a:nth-child(3)")
    page.keyboard.press("Enter")
    assert page.url.endswith("#e2")
    assert abs(page.locator("#e2").bounding_box()["y"]) < 40
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('article').id") == "e2"
