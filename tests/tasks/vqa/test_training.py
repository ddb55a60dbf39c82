"""The training recipe on a toy world made here, and for a moment on real photos."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import CheckpointError
from mmexplain.tasks.captioning.flickr8k import Photo
from mmexplain.tasks.captioning.vocabulary import Vocabulary
from mmexplain.tasks.vqa.answer_training import Recipe, draw_batches, train_answers
from mmexplain.tasks.vqa.evaluation import evaluate_answers
from mmexplain.tasks.vqa.examples import Example, Source, answer_space, question_words
from mmexplain.tasks.vqa.questions.question import Question, write_questions
from mmexplain.tasks.vqa.training import main
from mmexplain.tasks.vqa.weights import ARCHITECTURES, BundledVQA, load_vqa, save_vqa

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 230)}


def quiet(what: str, done: int, total: int) -> None:
    """No progress to see."""


def synthetic() -> tuple[Source, list[Any]]:
    """Cached features in which one channel tells the colour and another the thing; both are asked for."""
    generator = np.random.default_rng(0)
    photos, examples = [], []
    middle = generator.normal(0, 0.3, (36, 320, 2, 2)).astype(np.float16)
    for row in range(36):
        colour, thing = row % 3, row // 3 % 3
        middle[row, colour, 0, 0] = middle[row, 10 + thing, 1, 1] = 8
        photos.append(Photo(f"{row}.jpg", "dev" if row >= 27 else "train", (), ()))
        examples.append(Example(row, "what colour is it", ["red", "green", "blue"][colour], "colour"))
        examples.append(Example(row, "what is it", ["dog", "cat", "ball"][thing], "object"))
    return Source("toy", photos, examples), [middle]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_model_learns_what_a_small_set_can_teach(architecture: str, tmp_path: Path) -> None:
    source, features = synthetic()
    taught = source.split("train")
    torch.manual_seed(0)
    config = {"hidden": 32, "common": 64} if architecture == "deeper-lstm-norm-i" else {"size": 48, "attention": 16}
    model = ARCHITECTURES[architecture](question_words(taught, 1), answer_space(taught, {True: 1, False: 1}), **config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # so that a few seconds suffice
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    recipe = Recipe(epochs=8, photos=3, questions=2, rate=4e-3)
    train_answers(model, [source], [features], tmp_path, recipe, quiet, lambda line: None)
    table = evaluate_answers(model, [source], [features], "train", quiet)
    assert min(table["colour"]["accuracy"], table["object"]["accuracy"]) >= 0.95
    assert table["all"]["shuffled"] < 0.6
    changed = {name for name, tensor in model.encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"conv_head.weight", "bn2.weight", "bn2.bias"}


def tiny(source: Source) -> BundledVQA:
    torch.manual_seed(0)
    taught = source.split("train")
    return ARCHITECTURES["deeper-lstm-norm-i"](question_words(taught, 1), ["red", "green"], hidden=8, common=8)


def test_a_broken_off_training_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    source, features = synthetic()
    recipe = Recipe(epochs=3, photos=9, questions=1)

    def interrupt(line: str) -> None:
        if "epoch 2" in line:
            raise KeyboardInterrupt

    whole, broken = tiny(source), tiny(source)
    told = train_answers(whole, [source], [features], tmp_path / "whole", recipe, quiet, lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        train_answers(broken, [source], [features], tmp_path / "broken", recipe, quiet, interrupt)
    lines: list[str] = []
    resumed = tiny(source)
    assert train_answers(resumed, [source], [features], tmp_path / "broken", recipe, quiet, lines.append) == told
    assert len(lines) == 1 and "epoch 3" in lines[0]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("recipe", "origin", "answers", "told"),
    [
        (Recipe(epochs=2), {"questions_file": "1", "encoder_file": "2"}, None, "epochs"),
        (
            Recipe(epochs=1, detection=0.5),
            {"questions_file": "3", "encoder_file": "2"},
            None,
            "detection, questions_file",
        ),
        (Recipe(epochs=1), {"questions_file": "1", "encoder_file": "2"}, ["green", "red"], "answers"),
    ],
)
def test_only_the_same_training_is_resumed(
    recipe: Recipe, origin: dict[str, str], answers: list[str] | None, told: str, tmp_path: Path
) -> None:
    source, features = synthetic()
    first = {"questions_file": "1", "encoder_file": "2"}
    train_answers(tiny(source), [source], [features], tmp_path, Recipe(epochs=1), quiet, lambda line: None, first)
    model = tiny(source)
    model.answers = answers or model.answers
    with pytest.raises(CheckpointError, match=f"last.safetensors' was trained with other {told}: give"):
        train_answers(model, [source], [features], tmp_path, recipe, quiet, lambda line: None, origin)


def test_an_epoch_asks_about_every_photo_once() -> None:
    photos = [Photo(f"{i}.jpg", "test" if i == 4 else "train", (), ()) for i in range(6)]
    examples = [Example(i, f"question {k}", "yes" if k else "unheard of", "object") for i in range(6) for k in range(4)]
    indoor = Source("indoor", photos[:2], [Example(i, "what", "yes", "daquar") for i in range(2)])
    recipe = Recipe(photos=2, questions=2)
    batches = draw_batches([Source("a", photos, examples), indoor], ["yes"], recipe, torch.Generator().manual_seed(0))
    rows = sorted(row for batch in batches if batch.source == 0 for row in batch.rows)
    assert rows == [0, 1, 2, 3, 5]
    assert [batch.rows for batch in batches if batch.source == 1] in ([[0, 1]], [[1, 0]])
    for batch in batches:
        assert [example.photo for example in batch.examples] == [row for row in batch.rows for _ in range(2)]
        assert all(example.answer == "yes" for example in batch.examples)
        texts = [example.text for example in batch.examples]
        if batch.source == 0:
            assert all(a != b for a, b in zip(texts[::2], texts[1::2], strict=True))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of one colour on grey in the layout of Flickr8k, and of DAQUAR, with questions and an encoder."""
    root = tmp_path_factory.mktemp("toy")
    generator = np.random.default_rng(0)
    records, questions, indoor = [], [], []
    for folder in ("flickr8k", "daquar"):
        (root / folder / "images").mkdir(parents=True)
    for number in range(12):
        split = ("train", "train", "dev", "test")[number // 3]
        colour = list(COLOURS)[number % 3]
        x, y = generator.integers(0, 60, 2).tolist()
        pixels = np.full((100, 100, 3), 128, np.uint8)
        pixels[y : y + 40, x : x + 40] = COLOURS[colour]
        for folder in ("flickr8k", "daquar"):
            Image.fromarray(pixels).save(root / folder / "images" / f"{number}.png")
        tokens = ["A", colour, "square", "."]
        records.append(
            {
                "file": f"{number}.png",
                "split": split,
                "orig_w": 100,
                "orig_h": 100,
                "captions": [" ".join(tokens)] * 5,
                "boxes": {"7": [[x, y, x + 40, y + 40]]},
                "nobox": {},
                "entities": [{"tokens": tokens, "phrases": [[0, 2, "7", "other"]]}] * 5,
            }
        )
        asked = "what is the colour of the square"
        questions.append(Question(f"{number}.png", split, asked, colour, "colour", 0, (0, 2)))
        indoor.append(
            {"image": f"{number}.png", "split": split.replace("dev", "train"), "question": asked, "answers": [colour]}
        )
    with gzip.open(root / "flickr8k" / "annotations.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(record) + "\n" for record in records)
    (root / "daquar" / "qa.jsonl").write_text("".join(json.dumps(record) + "\n" for record in indoor))
    write_questions(root / "questions.jsonl", questions)
    save_encoder(root / "encoder.safetensors")
    return root


def save_encoder(path: Path) -> None:
    """A model whose encoder can be started from."""
    torch.manual_seed(0)
    start = ARCHITECTURES["deeper-lstm-norm-i"](Vocabulary(["<pad>", "<start>", "<end>", "<unk>"]), ["yes"])
    save_vqa(path, start, {"input_size": 64})


def run(data: Path, questions: Path, encoder: Path, out: Path, architecture: str, *more: str) -> dict[str, Any]:
    command = f"--data {data} --questions {questions} --encoder {encoder} --out {out} --architecture {architecture}"
    assert main([*command.split(), "--size", "64", "--versions", "1", *more]) == 0
    card: dict[str, Any] = json.loads((out / f"{architecture.replace('-', '_')}.json").read_text())
    return card


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_training_writes_a_model_and_its_card(
    architecture: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (toy, toy / "questions.jsonl", toy / "encoder.safetensors", tmp_path, architecture)
    card = run(*data, "--epochs", "1", "--limit", "6", "--note", "A first try.")
    model = load_vqa(tmp_path / f"{architecture.replace('-', '_')}.safetensors")
    assert model.architecture == architecture and model.input_size == 64
    assert sorted(model.answers) == ["blue", "green", "red"]
    assert set(card["scores"]) == {"dev", "protocol"}
    scores = card["scores"]["dev"]
    assert set(scores["answers"]) == {"all", "colour"} and scores["answers"]["colour"]["questions"] == 3
    maps = {"right", "likeliest-wrong", "random-wrong", "answered-right", "centre", "random"}
    for rule in ("strict", "tolerant"):
        assert set(scores["pointing"][rule]) == maps | ({"attention"} if "co" in architecture else set())
    assert scores["pointing"]["questions"] == {"all": 3, "colour": 3}
    assert card["training"]["note"] == "A first try." and card["training"]["selected"]["epoch"] == 1
    assert "--epochs 1 --detection" in card["training"]["command"]
    capsys.readouterr()
    assert run(*data, "--epochs", "1", "--limit", "6", "--evaluate-only") == card
    tested = run(*data, "--epochs", "1", "--limit", "6", "--evaluate-only", "--split", "test")
    assert tested["scores"]["dev"] == scores and set(tested["scores"]["test"]["answers"]) == {"all", "colour", "daquar"}
    assert "(test, strict)" in str(tested["limits"]) and "(dev, strict)" not in str(tested["limits"])
    assert "epoch 1" not in capsys.readouterr().out
    command = f"--data {toy} --questions {data[1]} --encoder {data[2]} --out {tmp_path} --architecture {architecture}"
    assert main([*command.split(), "--size", "64", "--versions", "1", "--limit", "6", "--epochs", "2"]) == 2
    refused = capsys.readouterr().err
    assert "trained with other epochs" in refused and refused.count("\n") == 1


@pytest.mark.parametrize("missing", ["questions", "encoder", "data"])
def test_what_is_missing_is_told_in_one_line(
    missing: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"data": toy, "questions": toy / "questions.jsonl", "encoder": toy / "encoder.safetensors"}
    paths[missing] = tmp_path / "absent"
    options = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    assert main([*options, "--out", str(tmp_path), "--architecture", "deeper-lstm-norm-i", "--limit", "3"]) == 2
    told = capsys.readouterr().err
    assert str(tmp_path / "absent") in told and told.count("\n") == 1


def test_weights_without_a_card_are_not_scored(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deeper_lstm_norm_i.safetensors"
    save_encoder(path)
    path.with_suffix(".json").unlink()
    options = f"--data {toy} --questions {toy / 'questions.jsonl'} --encoder {toy / 'encoder.safetensors'}"
    more = f"--out {tmp_path} --architecture deeper-lstm-norm-i --size 64 --versions 1 --limit 3 --evaluate-only"
    assert main([*options.split(), *more.split()]) == 2
    assert "cannot read the card" in capsys.readouterr().err


def test_training_on_real_photos(data_dir: Path, tmp_path: Path) -> None:
    with gzip.open(data_dir / "flickr8k" / "annotations.jsonl.gz", "rt", encoding="utf-8") as lines:
        photos = [json.loads(line) for line in lines]
    questions = [
        Question(photo["file"], photo["split"], "what is there", "dog" if "dog" in photo["captions"][0] else "man",
                 "object", 0, tuple(photo["entities"][0]["phrases"][0][:2]))
        for photo in photos
        if photo["entities"][0]["phrases"]
    ]  # fmt: skip
    write_questions(tmp_path / "questions.jsonl", questions)
    save_encoder(tmp_path / "encoder.safetensors")
    paths = (tmp_path / "questions.jsonl", tmp_path / "encoder.safetensors", tmp_path / "out")
    card = run(data_dir, *paths, "deeper-lstm-norm-i", "--epochs", "1", "--limit", "6")
    assert card["scores"]["dev"]["answers"]["daquar"]["questions"] > 20
    assert card["data"]["questions"]["flickr8k"]["train"] > 3
