"""Pages in a sandboxed frame of another page: they tell their height and what was chosen, and listen to nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import pytest

from tests.accessibility import violations
from tests.chromium import quiet_page
from tests.render.sorts import SORTS

AROUND = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>around</title>
<style>body {{ margin: 0 }} iframe {{ display: block; width: 100%; border: 0 }}</style>
<main><h1>Around</h1><iframe title="report" sandbox="allow-scripts" srcdoc="{}"></iframe></main>
<script>
window.got = [];
addEventListener("message", (event) => {{
  got.push(event.data);
  if (event.data.mmexplain === "height") document.querySelector("iframe").style.height = `${{event.data.height}}px`;
}});
</script>"""


@pytest.fixture(params=["caption", "clip", "layers"])
def sort(request) -> str:
    return str(request.param)


@pytest.fixture
def page(browser, tmp_path, sort) -> Iterator[Any]:
    inner = SORTS[sort](tmp_path / "inner.html").read_text(encoding="utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(AROUND.format(html.escape(inner, quote=True)), encoding="utf-8")
    with quiet_page(browser, outer, 900, 1000, reduced_motion="reduce") as opened:
        settled(opened)
        yield opened


def settled(page) -> list[dict[str, Any]]:
    """All messages, once no more have come for a while."""
    count = -1
    while count != (count := page.evaluate("got.length")):
        page.wait_for_timeout(200)
    return page.evaluate("got")


def chosen(page) -> list[dict[str, Any]]:
    return [message for message in settled(page) if message["mmexplain"] == "chosen"]


def test_the_frame_is_as_high_as_the_page(page) -> None:
    assert chosen(page) == [], "nobody has chosen yet"
    inside = page.frames[1]
    for width in (1000, 390):
        page.set_viewport_size({"width": width, "height": 900})
        last = settled(page)[-1]
        assert last["mmexplain"] == "height" and set(last) == {"mmexplain", "height"}
        sizes = "[document.documentElement.scrollHeight, innerHeight, document.documentElement.scrollWidth, innerWidth]"
        assert inside.evaluate(sizes) == [last["height"]] * 2 + [width] * 2, "no scroll bars"
    if inside.locator("summary").count():
        inside.locator("summary").last.click()
        assert settled(page)[-1]["height"] > last["height"] + 50
        inside.locator("summary").last.click()
        assert settled(page)[-1]["height"] == last["height"]


def test_it_has_no_edges_of_its_own(page, sort) -> None:
    inside = page.frames[1]
    assert not any(one.is_visible() for one in inside.locator("footer.page").all())
    ground = "e => getComputedStyle(e).backgroundColor"
    assert inside.locator("html").evaluate(ground) in ("rgb(255, 255, 255)", "rgb(27, 30, 34)"), "whatever is around it"
    if sort != "layers":
        assert inside.locator(".explanation").first.evaluate(ground) == "rgba(0, 0, 0, 0)"
    box = inside.locator("h2, .made").first.evaluate("e => e.getBoundingClientRect().x")
    assert box <= 8
    assert violations(inside) == []


def test_what_is_chosen_is_told_once(page, sort) -> None:
    inside = page.frames[1]
    if sort == "layers":
        assert {message["mmexplain"] for message in settled(page)} == {"height"}
        return
    choices = inside.locator("[role=radio]")
    choices.nth(0).hover()
    assert chosen(page) == [], "a preview is no choice"
    first = int(inside.locator("[role=radio][aria-checked=true]").get_attribute("data-target"))
    wanted = []

    def told(target: int, key: int) -> None:
        wanted.append({"mmexplain": "chosen", "explanation": "e0", "target": target, "key": key})
        assert chosen(page) == wanted

    other = 1 - first
    choices.nth(other).click()
    told(other, 0)
    choices.nth(other).click()
    assert chosen(page) == wanted, "the same again is no change"
    page.keyboard.press("ArrowLeft" if other else "ArrowRight")
    told(first, 0)
    inside.locator("[data-pick=method] label").nth(1).click()
    told(first, 1)
    inside.locator(".compare button").first.click()
    told(first, 0)
    inside.locator(".strip button").nth(other).click()
    told(other, 0)
    inside.locator(".opacity").press("ArrowRight")
    assert chosen(page) == wanted


def test_nothing_is_taken_from_around(page) -> None:
    inside = page.frames[1]
    state = "document.body.innerHTML"
    before = inside.evaluate(state)
    for message in ("{mmexplain: 'chosen', explanation: 'e0', target: 3, key: 1}", "{mmexplain: 'height', height: 9}"):
        page.evaluate(f"document.querySelector('iframe').contentWindow.postMessage({message}, '*')")
    count = len(settled(page))
    assert inside.evaluate(state) == before
    assert len(settled(page)) == count


def test_a_page_of_its_own_is_not_changed(browser, tmp_path) -> None:
    with quiet_page(browser, SORTS["caption"](tmp_path / "page.html"), 900) as opened:
        assert opened.locator("footer.page").is_visible()
        assert opened.evaluate("document.documentElement.className") == ""
