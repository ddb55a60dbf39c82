"""Reports on paper: all maps and tables, nothing cut off, no controls, black on white in either scheme."""

from __future__ import annotations

import re

import pytest

from tests.chromium import quiet_page
from tests.render.sorts import SORTS

PAPER = 696  # CSS pixels between the margins of an A4 page
CUT = """() => [...document.querySelectorAll('h1, h2, h3, p, button, td, th, dd, dt, img, .frame')]
    .filter((e) => e.checkVisibility()).map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
    .filter(([, box]) => box.left < -1 || box.right > innerWidth + 1).map(([html]) => html)"""


@pytest.mark.parametrize("sort", ["several", "classes", "layers"])
def test_it_prints_whole(browser, tmp_path, sort) -> None:
    with quiet_page(browser, SORTS[sort](tmp_path / "page.html"), 1000, PAPER, color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate(CUT) == []
        assert page.evaluate("document.documentElement.scrollWidth") == PAPER
        ink, ground = page.evaluate(
            "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        )
        assert (ink, ground) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
        tables = page.locator("table").all()
        assert tables and all(table.is_visible() and table.bounding_box()["height"] > 30 for table in tables)
        assert all(frame.is_visible() for frame in page.locator(".strip .frame").all())
        for hidden in (".opacity", ".palette", ".pick", ".play", "nav"):
            assert not any(one.is_visible() for one in page.locator(hidden).all())
        if sort != "layers":
            assert page.locator(".legend").first.is_visible()
        pdf = page.pdf(format="A4")
        sections = max(1, page.locator("article").count())
        assert sections <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 3 * sections
