"""The page in a real browser: with the keyboard, through a reload, to a file that the analysis reads; and axe-core."""

from __future__ import annotations

import csv
import json
import re

import pytest

from mmexplain.studies.people.answer_files import read_answers, read_key
from mmexplain.studies.people.answers import analyse
from mmexplain.studies.people.cases import from_stores
from mmexplain.studies.people.plan import COLUMNS, plan, seed_of
from mmexplain.studies.people.questionnaire import questionnaire
from mmexplain.studies.people.simulated_participants import right_option
from tests.accessibility import violations
from tests.chromium import quiet_page
from tests.studies.people import store


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    stores = [store(folder, 6), store(folder, 6, model="bad")]
    made = {
        "discrimination": questionnaire(from_stores(stores[:1]), checks=2, title="Which “one” <is> it?"),
        "trust": questionnaire(from_stores(stores), checks=2, models=["good", "bad"]),
    }
    for kind, one in made.items():
        one.save(folder / kind)
    return {kind: folder / kind for kind in made}


def begin(page, name=""):
    page.get_by_label("Your participant code").fill(name)
    page.get_by_label("I have read this").check()
    page.keyboard.press("Enter")
    page.locator("#task").wait_for()


def asked(page):
    """The number of the question, once its pictures are there."""
    page.locator("#task .go:enabled").wait_for()
    return int(re.match(r"Question (\d+) of", page.locator("#number").text_content())[1])


def answer(page, number):
    before = page.locator("#number").text_content()
    page.locator("#task .go:enabled").wait_for()
    page.keyboard.press(str(number))
    page.wait_for_timeout(15)
    page.keyboard.press("Enter")
    gone = (
        "before => document.querySelector('#task').hidden || document.querySelector('#number').textContent !== before"
    )
    page.wait_for_function(gone, arg=before)


def save(page, folder):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save my answers").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@pytest.mark.parametrize("kind", ["discrimination", "trust"])
def test_a_keyboard_goes_through_and_the_analysis_reads_the_file(browser, folders, tmp_path, kind):
    """Every answer is right by the key, over a reload in between, by somebody whose name is a formula."""
    key = read_key(folders[kind] / "key.json")
    name = "=HYPERLINK(\"x\"),  'ü'"
    told = "=HYPERLINK(\"x\"), 'ü'"
    questions = plan(key["design"], seed_of(key["study"], told))
    with quiet_page(browser, folders[kind] / "index.html", 900, accept_downloads=True) as page:
        begin(page, name)
        for question in questions:
            if question.order == 4:
                page.reload()
                page.locator("#task").wait_for()
            assert asked(page) == question.order
            options = page.locator("#options label bdi").all_text_contents()
            assert tuple(options) == question.options
            assert page.locator("#pictures img").count() >= len(question.shown)
            answer(page, right_option(key, question))
        assert page.locator("#end").is_visible()
        page.reload()
        assert page.locator("#end h1").text_content() == "Thank you"
        path = save(page, tmp_path)
    assert path.name == f"answers-{key['study']}-_HYPERLINK_x_ü_.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert list(rows[0]) == list(COLUMNS) and {row["participant"] for row in rows} == {f"'{told}"}
    assert [row["reloaded"] for row in rows] == ["1" if row["order"] == "4" else "0" for row in rows]
    assert all(10 <= int(row["reaction_ms"]) < 20_000 and row["started"] < row["ended"] for row in rows)
    answers = read_answers([path], key)
    assert not answers.participants[0].left_out
    given = answers.participants[0].answers
    if kind == "trust":
        assert {one.preference for one in given if one.question.kind == "trust"} == {2}
    assert {one.correct for one in given} <= {True, None}
    assert analyse(answers).tables[0].rows


def test_nothing_goes_on_without_an_answer_nor_back(browser, folders):
    with quiet_page(browser, folders["discrimination"] / "index.html", 900) as page:
        page.get_by_role("button", name="Begin").click()
        assert page.locator("#start").is_visible(), "who did not agree does not take part"
        begin(page)
        page.keyboard.press("Enter")
        assert asked(page) == 1 and "choose one of the options" in page.locator("#told").text_content()
        page.keyboard.press("7")
        assert page.locator("#options input:checked").count() == 0
        page.keyboard.press("2")
        assert page.locator("#options input").nth(1).is_checked() and page.locator("#told").text_content() == ""
        page.keyboard.press("1")
        page.get_by_role("button", name="Next").click()
        assert asked(page) == 2 and page.locator("#options input:checked").count() == 0
        kept = json.loads(page.evaluate("localStorage.getItem(Object.keys(localStorage)[0])"))
        assert re.fullmatch("[a-z]{8}", kept["participant"]) and len(kept["answers"]) == 1
        page.reload()
        assert asked(page) == 2


def test_the_next_participant_begins_anew(browser, folders, tmp_path):
    with quiet_page(browser, folders["trust"] / "index.html", 900, accept_downloads=True) as page:
        begin(page, "one")
        while page.locator("#task").is_visible():
            answer(page, 3)
        assert page.locator("#again").is_hidden(), "nothing is taken away before it was saved"
        save(page, tmp_path)
        page.locator("#again").click()
        page.locator("#start").wait_for()
        assert page.evaluate("localStorage.length") == 0 and page.locator("#participant").input_value() == ""


def test_without_a_place_to_keep_answers(browser, folders, tmp_path):
    with quiet_page(browser, folders["discrimination"] / "index.html", 900, accept_downloads=True) as page:
        page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
        begin(page)
        assert page.locator("#unkept").is_visible()
        while page.locator("#task").is_visible():
            answer(page, 1)
        assert len(save(page, tmp_path).read_text().splitlines()) == 9


@pytest.mark.parametrize("colours", ["light", "dark", "forced"])
@pytest.mark.parametrize("kind", ["discrimination", "trust"])
def test_axe_finds_nothing_and_nothing_sticks_out(browser, folders, tmp_path, kind, colours):
    scheme = {"forced_colors": "active"} if colours == "forced" else {"color_scheme": colours}

    def look(page):
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") == width

    with quiet_page(browser, folders[kind] / "index.html", 900, accept_downloads=True, **scheme) as page:
        look(page)
        begin(page, "somebody")
        looked = set()
        while page.locator("#task").is_visible():
            pictures = page.locator("#pictures img").count()
            if pictures not in looked:
                looked.add(pictures)
                page.keyboard.press("1")
                look(page)
            answer(page, 1)
        assert looked == ({0, 1} if kind == "discrimination" else {0, 2})
        save(page, tmp_path)
        look(page)


def test_without_javascript_it_says_so(browser, folders):
    with quiet_page(browser, folders["trust"] / "index.html", 900, java_script_enabled=False) as page:
        assert "needs JavaScript" in page.locator("main").inner_text()
