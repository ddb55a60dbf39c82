"""Answer grounding: a model of which the map of every answer is known, and the questions that are measured."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.errors import InputError
from mmexplain.evaluate import Row, run
from mmexplain.evaluate.answer_grounding import AnswerGrounding
from mmexplain.evaluate.data import made_questions
from mmexplain.evaluate.encoded import EncodedPhotos
from mmexplain.preprocess import Preprocess
from mmexplain.problem import Choice
from mmexplain.tasks.registry import load
from mmexplain.tasks.vqa import VQA, VQAAdapter
from mmexplain.tasks.vqa.answering import VQAOutput
from mmexplain.tasks.vqa.questions import Question, read_questions, write_questions
from tests.command_line import record, refusal

pytest_plugins = ["tests.command_line_fixtures"]

ANSWERS = ("a", "b", "c", "d")
LIGHT = (0.2, 1.0, 0.6, 0.8)
"""Of the photo's quarters, in reading order: the model says "b" to everything, and "d" is the next likely."""
QUARTERS = ((0, 0, 64, 64), (64, 0, 128, 64), (0, 64, 64, 128), (64, 64, 128, 128))


class Quarters(VQAAdapter):
    """A channel of the grid for each quarter of the photo, and an answer for each channel."""

    answers = ANSWERS
    words: ClassVar[dict[str, int]] = {"what": 1, "where": 2}

    def __init__(self, attends: bool) -> None:
        super().__init__()
        self.grid = nn.Identity()
        self.attends, self.seen = attends, 0
        masks = torch.zeros(4, 8, 8)
        for number in range(4):
            y, x = 4 * (number // 2), 4 * (number % 2)
            masks[number, y : y + 4, x : x + 4] = 1
        self.masks = nn.Buffer(masks)

    def encode(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        light = nn.functional.avg_pool2d(images[:, :1], 8)
        grid: Tensor = self.grid(light * self.masks)
        return grid

    def decode(self, features: Tensor, question: Tensor) -> VQAOutput:
        looks = self.masks[0].expand(len(features), -1, -1) if self.attends else None
        return VQAOutput(features.mean((2, 3)), looks)


def task(attends: bool = True) -> VQA:
    plain = Preprocess(resize=(64, 64), mean=(0.0,) * 3, std=(1.0,) * 3)
    return VQA(Quarters(attends), plain, layer="grid", model_id="quarters")


def asked(photo: str, split: str, answer: str, kind: str = "object", phrase: int = 0, text: str = "what") -> Question:
    return Question(photo, split, text, answer, kind, 0, (phrase, phrase))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos to measure on, whose originals were twice as large on each side, and one that questions were taught
    on. Words 0 to 3 of the caption have the box of a quarter each, word 4 those of the second and the third; the last
    word has none."""
    (tmp_path / "images").mkdir()
    pixels = np.zeros((64, 64, 3), np.uint8)
    for number, light in enumerate(LIGHT):
        y, x = 32 * (number // 2), 32 * (number % 2)
        pixels[y : y + 32, x : x + 32] = round(255 * light)
    records = []
    for file, split in (("0.png", "test"), ("1.png", "test"), ("t.png", "train")):
        Image.fromarray(pixels).save(tmp_path / "images" / file)
        records.append(
            {
                "file": file,
                "split": split,
                "orig_w": 128,
                "orig_h": 128,
                "captions": ["k l m n o p"],
                "boxes": {**{str(n): [list(box)] for n, box in enumerate(QUARTERS)}, "4": [*QUARTERS[1:3]]},
                "entities": [{"tokens": list("klmnop"), "phrases": [[n, n, str(n), "other"] for n in range(5)]}],
            }
        )
    with gzip.open(tmp_path / "annotations.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    write_questions(
        tmp_path / "questions.jsonl",
        [
            *(asked("t.png", "train", answer) for answer in ANSWERS),
            *(asked("t.png", "train", answer, "location") for answer in "ab"),
            asked("0.png", "test", "b", phrase=1),
            asked("0.png", "test", "c", phrase=4),
            asked("1.png", "test", "a", "location", text="where what"),
            asked("1.png", "test", "zebra"),
            asked("1.png", "test", "d", phrase=5),
            asked("1.png", "test", "d", phrase=3, text="whither"),
        ],
    )
    return tmp_path


def of(rows: list[Row], method: str, kind: str = "all") -> list[Row]:
    return [row for row in rows if row["method"] == method and row["question"] == kind]


def test_rows_by_hand(folder: Path) -> None:
    protocol = AnswerGrounding(task(), folder, ["gradcam", "hirescam"])
    assert protocol.methods == ["gradcam", "hirescam", "attention"]
    items = protocol.items()
    assert [(item.key, [q.example.answer for q in item.content[1]]) for item in items] == [
        ("0.png", ["b", "c"]),
        ("1.png", ["a"]),
    ], "no unknown answer, no question without boxes, none without a word that the model knows"
    first, second = (list(rows) for rows in protocol.measure(items))
    for method in ("gradcam", "hirescam"):
        b, c = of(first, method)
        (a,) = of(second, method)
        assert [row["pointing"] for row in (a, b, c)] == [1, 1, 1]
        # A quarter of ones, upsampled by 8: along each axis 31 of 32 parts stay in its half.
        assert a["energy"] == pytest.approx((31 / 32) ** 2) == b["energy"]
        assert c["energy"] == pytest.approx((31 / 32) ** 2 + (1 / 32) ** 2), "two quarters, which touch at a corner"
    # The likeliest wrong answer to the first question is "d", to the second "b", whose quarter has a box there.
    assert [row["pointing"] for row in of(first, "likeliest wrong answer")] == [0, 1]
    assert of(first, "likeliest wrong answer")[0]["energy"] == pytest.approx(31 / 32 * 1 / 32)
    others = [question.other for question in items[0].content[1]]
    assert others[0] in (0, 2, 3) and others[1] in (0, 1, 3)
    assert [row["pointing"] for row in of(first, "another answer")] == [0, float(others[1] == 1)]
    # Where people say only "a" and "b", "b" is the one wrong answer.
    assert of(second, "likeliest wrong answer")[0]["pointing"] == 0 == of(second, "another answer")[0]["pointing"]
    # Its attention lies on the first quarter whatever is asked.
    assert [row["pointing"] for row in (*of(first, "attention"), *of(second, "attention"))] == [0, 0, 1]
    assert [row["pointing"] for row in of(first, "random")] == [1 / 4, 1 / 2]
    # 15 px there are 7.5 here: 7 more rows and columns, and in the corner the 37 of a, b ≥ 1 with a² + b² < 7.5².
    assert of(second, "random")[0]["pointing_15px"] == (32 * 32 + 2 * 7 * 32 + 37) / 64**2
    assert len(of(first, "gradcam", "object")) == 2 and len(of(second, "gradcam", "location")) == 1
    assert len(of(first, "gradcam", "answered right")) == 1 and not of(second, "gradcam", "answered right")


def test_attention_alone_has_no_wrong_answers(folder: Path) -> None:
    protocol = AnswerGrounding(task(), folder, ["attention"])
    rows = [row for rows in protocol.measure(protocol.items()) for row in rows]
    assert {row["method"] for row in rows} == {"attention", "centre", "random"}
    assert AnswerGrounding(task(attends=False), folder, ["gradcam"]).methods == ["gradcam"]


def test_photos_are_encoded_once_and_explained_as_ever(folder: Path) -> None:
    model = task()
    protocol = AnswerGrounding(model, folder, ["gradcam"])
    assert protocol.methods == ["gradcam", "attention"]
    before = model.answerer.seen
    protocol.measure(protocol.items())
    assert model.answerer.seen == before + 2, "two photos with three questions"
    photo = folder / "images" / "0.png"
    for methods in (["gradcam", "gradcam++"], ["gradcam", "input-x-gradient"]):
        encoded = EncodedPhotos(model, [photo, photo], methods)
        assert encoded.shared == ("gradcam++" in methods)
        choice = Choice([[model.target("b"), model.target("c")]] * 3, model.context(["what"] * 3))
        alone = model.explain(photo, "what", ["b", "c"], top=0, methods=methods)
        for found in encoded.explain_rows([0, 1, 0], choice):
            assert found.task == "vqa" and found.geometry == alone.geometry
            for target in range(2):
                for method in methods:
                    assert found.map(target, None, method).allclose(alone.map(target, None, method), atol=1e-6)


def test_a_run_goes_on_and_tells_what_it_did(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    run(AnswerGrounding(task(), folder, ["gradcam"]), out, limit=1)
    result = run(AnswerGrounding(task(), folder, ["gradcam"]), out)
    means = {(line.labels["method"], line.labels["question"]): line.means for line in result.lines}
    assert means["gradcam", "all"]["pointing"].value == 1 and means["gradcam", "all"]["pointing"].rows == 3
    assert means["random", "all"]["pointing"].value == pytest.approx(1 / 3)
    assert result.settings["questions"] == "of the folder"
    assert "Both are made with gradcam" in result.markdown()


def test_what_cannot_be_measured(folder: Path) -> None:
    classifier: Any = nn.Linear(1, 1)
    with pytest.raises(InputError, match="out of a list, and 'Linear' is none"):
        AnswerGrounding(classifier, folder, ["gradcam"])
    with pytest.raises(InputError, match="no split 'val'; there are: test, train"):
        AnswerGrounding(task(), folder, ["gradcam"], split="val").items()
    with pytest.raises(InputError, match="no Flickr8k"):
        AnswerGrounding(task(), folder / "images", ["gradcam"])
    strange = task()
    strange.answerer.words = {"how": 1}
    with pytest.raises(InputError, match="knows no word of the questions"):
        AnswerGrounding(strange, folder, ["gradcam"]).items()
    write_questions(folder / "questions.jsonl", [asked("0.png", "test", "b", phrase=1)])
    with pytest.raises(InputError, match=r"no question about the 'test' photos .* has boxes"):
        AnswerGrounding(task(), folder, ["gradcam"]).items()
    (folder / "questions.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"line 1 of .* is not a question"):
        AnswerGrounding(task(), folder, ["gradcam"]).items()


def test_the_command(folder: Path, answerer: str, captioner: str) -> None:
    answers = ("red", "yellow")
    write_questions(
        folder / "questions.jsonl",
        [
            *(asked("t.png", "train", answer, text="dog on grass") for answer in answers),
            asked("0.png", "test", "red", text="dog on grass"),
            asked("1.png", "test", "yellow", phrase=1, text="a cat"),
        ],
    )
    arguments = ("evaluate", "answer-grounding", "--data", folder, "--model")
    found = record(*arguments, answerer, "--limit", 1)
    assert found["protocol"] == "answer-grounding" and found["items"] == 1
    methods = {line["labels"]["method"] for line in found["lines"]}
    assert methods == {"gradcam", "attention", "centre", "random", "likeliest wrong answer", "another answer"}
    assert "measures models that answer questions" in refusal(*arguments, captioner)


def test_questions_are_made_when_wanted_and_kept(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = read_questions(folder / "questions.jsonl")
    (folder / "questions.jsonl").unlink()
    made: list[Path] = []
    monkeypatch.setattr(made_questions, "read_captions", lambda path: made.append(path))
    monkeypatch.setattr(made_questions, "generate", lambda captions: wanted)
    monkeypatch.setattr(made_questions, "prune", lambda questions: questions)
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(tmp_path_factory.mktemp("cache") / "new"))
    first = AnswerGrounding(task(), folder, ["gradcam"])
    assert "making questions" in first.preparing() and not made, "the constructor makes none"
    keys = [item.key for item in first.items()]
    assert keys == ["0.png", "1.png"] and made == [folder / "annotations.jsonl.gz"]
    assert first.settings()["questions"] == "made from captions"
    again = AnswerGrounding(task(), folder, ["gradcam"])
    assert again.preparing() == "" and [item.content[1] for item in again.items()] == [
        item.content[1] for item in first.items()
    ]
    assert len(made) == 1
    (kept,) = (Path(os.environ["MMEXPLAIN_CACHE"]) / "questions").iterdir()
    kept.write_bytes(b"\xff{}")
    assert [item.key for item in AnswerGrounding(task(), folder, ["gradcam"]).items()] == keys and len(made) == 2
    path = folder / "annotations.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"k l m", b"k l l")))
    assert AnswerGrounding(task(), folder, ["gradcam"]).preparing(), "other captions have other questions"
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(folder / "annotations.jsonl.gz"))
    assert [item.key for item in AnswerGrounding(task(), folder, ["gradcam"]).items()] == keys, "no cache, no harm"


def test_the_questions_are_those_of_the_model_cards(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made from the captions anew, they are as many of each kind as the model was scored on."""
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(tmp_path))
    task: Any = load("hierarchical-coattention", device="cpu")
    protocol = AnswerGrounding(task, data_dir / "flickr8k", ["gradcam"])
    zoo = Path(__file__).parents[2] / "tasks" / "zoo"
    card = json.loads((zoo / "hierarchical_coattention.json").read_text())["scores"]["test"]["pointing"]
    kinds = [question.example.kind for item in protocol.items() for question in item.content[1]]
    assert {"all": len(kinds), **{kind: kinds.count(kind) for kind in set(kinds)}} == card["questions"]
    found = {line.labels["method"]: line.means for line in run(protocol, limit=8).lines[:6]}
    assert found["gradcam"]["energy"].value > found["another answer"]["energy"].value
    assert found["attention"]["energy"].value > found["random"]["energy"].value
