"""What the browser draws: heat on the right pixels for each word, in the colours chosen; also without JavaScript."""

from __future__ import annotations

import numpy as np
import pytest

from mmexplain.render import save_report
from mmexplain.render.colors import rgba_table
from mmexplain.render.encode import TABLES
from tests.chromium import quiet_page
from tests.render.conftest import GRID, HEIGHT, WIDTH, build
from tests.render.heated import hottest, pixels
from tests.render.samples import clip

SPOTS = {0: (4, 1), 1: (1, 4), 2: (2, 2), 3: (3, 4), 4: (4, 4), 5: (1, 1)}
GREY, MAP = 128, 0.65


def place(explanation, number: int) -> tuple[float, float]:
    """The middle of the cell that is hot, as shares of the photo."""
    left, top, right, bottom = explanation.geometry.box
    row, column = SPOTS[number]
    x, y = left + (column + 0.5) / GRID * (right - left), top + (row + 0.5) / GRID * (bottom - top)
    return x / WIDTH, y / HEIGHT


def test_a_click_on_a_word_moves_the_heat(browser, tmp_path, geometry_name) -> None:
    explanation = build(geometry=geometry_name, spots=SPOTS)
    with quiet_page(browser, save_report([explanation], tmp_path / "page.html"), 900) as page:
        page.locator(".peaks").uncheck()
        frame = page.locator(".stage .frame")
        page.locator(".opacity").fill("0")
        bare = pixels(frame)
        page.locator(".opacity").fill("65")
        for number, word in enumerate(page.locator(".word").all()):
            word.click()
            page.mouse.move(2, 2)
            change = pixels(frame) - bare
            assert hottest(change) == pytest.approx(place(explanation, number), abs=0.012)
            left, _, right, _ = np.array(explanation.geometry.visible) / WIDTH * change.shape[1]
            outside = np.concatenate([change[:, : max(0, int(left) - 2)], change[:, int(right) + 2 :]], axis=1)
            assert not outside.size or np.abs(outside).max() <= 3, "no heat where the model saw nothing"


@pytest.mark.parametrize("name", TABLES)
def test_the_heat_has_the_colours_chosen(browser, tmp_path, name) -> None:
    """On all pages' pictures at once; the hottest place is the table's last colour over the grey photo."""
    first, second = build(geometry="squashed", keys=(("conv", "gradcam"), ("conv", "cam"))), build(geometry="padded")
    with quiet_page(browser, save_report([first, second], tmp_path / "page.html"), 900) as page:
        article = page.locator("article").first
        article.locator(".palette select").select_option(name)
        article.locator(".peaks").uncheck()
        shown = pixels(article.locator(".stage .frame"))
        x, y = hottest(shown - GREY, 6)
        wanted = MAP * rgba_table(name, False)[-1, :3] + (1 - MAP) * GREY
        assert shown[int(y * shown.shape[0]), int(x * shown.shape[1])] == pytest.approx(wanted, abs=4)
        ramp = pixels(article.locator(".ramp"))[4]
        assert ramp[-2] == pytest.approx(rgba_table(name, False)[-1, :3], abs=25)
        other = page.locator("article").nth(1)
        assert other.locator(".palette select").input_value() == name
        other.locator(".strip").scroll_into_view_if_needed()
        small = pixels(other.locator(".strip .frame").nth(2))
        assert np.abs(small - wanted).sum(axis=2).min() < 60
        article.locator("[data-pick=method] label", has_text="cam").last.click()
        assert not article.locator(".palette").is_visible(), "a signed map has colours of its own"


@pytest.mark.parametrize("task", ["caption", "clip"])
def test_without_javascript_the_maps_are_there(browser, tmp_path, task) -> None:
    explanation = build(geometry="squashed", spots=SPOTS) if task == "caption" else clip()
    path = save_report([explanation], tmp_path / "page.html")
    with quiet_page(browser, path, 900, java_script_enabled=False) as page:
        assert page.locator("noscript p").is_visible()
        assert not page.locator(".opacity").is_visible() and not page.locator(".palette").is_visible()
        assert not page.locator(".play").is_visible()
        strip = page.locator(".strip .frame")
        assert strip.count() == len(explanation)
        if task == "caption":
            large = pixels(page.locator(".stage .frame"))
            assert hottest(large - GREY, 6) == pytest.approx(place(explanation, 1), abs=0.02)
            for number, frame in enumerate(strip.all()):
                assert hottest(pixels(frame) - GREY, 6) == pytest.approx(place(explanation, number), abs=0.05)
        else:
            shown = pixels(page.locator(".stage .frame"))
            assert np.ptp(shown, axis=2).max() > 60, "colour over grey frames"
