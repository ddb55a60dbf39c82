"""The command line's ``vqa``, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmexplain.tasks.registry import load
from tests.command_line import ANSWERS, record, refusal, run, save_answerer

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")

QUESTION = "a red dog runs"


def test_the_record_says_what_the_library_says(photo: Path, answerer: str) -> None:
    options = (
        "--answer",
        "Yellow",
        "--answer",
        "ice cream",
        "--versus",
        "red",
        "yellow",
        "--weight",
        ".5",
        "--top",
        "0",
    )
    found = record("vqa", photo, QUESTION, "--model", answerer, *options)
    explanation = load(answerer, device="cpu").explain(
        str(photo), QUESTION, ["yellow", "ice cream"], versus=[("red", "yellow", 0.5)], top=0, text="all"
    )
    expected = explanation.to_json()
    for record_ in (found, expected):
        record_.pop("seconds")
    assert found == expected
    assert (found["task"], found["text"]) == ("vqa", QUESTION)
    assert [target["label"] for target in found["targets"]] == ["yellow", "ice cream", "red rather than 0.5 of yellow"]
    words = found["targets"][0]["words"]
    assert set(words) == {"gradient-x-embedding", "integrated-gradients"}
    assert all(len(added["added"]) == len(found["words"]) == 4 for added in words.values())
    assert " ".join(found["words"]) == QUESTION and "unknown_words" not in found
    assert record("vqa", photo, "a red zebra", "--model", answerer)["unknown_words"] == ["zebra"]
    assert words["integrated-gradients"]["error"] >= 0


def test_the_models_own_answer_comes_first(photo: Path, answerer: str) -> None:
    own = record("vqa", photo, QUESTION, "--model", answerer, "--text", "none")["targets"]
    assert len(own) == 1 and own[0]["label"] in ANSWERS and own[0]["kind"] == "answer"
    assert own[0]["probability"] >= 1 / len(ANSWERS)
    assert "words" not in own[0]
    every = record("vqa", photo, QUESTION, "--model", answerer, "--top", "9", "--answer", "red")["targets"]
    assert sorted(target["label"] for target in every) == sorted(ANSWERS)


def test_a_person_sees_answers_and_words(photo: Path, answerer: str, tmp_path: Path) -> None:
    result = run("vqa", photo, "a red zebra runs", "--model", answerer, "--answer", "yellow")
    assert result.exit_code == 0, result.output
    assert "yellow" in result.stdout and "integrated-gradients" in result.stdout
    assert "zebra (unknown)" in result.stdout and "off what the words changed by" in result.stdout
    assert "the model does not know: zebra" in result.stdout
    page = (tmp_path / "photo.mmexplain.html").read_text(encoding="utf-8")
    assert "zebra" in page and "ice cream" not in page


def test_scores_are_logits_or_log_probabilities(photo: Path, answerer: str) -> None:
    found = record("vqa", photo, QUESTION, "--model", answerer, "--top", "3", "--score", "log-probability")["targets"]
    assert all(target["score"] <= 0 for target in found)
    with_attention = record("vqa", photo, QUESTION, "--model", answerer, "--method", "attention")["targets"]
    assert [target["method"] for target in with_attention] == ["attention"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((QUESTION, "--answer", "yellow and red"), "is not among the model's 3 answers; closest: 'yellow', 'red'"),
        ((QUESTION, "--answer", "ice"), "'ice' is not among the model's 3 answers; closest: 'ice cream'"),
        ((QUESTION, "--versus", "red", "RED"), "cannot be held against itself"),
        ((QUESTION, "--top", "0"), "no answer to explain"),
        ((" ",), "the question ' ' is empty"),
        (("quo vadis",), "the model knows no word of the question 'quo vadis'"),
        ((QUESTION, "--text", "magic"), "'magic'"),
        ((QUESTION, "--answer", "2"), "'2' is not among the model's 3 answers"),
        ((QUESTION, "--answer", "yes"), "it was not taught to say yes or no"),
        (
            (QUESTION, "--model", "efficientnet-lite0"),
            "is a model for classification; for question answering there are",
        ),
    ],
)
def test_refusals(photo: Path, answerer: str, arguments: tuple[str, ...], line: str) -> None:
    model = () if "--model" in arguments else ("--model", answerer)
    assert line in refusal("vqa", photo, *arguments, *model)


def test_a_model_that_overflows_is_told(photo: Path, tmp_path: Path) -> None:
    save_answerer(tmp_path / "bad.safetensors", poison=True)
    line = refusal("vqa", photo, QUESTION, "--model", tmp_path / "bad.safetensors")
    assert "not finite" in line and "output" in line


def test_what_a_model_can_say_is_listed(answerer: str, captioner: str) -> None:
    assert run("models", "labels", answerer).stdout.split("\n")[:-1] == ANSWERS
    assert "a captioner says words" in refusal("models", "labels", captioner)
