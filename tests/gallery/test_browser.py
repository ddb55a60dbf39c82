"""A gallery in a real browser: filters, pages, sorting, one input large; without JavaScript; and against axe-core."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from mmexplain.errors import InputError
from mmexplain.explanation import MapKey
from mmexplain.gallery import write_gallery
from tests.accessibility import violations
from tests.chromium import quiet_page
from tests.gallery.reading import DANGEROUS
from tests.gallery.stores import CROPPED, KEY, SQUASHED, Told, photo, spot, write

WORDS = "a dog runs on the grass"
KEYS = (KEY, MapKey("attention", "attention"))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Ten captions by two methods: 120 cards on six pages; a photo is lost, an input failed, an id is a trap."""
    folder = tmp_path_factory.mktemp("gallery")
    inputs = []
    for n in range(10):
        maps = {
            key: torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(10 * n + k)) for k, key in enumerate(KEYS)
        }
        shares = [0.1 * k + 0.01 * n for k in range(1, 7)]
        geometry = CROPPED if n % 2 else SQUASHED
        source = photo(folder / f"{n}.jpg") if n != 3 else "/nowhere/3.jpg"
        words = WORDS if n != 5 else WORDS.replace("dog", "cat")
        inputs.append(Told(DANGEROUS if n == 0 else f"p{n}", words, maps, shares, geometry, source=source))
    inputs.append(Told("bad", "", spot(), error=InputError("the file is empty")))
    store = write(folder / "store", inputs)
    other = [Told("only here", WORDS, inputs[1].maps, [0.5] * 6), *inputs[2:]]
    write_gallery(store, folder / "out", per_page=20, against=write(folder / "other", other, model="toy-2"))
    return folder / "out"


PAGES = (
    "index.html", "page-3.html", "where.html", "statistics.html", "errors.html", "compare.html",
    "compare-probability-2.html", "unpaired.html", "inputs/000000000.html", "inputs/000000003.html#m-1-2",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_nothing_sticks_out(browser, root, name, scheme) -> None:
    file, _, fragment = name.partition("#")
    with quiet_page(browser, root / file, 900, color_scheme=scheme) as page:
        if fragment:
            page.evaluate(f"location.hash = '{fragment}'")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") == width
        loaded = "[...document.images].every((image) => image.loading === 'lazy' || image.naturalWidth)"
        assert page.evaluate(loaded)


def names(page) -> list[str]:
    return page.locator(".cards .card .name").all_text_contents()


def test_filters_are_over_all_pages(browser, root) -> None:
    with quiet_page(browser, root / "index.html", 900) as page:
        before = names(page)
        assert len(before) == 20
        found = page.locator(".found")
        page.get_by_label("Label").select_option("cat")
        assert found.text_content() == "2 of 120 cards" and names(page) == ["cat", "cat"]
        assert page.locator(".cards .sentence mark").all_text_contents() == ["cat", "cat"]
        assert page.locator(".cards .sentence").first.text_content() == "a cat runs on the grass"
        assert page.locator(".static-pager").is_hidden() and page.locator(".filtered").is_hidden()
        page.get_by_label("Map").select_option("gradcam at conv")
        assert found.text_content() == "1 of 120 cards"
        page.get_by_role("button", name="Clear").click()
        assert names(page) == before and found.text_content() == ""
        assert page.locator(".static-pager").is_visible()
        page.get_by_label("Text").fill("P7")
        assert found.text_content() == "12 of 120 cards"
        page.get_by_label("Probability from, per cent").fill("30")
        page.get_by_label("Probability to, per cent").fill("50")
        assert found.text_content() == "4 of 120 cards" and names(page) == ["runs", "runs", "on", "on"]
        page.get_by_label("Text").fill("no such thing")
        assert found.text_content() == "0 of 120 cards" and names(page) == []


def test_what_was_found_has_pages_of_its_own(browser, root) -> None:
    with quiet_page(browser, root / "page-3.html", 900) as page:
        page.get_by_label("Map").select_option("gradcam at conv")
        pager = page.locator(".filtered")
        assert pager.locator(".at").text_content() == "1 of 3" and pager.locator(".back").is_disabled()
        seen = []
        while True:
            seen += page.locator(".cards .card > a").evaluate_all("links => links.map((a) => a.getAttribute('href'))")
            if pager.locator(".on").is_disabled():
                break
            pager.locator(".on").click()
        assert len(seen) == len(set(seen)) == 60
        assert violations(page) == []
        pager.locator(".back").click()
        assert pager.locator(".at").text_content() == "2 of 3"


def test_cards_of_a_filter_are_those_of_the_page(browser, root) -> None:
    """What the script makes is what the file holds, mark by mark, but for the space between tags."""
    read = "cards => cards.map((card) => card.outerHTML.replace(/\\s+/g, ' ').replace(/> </g, '><'))"
    with quiet_page(browser, root / "index.html", 900) as page:
        written = page.locator(".cards .card").evaluate_all(read)
        page.get_by_label("Probability from, per cent").fill("0")
        made = page.locator(".cards .card").evaluate_all(read)
        strip = re.compile(
            r" (hidden|title|width|height|loading|alt|src)=\"[^\"]*\"|<span class=\"plate\".*?</span>|\s"
        )
        assert [strip.sub("", one) for one in made] == [strip.sub("", one) for one in written]


@pytest.mark.parametrize("javascript", [True, False])
def test_pages_by_links(browser, root, javascript) -> None:
    with quiet_page(browser, root / "index.html", 900, java_script_enabled=javascript) as page:
        assert page.locator(".filters").is_visible() == javascript
        count = len(page.locator(".cards > .card").all())
        for number in range(2, 7):
            page.get_by_role("link", name="Next →").click()
            page.wait_for_url(f"**/page-{number}.html")
            count += len(page.locator(".cards > .card").all())
        assert count == 120 and not page.get_by_role("link", name="Next →").count()
        page.get_by_role("link", name="← Previous").click()
        page.wait_for_url("**/page-5.html")
        page.get_by_role("link", name="Page 1", exact=True).click()
        page.wait_for_url("**/index.html")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_card_opens_large_with_all_words(browser, root, javascript) -> None:
    with quiet_page(browser, root / "index.html", 900, java_script_enabled=javascript) as page:
        page.locator(".cards .card > a").nth(2).click()  # of "dog", the first of two maps
        page.wait_for_url("**/inputs/000000000.html#m-1-1")
        shown = page.locator(".one:visible")
        assert shown.count() == 1 and shown.locator("mark").text_content() == "dog"
        assert page.locator("h1").text_content() == DANGEROUS
        page.locator(".pick-map").nth(5).click()
        assert page.locator(".one:visible mark").text_content() == "grass"
        assert page.locator(".strip").count() == 2 and page.locator("tbody tr").count() == 12
        page.locator("tbody a").nth(2).click()
        assert page.locator(".one:visible mark").text_content() == "runs"
        frame = page.locator(".one:visible .frame").bounding_box()
        assert frame["width"] / frame["height"] == pytest.approx(1.5, rel=0.02)
        page.get_by_role("link", name="Gallery").click()
        page.wait_for_url("**/index.html")


def test_without_a_fragment_the_first_map_is_shown(browser, root) -> None:
    with quiet_page(browser, root / "inputs" / "000000001.html", 900) as page:
        assert page.locator(".one:visible").count() == 1
        assert page.locator(".one:visible .unseen").count() == 2  # cropped on its left and its right


def test_the_table_is_sorted_by_a_click(browser, root) -> None:
    with quiet_page(browser, root / "statistics.html", 900) as page:

        def column(number: int) -> list[str]:
            return page.locator("tbody tr").evaluate_all(f"rows => rows.map((row) => row.cells[{number}].textContent)")

        page.get_by_role("button", name="label").click()
        assert column(0) == sorted(column(0))
        assert page.locator("th[aria-sort=ascending]").text_content() == "label"
        page.get_by_role("button", name="label").click()
        assert column(0) == sorted(column(0), reverse=True)
        page.get_by_role("button", name="area").click()
        values = [float(value) for value in column(5)]
        assert values == sorted(values, reverse=True)
        assert violations(page) == []


def test_orders_of_the_comparison(browser, root) -> None:
    with quiet_page(browser, root / "compare.html", 900) as page:
        first = [
            float(text.replace("−", "-")) for text in page.locator(".pair dd:nth-child(2)").all_text_contents()[::3]
        ]
        assert first == sorted(first)
        page.get_by_role("link", name="Peaks lie furthest apart").click()
        page.wait_for_url("**/compare-peaks.html")
        apart = [int(text.rstrip("%")) for text in page.locator(".pair dd").all_text_contents()[2::3]]
        assert apart == sorted(apart, reverse=True)
        page.locator(".pair a.side").first.click()
        page.wait_for_url("**/inputs/*.html#m-*")
        assert page.locator(".one:visible").count() == 1


def test_a_keyboard_is_enough(browser, root) -> None:
    with quiet_page(browser, root / "index.html", 900) as page:
        page.get_by_label("Text").focus()
        page.keyboard.type("p7")
        assert page.locator(".found").text_content() == "12 of 120 cards"
        page.keyboard.press("Enter")  # sends nothing anywhere
        assert page.url.endswith("/index.html")
        page.locator(".cards .card > a").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/inputs/000000007.html#*")
