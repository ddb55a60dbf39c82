"""Every sort of page against axe-core: both schemes, screen and phone, forced colours, all details open."""

from __future__ import annotations

import pytest

from tests.accessibility import violations
from tests.chromium import quiet_page
from tests.render.sorts import SORTS

OPEN = "document.querySelectorAll('details').forEach((details) => { details.open = true; })"


@pytest.mark.parametrize("colours", ["light", "dark", "forced"])
@pytest.mark.parametrize("sort", ["several", "classes", "layers"])
def test_axe_finds_nothing(browser, tmp_path, sort, colours) -> None:
    scheme = {"forced_colors": "active"} if colours == "forced" else {"color_scheme": colours}
    with quiet_page(browser, SORTS[sort](tmp_path / "page.html"), 900, **scheme) as page:
        page.evaluate(OPEN)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_choice_is_legible(browser, tmp_path, scheme) -> None:
    """Marks and fills change with the choice."""
    with quiet_page(
        browser, SORTS["several"](tmp_path / "page.html"), 900, color_scheme=scheme, reduced_motion="reduce"
    ) as page:
        for choice in page.locator("[role=radio]").all():
            choice.click()
            assert violations(page, only=["color-contrast"]) == []


def test_axe_finds_what_is_wrong(browser, tmp_path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><title>x</title><p style='color: #ccc'>pale</p><img src='data:,'>")
    with quiet_page(browser, page, 900) as opened:
        found = violations(opened)
    assert [line.split()[1] for line in found if line.startswith(("serious", "critical"))] == [
        "color-contrast", "html-has-lang", "image-alt",
    ]  # fmt: skip


def test_what_is_chosen_shows_in_forced_colours(browser, tmp_path) -> None:
    """The system's colours take the fill away that tells what is chosen."""
    with quiet_page(browser, SORTS["caption"](tmp_path / "page.html"), 900, forced_colors="active") as page:
        outline = "e => getComputedStyle(e).outlineStyle"
        assert page.locator(".word[aria-checked=true]").evaluate(outline) == "solid"
        assert page.locator(".word[aria-checked=false]").first.evaluate(outline) == "none"
        ground, letters = page.locator(".word[aria-checked=true]").evaluate(
            "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e.querySelector('.mark')).color]"
        )
        assert ground != letters


@pytest.mark.parametrize("motion, behaviour", [("reduce", "auto"), ("no-preference", "smooth")])
def test_who_wants_no_motion_gets_none(browser, tmp_path, motion, behaviour) -> None:
    with quiet_page(browser, SORTS["several"](tmp_path / "page.html"), 900, reduced_motion=motion) as page:
        assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
        moving = "[...document.querySelectorAll('*')].some(e => parseFloat(getComputedStyle(e).transitionDuration))"
        assert page.evaluate(moving) == (motion == "no-preference")
