"""The app in a real browser, as people use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mmexplain
from mmexplain.app.samples import CLIPS, PHOTOS, installed
from tests.accessibility import violations
from tests.app.conftest import App

WAIT = 25_000
"""Milliseconds: other tests may hold the machine."""

TABS = ("Captions", "Questions", "Classes", "Actions", "Layers")
PHOTO = str(installed(PHOTOS)[1])
CLIP = str(installed(CLIPS)[0])


class Visitor:
    """Somebody at the app, and what they can do there."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.get_by_role("heading", name="Where did the model look?").wait_for()

    def tab(self, name: str) -> Visitor:
        self.page.get_by_role("tab", name=name).click()
        return self

    @property
    def here(self) -> Any:
        """The tab that is open."""
        return self.page.locator("[role=tabpanel]:visible")

    def upload(self, path: str | Path) -> None:
        self.here.locator("input[type=file]").first.set_input_files(str(path))

    def box(self, label: str) -> Any:
        return self.here.get_by_label(re.compile(rf"^\s*{re.escape(label)}(\s|$)")).first

    def add_method(self, name: str) -> Any:
        """Open the settings and choose one more method; its box."""
        self.here.get_by_text("Model, method, layer").click()
        methods = self.box("Methods")
        methods.fill(name)
        methods.press("Enter")
        return methods

    def press(self, name: str) -> None:
        self.click(self.here.get_by_role("button", name=name, exact=True))

    def click(self, wanted: Any) -> None:
        """Click after a pause: a sandboxed frame is a process of its own, and takes clicks for where it was."""
        wanted.scroll_into_view_if_needed()
        self.page.wait_for_timeout(400)
        wanted.click()

    def look(self) -> None:
        """Scroll to the answer: a frame that is out of sight is not drawn."""
        self.here.locator("iframe.mm-view").first.evaluate("frame => frame.scrollIntoView({behavior: 'instant'})")
        self.page.wait_for_timeout(400)

    @property
    def report(self) -> Any:
        """The framed answer."""
        return self.here.frame_locator("iframe.mm-view")

    def answered(self, text: str) -> None:
        """Wait until a word, an answer or a class can be chosen in the answer."""
        self.report.get_by_role("radio", name=re.compile(rf"^{re.escape(text)}(,|$)")).first.wait_for()
        self.settled()

    def settled(self) -> None:
        """Wait until the frame is as tall as what it shows."""
        frame = self.here.locator("iframe.mm-view").first
        heights = [0.0, -1.0]
        while heights[-1] != heights[-2]:
            self.page.wait_for_timeout(400)
            heights.append(frame.bounding_box()["height"])

    def status(self, text: str) -> Any:
        found = self.here.locator(".mm-note, .mm-problem").filter(has_text=text)
        found.first.wait_for()
        return found.first


@pytest.fixture
def visit(browser: Any, app: App) -> Iterator[Any]:
    """A function that opens the app; at the end nothing may have gone wrong on the page, nor been asked of others."""
    opened: list[Any] = []
    problems: list[str] = []

    def note(request: Any) -> None:
        if not request.url.startswith((app.address, "data:", "blob:", "about:")):
            problems.append(request.url)

    def come(width: int = 1280, height: int = 900, **context: Any) -> Visitor:
        around = browser.new_context(viewport={"width": width, "height": height}, **context)
        opened.append(around)
        page = around.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", note)
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        return Visitor(page, app.address)

    yield come
    for around in opened:
        around.close()
    assert problems == []


def stage(visitor: Visitor) -> bytes:
    visitor.look()
    picture: bytes = visitor.report.locator(".stage .frame").first.screenshot()
    return picture


def test_a_photo_is_captioned_and_its_words_are_chosen(visit: Any, tmp_path: Path) -> None:
    someone = visit()
    someone.upload(PHOTO)
    someone.answered("dog")
    said = someone.box("Caption").input_value()
    captioner: Any = mmexplain.load("show-attend-tell", device="cpu")
    assert said == captioner.explain(PHOTO).text
    first = stage(someone)
    someone.report.locator(".word", has_text="dog").click()
    assert someone.report.locator(".chosen").inner_text() == "dog"
    someone.page.wait_for_timeout(300)
    clicked = stage(someone)
    assert clicked != first
    someone.report.locator(".word", has_text="playing").hover()
    assert someone.report.locator(".chosen").inner_text() == "playing", "hovering previews"
    someone.report.locator(".stage .says").hover()
    assert someone.report.locator(".chosen").inner_text() == "dog"
    someone.report.locator("input.opacity").fill("0")
    assert stage(someone) != clicked
    for name, suffix in (("Save HTML", ".html"), ("Save maps (safetensors)", ".safetensors"), ("Save PNG", ".png")):
        button = someone.here.get_by_role("button", name=name).or_(someone.here.get_by_role("link", name=name)).first
        with someone.page.expect_download() as waiting:
            someone.click(button)
        file = tmp_path / f"download{suffix}"
        waiting.value.save_as(file)
        assert waiting.value.suggested_filename == f"imagenet_00_243.mmexplain{suffix}"
    assert mmexplain.Explanation.load(tmp_path / "download.safetensors").text == said
    assert Image.open(tmp_path / "download.png").width > 500
    assert "<article" in (tmp_path / "download.html").read_text(encoding="utf-8")


def test_a_caption_is_edited(visit: Any) -> None:
    someone = visit()
    someone.upload(PHOTO)
    someone.answered("dog")
    box = someone.box("Caption")
    box.fill("a little girl is playing with a brown cat")
    box.press("Enter")
    someone.answered("cat")
    table = someone.here.locator(".mm-table")
    new = table.locator("tr.new")
    assert new.count() == 1 and [cell for cell in new.locator("td bdi").all_inner_texts()] == ["dog", "cat"]
    assert table.locator("tbody tr").count() == 9 and "times less likely than before" in table.inner_text()
    someone.click(someone.here.get_by_text("The same in Python, or on the command line"))
    python, command = someone.here.locator(".mm-code pre").all_inner_texts()
    assert "'a little girl is playing with a brown cat'" in python
    assert command.startswith("mmexplain caption --caption 'a little") and command.endswith("imagenet_00_243.jpg")
    someone.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    someone.press("Copy as command line")
    someone.here.get_by_role("button", name="copied").wait_for()
    assert someone.page.evaluate("navigator.clipboard.readText()") == command
    box.fill("a <img src=x onerror=alert(1)> zebra")
    box.press("Enter")
    problem = someone.status("is not among the model's")
    assert problem.get_attribute("role") == "alert"
    assert someone.report.locator(".word", has_text="cat").count() == 1, "what was there stays"


def test_other_captions_side_by_side(visit: Any) -> None:
    someone = visit()
    someone.upload(PHOTO)
    someone.answered("dog")
    someone.press("Show them side by side")
    captioner: Any = mmexplain.load("show-attend-tell", device="cpu")
    beams = someone.here.locator(".mm-beam")
    beams.first.wait_for()
    expected = [text for text, _ in captioner.alternatives(PHOTO, beam=3)[:3]]
    assert beams.locator("h3").all_inner_texts() == expected
    boxes = [beams.nth(number).bounding_box() for number in range(3)]
    assert len({round(box["y"]) for box in boxes}) == 1, "beside each other"


def test_answers_are_forced(visit: Any) -> None:
    someone = visit().tab("Questions")
    someone.upload(PHOTO)
    someone.box("Question").fill("what is on the grass")
    someone.box("Question").press("Enter")
    someone.answered("dog")
    answers = someone.box("Answers to consider")
    answers.fill("frisbee")
    answers.press("Enter")
    someone.answered("frisbee")
    assert someone.report.locator(".chosen").inner_text() == "frisbee", "what is new is shown first"
    first = stage(someone)
    someone.report.get_by_role("radio", name=re.compile("^dog")).click()
    assert stage(someone) != first
    someone.here.get_by_text("One answer rather than another").click()
    someone.box("Answer").fill("dog")
    someone.box("rather than").fill("man")
    someone.box("rather than").press("Enter")
    someone.answered("dog rather than man")
    slider = someone.here.get_by_role("slider")
    slider.focus()
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    someone.answered("dog rather than 0.8 of man")
    assert someone.report.locator(".chosen").inner_text() == "dog rather than 0.8 of man"
    answers.fill("zzzz")
    answers.press("Enter")
    someone.status("'zzzz' is not among the model's 437 answers")


def test_a_clip_is_played(visit: Any) -> None:
    someone = visit().tab("Actions")
    someone.upload(CLIP)
    someone.report.locator(".player").wait_for()
    now = someone.report.locator(".clock .now")
    before = now.inner_text()
    someone.report.get_by_role("button", name="Play").click()
    someone.page.wait_for_timeout(1500)
    assert now.inner_text() != before
    someone.report.get_by_role("button", name="Pause").click()
    head = someone.report.get_by_role("slider").first
    head.focus()
    head.press("Home")
    assert now.inner_text().startswith("frame 0")


def test_classes_with_several_methods_and_a_check(visit: Any) -> None:
    someone = visit().tab("Classes")
    someone.add_method("layercam")
    layers = someone.box("Layers")
    layers.fill("blocks.4")
    someone.here.get_by_role("option", name="blocks.4.2").click()
    someone.box("Compare with random weights").check()
    someone.upload(PHOTO)
    someone.answered("bull mastiff")
    assert someone.report.locator(".compare button").count() == 2
    assert "blocks.4.2" in someone.report.locator(".says").first.inner_text()
    assert someone.report.locator(".sanity p[data-verdict]").count() == 2
    someone.report.get_by_label("Colours").select_option("viridis")


def test_layers_are_compared(visit: Any) -> None:
    someone = visit().tab("Layers")
    someone.upload(PHOTO)
    someone.box("Classes, words or answers").fill("boxer, bull mastiff")
    someone.press("Compare")
    someone.report.get_by_role("table").wait_for()
    assert someone.report.locator("img").first.evaluate("image => image.naturalWidth") > 500
    assert "gradcam at 5 layers" in someone.status("efficientnet-lite0").inner_text()


def test_long_work_is_stopped(visit: Any) -> None:
    someone = visit().tab("Classes")
    methods = someone.add_method("rise(masks=8000)")
    someone.upload(PHOTO)
    someone.here.get_by_text(re.compile(r"explaining")).first.wait_for()
    someone.page.wait_for_timeout(2000)
    someone.press("Stop")
    someone.status("stopped")
    methods.press("Backspace")
    someone.press("Explain")
    someone.answered("bull mastiff")


@pytest.mark.parametrize("name", ["text.jpg", "<img src=x onerror=alert(1)>.png"])
def test_bad_files_are_told_in_place(name: str, visit: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text("<script>alert(1)</script>", encoding="utf-8")
    someone = visit().tab("Classes")
    someone.upload(tmp_path / name)
    someone.status("is not an image that can be read")
    someone.upload(PHOTO)
    someone.answered("bull mastiff")


def test_on_a_phone(visit: Any) -> None:
    someone = visit(390, 844, has_touch=True, is_mobile=True)
    someone.here.get_by_role("button", name=re.compile("^Sample")).nth(1).tap()
    someone.answered("dog")
    first = stage(someone)
    someone.report.locator(".word", has_text="dog").tap()
    assert stage(someone) != first
    assert someone.page.evaluate("document.documentElement.scrollWidth") == 390
    frame = someone.here.locator("iframe.mm-view")
    someone.page.wait_for_function(
        "() => document.querySelector('iframe.mm-view').getBoundingClientRect().height > 700"
    )
    assert frame.bounding_box()["width"] <= 390
    inner = frame.element_handle().content_frame()
    assert inner.evaluate("document.documentElement.scrollHeight <= innerHeight + 1"), "one scroll bar, the page's own"


def test_with_the_keyboard_alone(visit: Any) -> None:
    someone = visit()
    keyboard = someone.page.keyboard

    def reach(wanted: str) -> None:
        told = (
            "e => `${e.getAttribute('aria-label') || ''} ${e.innerText || ''} ${e.closest('label')?.innerText || ''}`"
        )
        for _ in range(60):
            keyboard.press("Tab")
            focused = someone.page.evaluate_handle("document.activeElement")
            if wanted in focused.evaluate(told):
                return
        raise AssertionError(f"{wanted!r} cannot be reached with Tab")

    reach("Sample")
    keyboard.press("Tab")
    keyboard.press("Enter")
    someone.answered("dog")
    reach("Caption")
    keyboard.press("End")
    keyboard.type(" runs")
    keyboard.press("Enter")
    someone.answered("runs")
    for _ in range(40):
        keyboard.press("Tab")
        if someone.page.evaluate("document.activeElement.tagName") == "IFRAME":
            break
    keyboard.press("End")
    assert someone.report.locator(".chosen").inner_text() == "runs"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_bars_anybody(scheme: str, width: int, visit: Any) -> None:
    someone = visit(width, color_scheme=scheme)
    someone.upload(PHOTO)
    someone.answered("dog")
    for name in ("One word rather than another", "Model, method, layer", "The same in Python"):
        someone.click(someone.here.get_by_text(name))
    someone.box("Caption").fill("a zebra")
    someone.box("Caption").press("Enter")
    someone.status("is not among")
    inner = someone.here.locator("iframe.mm-view").element_handle().content_frame()
    assert violations(inner, ("serious", "critical")) == []
    for tab in TABS if width > 500 else TABS[:2]:
        someone.tab(tab)
        assert violations(someone.page, ("serious", "critical")) == [], tab
