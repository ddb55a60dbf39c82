"""The report of what words added: marks on a question's words and on the words before each word of a caption."""

from __future__ import annotations

import re

import pytest
import torch

from mmexplain.render import notebook_html, report_html
from mmexplain.render.text import signed
from mmexplain.render.view_text import text_view
from mmexplain.targets import Target
from tests.render.page import Page
from tests.render.samples import QUESTION, question

HOSTILE = "<script>alert('x')</script>\"'>"


@pytest.mark.parametrize(
    "value,largest,shown",
    [
        (1.24, 2.0, "+1.2"), (-0.04, 2.0, "0"), (-0.06, 2.0, "−0.1"), (-0.0, 0.0, "0"), (250.4, 250.4, "+250"),
        (0.4, 250.4, "0"), (0.0344, 0.0344, "+0.034"), (0.001, 0.0344, "+0.001"), (-1e-7, 1e-7, "−1e−07"),
    ],
)  # fmt: skip
def test_signed_numbers(value, largest, shown) -> None:
    assert signed(value, largest) == shown


def test_what_each_word_added_is_scaled_to_the_strongest_word() -> None:
    integrated, plain = text_view(question())
    names = (integrated["name"], plain["name"])
    assert names == ("integrated-gradients", "gradient-x-embedding"), "first the one whose parts are to add up"
    assert integrated["parts"][0]["shares"] == [0.25, 0.0, -0.005, -0.1, 1.0]
    assert integrated["parts"][0]["numbers"] == ["+0.5", "0", "0", "−0.2", "+2.0"]
    assert integrated["parts"][0]["strong"] == [0, 3, 4]
    assert integrated["parts"][0]["says"] == "For it: table +2.0, what +0.5. Against it: the −0.2."
    assert integrated["parts"][1]["says"] == "Against it: table −1.0."
    assert integrated["parts"][2] == {
        "shares": [0.0] * 5,
        "numbers": ["0"] * 5,
        "strong": [],
        "says": "The words added nothing to the score.",
        "error": integrated["parts"][2]["error"],
    }
    assert integrated["parts"][3]["shares"][1] is None and integrated["parts"][3]["numbers"][1] == ""
    assert plain["parts"][0]["shares"] == [-share for share in integrated["parts"][0]["shares"]]


def test_the_completeness_error_in_plain_words() -> None:
    integrated, plain = text_view(question())
    totals = question().text_maps["integrated-gradients"].nansum(1).tolist()
    assert len({round(total, 2) for total in totals[:3]}) == 3
    assert {part["error"] for part in plain["parts"]} == {""}
    assert [part["error"] for part in integrated["parts"]] == [
        f"Together {totals[0]:+.2f}: what the words changed in the score, within 0.4%.",
        f"Together {totals[1]:+.2f}: what the words changed in the score, within 2.0%.",
        f"Together {totals[2]:+.2f}, which misses what the words changed in the score by 50%: mind the order of the "
        "parts, not their sizes.",
        "",
    ]


def test_words_said_twice_are_told_apart() -> None:
    explanation = question()
    explanation.words = ["the", "cup", "on", "the", "table"]
    assert text_view(explanation)[0]["parts"][0]["says"] == (
        "For it: table +2.0, the (word 1) +0.5. Against it: the (word 4) −0.2."
    )


def test_a_question_stands_as_marked_words_above_its_answers() -> None:
    html = report_html([question()])
    page = Page(html)
    assert "<title>Where the model looked for each answer</title>" in html
    marks = page.with_class("mark")
    assert [mark["class"].split()[1:] for mark in marks] == [["for"], [], ["against"], ["against"], ["for"]]
    assert [mark.get("style") for mark in marks] == [
        "--share: 0.25",
        None,
        "--share: 0.005",
        "--share: 0.1",
        "--share: 1.0",
    ]
    assert re.findall(r'<small class="added( strong)?">([^<]*)<', html) == [
        (" strong", "+0.5"), ("", "0"), ("", "0"), (" strong", "−0.2"), (" strong", "+2.0"),
    ]  # fmt: skip
    assert [chip["aria-label"] for chip in page.with_class("chip")] == [
        "cup, probability 60%",
        "red cup, probability 30%",
        "nothing, probability 10%",
        "cup rather than red cup, probability –",
    ]
    assert page.with_class("numbered")[0]["aria-label"] == f"Question: {QUESTION}?"
    radios = [radio for radio in page.of("input") if radio.get("name") == "e0-reading"]
    assert len(radios) == 2 and "checked" in radios[0] and "checked" not in radios[1]
    assert "For it: table +2.0, what +0.5. Against it: the −0.2." in html
    assert '<span class="end" aria-hidden="true">?</span>' in html, "the models read no question mark, people do"
    assert "Every answer" in html and not page.with_class("plain")


def test_the_numbers_are_there_for_every_answer_and_method() -> None:
    html = report_html([question()])
    tables = html.split("What each word added: ")[1:]
    assert len(tables) == 2
    cells = re.findall(r'<td class="n">([^<]*)</td>', tables[1].split("</table>")[0])
    assert cells[:5] == ["−0.5", "0", "0", "+0.2", "−2.0"] and cells[15:17] == ["−0.5", "·"]


def test_a_caption_marks_the_words_before(make) -> None:
    explanation = make(extra=(Target("the grass", "span", (4, 5), 4),))
    added = torch.full((7, 6), torch.nan)
    for number in range(1, 7):
        added[number, : min(number, 4)] = torch.tensor([1.0, -2.0, 0.5, 4.0])[: min(number, 4)]
    explanation.text_maps = {"gradient-x-embedding": added}
    html = report_html([explanation])
    page = Page(html)
    part = page.data()[0]["reading"][0]["parts"]
    assert part[0]["says"] == "No word was read before it." and part[0]["shares"] == [None] * 6
    assert part[3]["shares"] == [0.5, -1.0, 0.25, None, None, None]
    assert page.data()[0]["first"] == 1
    assert [mark["class"] for mark in page.with_class("mark")] == ["mark for"] + ["mark"] * 5
    assert len(page.with_class("marks")) == 1 and not page.with_class("added")
    assert [word["aria-label"].split(",")[0] for word in page.with_class("word")] == explanation.words
    assert "--tone" in html, "the line under a word still tells its probability"


def test_without_text_maps_a_caption_looks_as_it_did(make) -> None:
    page = Page(report_html([make()]))
    assert {mark["class"] for mark in page.with_class("mark")} == {"mark"}
    assert not page.with_class("marks") and not page.with_class("read") and page.data()[0]["reading"] == []
    assert not [radio for radio in page.of("input") if radio.get("name", "").endswith("reading")]


def test_no_word_can_break_out() -> None:
    explanation = question()
    explanation.words[0] = explanation.text = HOSTILE
    explanation.targets[0] = Target(HOSTILE, "answer", (1,))
    explanation.text_maps = {HOSTILE: explanation.text_maps["gradient-x-embedding"]}
    for html, scripts in [(report_html([explanation]), 2), (notebook_html(explanation), 0)]:
        assert len(Page(html).scripts) == scripts and "<script>alert" not in html


def test_the_notebook_marks_the_question_under_each_answer() -> None:
    html = notebook_html(question())
    assert [image["alt"] for image in Page(html).of("img")] == [
        "photo", "cup", "red cup", "nothing", "cup rather than red cup",
    ]  # fmt: skip
    assert html.count(">table</span>") == 4
    assert "rgba(240,135,20,0.62)" in html and "rgba(92,92,235,0.62)" in html
    strongest = re.search(r"rgba\(([\d,]+),0\.62\)\">table<", html)
    assert strongest and strongest[1] == "240,135,20", "by the method whose parts add up, as words_read tells it"


def test_words_that_the_model_does_not_know_are_struck_through() -> None:
    known, strange = question(), question()
    strange.provenance["unknown_words"] = [strange.words[-1]]
    assert "does not know this word" not in report_html([known])
    page = report_html([strange])
    marked = re.findall(r'class="word read unknown"[^>]*>.*?</bdi>', page, re.DOTALL)
    assert len(marked) == 1
    assert strange.words[-1] in marked[0]
