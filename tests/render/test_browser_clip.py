"""Clips and questions in a real browser, where one is at hand: dragging, keys, playing, marks that change."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from mmexplain.render import save_report
from tests.chromium import quiet_page
from tests.render.samples import GRID, HEIGHT, WIDTH, clip, question


@pytest.fixture
def page(browser, tmp_path) -> Iterator[object]:
    path = save_report([clip(), question()], tmp_path / "report.html")
    with quiet_page(browser, path, 1000) as opened:
        yield opened


def frame_shown(page) -> int:
    article = page.locator("article").first
    places = {use.get_attribute("href") for use in article.locator(".frame .photo").all()}
    assert len(places) == 1, "all pictures show one frame"
    number = int(places.pop().removeprefix("#e0-f"))
    assert article.locator(".track").get_attribute("aria-valuenow") == str(number)
    assert article.locator(".now").inner_text() == f"frame {number} · {number / 10:.2f} s"
    return number


def pixels(page) -> np.ndarray:
    shot = page.locator("article").first.locator(".stage .frame").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=float)


def test_the_scrubber_is_dragged(page) -> None:
    track = page.locator(".track")
    assert frame_shown(page) == 2, "it starts at the most important frame"
    box = track.bounding_box()

    def x(number: int) -> float:
        return box["x"] + (number + 0.5) / 20 * box["width"]

    page.mouse.click(x(11), box["y"] + 20)
    assert frame_shown(page) == 11
    page.mouse.move(x(11), box["y"] + 20)
    page.mouse.down()
    page.mouse.move(x(14), box["y"] + 200)
    assert frame_shown(page) == 14
    page.mouse.move(box["x"] + box["width"] + 50, box["y"])
    assert frame_shown(page) == 19
    page.mouse.up()
    page.mouse.move(x(5), box["y"])
    assert frame_shown(page) == 19, "the drag has ended"
    head = page.locator(".head").bounding_box()
    assert head["x"] + head["width"] / 2 == pytest.approx(x(19), abs=1)


def test_keys_step_through_what_the_model_saw(page) -> None:
    page.locator(".track").focus()
    steps = [
        ("ArrowRight", 5), ("ArrowUp", 8), ("ArrowLeft", 5), ("End", 17), ("ArrowRight", 17), ("PageDown", 2),
        ("Home", 2), ("ArrowLeft", 2), ("Shift+ArrowRight", 3), ("ArrowRight", 5), ("Shift+Home", 0), ("PageUp", 17),
    ]  # fmt: skip
    for key, number in steps:
        page.keyboard.press(key)
        assert frame_shown(page) == number, key


def test_playing_goes_through_what_the_model_saw(page) -> None:
    page.evaluate(
        """() => { window.shown = [];
        new MutationObserver(() => shown.push(document.querySelector('.stage .photo').getAttribute('href')))
          .observe(document.querySelector('.stage .photo'), {attributes: true}); }"""
    )
    page.locator(".track").focus()
    page.keyboard.press("Space")
    assert page.locator(".play").get_attribute("aria-label") == "Pause"
    for _ in range(50):  # the page's policy forbids evaluating strings, so no wait_for_function
        page.wait_for_timeout(200)
        if page.evaluate("new Set(shown).size") == 6:
            break
    page.locator(".play").click()
    assert page.locator(".play").get_attribute("aria-label") == "Play"
    shown = page.evaluate("[...new Set(shown)]")
    assert shown[:6] == ["#e0-f5", "#e0-f8", "#e0-f11", "#e0-f14", "#e0-f17", "#e0-f2"]
    resting = frame_shown(page)
    page.wait_for_timeout(600)
    assert frame_shown(page) == resting


def test_another_target_changes_curve_and_heat_at_the_same_frame(page) -> None:
    article = page.locator("article").first
    curve, crest = article.locator(".curve"), article.locator(".crest")
    before, at = curve.get_attribute("d"), crest.bounding_box()["x"]
    article.locator(".chip", has_text="fall").click()
    assert frame_shown(page) == 2
    assert curve.get_attribute("d") != before and crest.bounding_box()["x"] > at
    assert article.locator(".stage .heat use").get_attribute("href") == "#e0-0-1"
    assert not article.locator(".stage .peak").is_visible()
    article.locator(".to-peak").click()
    assert frame_shown(page) == 17
    assert article.locator(".stage .peak").is_visible()
    assert article.locator(".at").inner_text().endswith("frame 17")
    article.locator("[data-pick=method] label", has_text="gradcam++").click()
    assert curve.get_attribute("d") == before, "this method has the two the other way round"


def test_a_skipped_frame_is_veiled(page) -> None:
    article = page.locator("article").first
    page.locator(".track").focus()
    page.keyboard.press("Shift+ArrowRight")
    assert article.locator(".stage .plate").inner_text() == "the model skipped this frame"
    assert article.locator(".stage .veil").is_visible() and not article.locator(".stage .heat").is_visible()
    assert "skipped by the model" in page.locator(".track").get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    assert not article.locator(".stage .plate").is_visible()
    assert "importance 75%" in page.locator(".track").get_attribute("aria-valuetext")


def test_heat_lies_on_the_right_pixels(page) -> None:
    page.locator(".peaks").first.uncheck()
    with_heat = pixels(page)
    page.locator(".opacity").first.fill("0")
    change = np.abs(with_heat - pixels(page)).sum(axis=2)
    left, top, right, bottom = clip().geometry.box
    rows, columns = np.nonzero(change > 0.9 * change.max())
    found = (columns.mean() / change.shape[1] * WIDTH, rows.mean() / change.shape[0] * HEIGHT)
    wanted = (left + 4.5 / GRID * (right - left), top + 1.5 / GRID * (bottom - top))
    assert found == pytest.approx(wanted, abs=1.0)
    outside = change[:, : int(change.shape[1] * left / WIDTH) - 2]
    assert outside.max() <= 3, "no heat where the model saw nothing"


def test_another_answer_changes_the_map_and_the_words(page) -> None:
    article = page.locator("article").nth(1)
    marks = article.locator(".mark")

    def classes() -> list[str]:
        return [" ".join(mark.get_attribute("class").split()[1:]) for mark in marks.all()]

    assert classes() == ["for", "", "against", "against", "for"]
    article.locator(".chip", has_text="red cup").first.click()
    page.mouse.move(2, 2)
    assert classes() == ["", "", "", "", "against"]
    assert article.locator(".stage .heat").get_attribute("href") == "#e1-0-1"
    assert article.locator(".added").last.inner_text() == "−1.0"
    assert article.locator(".added-says").inner_text() == "Against it: table −1.0."
    assert article.locator(".added-error").inner_text().endswith("within 2.0%.")
    article.locator("[data-pick=reading] label").nth(1).click()
    assert classes() == ["", "", "", "", "for"]
    assert not article.locator(".added-error").is_visible()
    page.keyboard.press("Tab")
    article.locator(".chip", has_text="red cup").first.focus()
    page.keyboard.press("ArrowRight")
    assert article.locator(".chosen").inner_text() == "nothing" and classes() == [""] * 5


def test_all_numbers_show_on_focus(page) -> None:
    article = page.locator("article").nth(1)
    weak = article.locator(".added").nth(2)

    def opacity() -> str:
        page.wait_for_timeout(250)
        return weak.evaluate("e => getComputedStyle(e).opacity")

    assert opacity() == "0"
    article.locator(".numbered").focus()
    assert opacity() == "1"


@pytest.mark.parametrize("width", [390, 768])
def test_nothing_runs_off_the_page(page, width) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == width
