"""Words of generated captions against COCO's objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.evaluate import run
from mmexplain.evaluate.data import visual_words
from mmexplain.evaluate.data.visual_words import CLASSES, classes_of
from mmexplain.evaluate.generated_grounding import GeneratedGrounding
from mmexplain.tasks.registry import load


def named(caption: str) -> dict[str, str]:
    words = caption.split()
    return {word: name for word, name in zip(words, classes_of(words), strict=True) if name is not None}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man in a red shirt rides a bike", {"man": "person", "bike": "bicycle"}),
        ("two dogs run on the grass", {"dogs": "dog"}),
        ("a puppy and a kitten", {"puppy": "dog", "kitten": "cat"}),
        ("people stand by a fire hydrant", {"people": "person", "hydrant": "fire hydrant"}),
        ("a hot dog on a plate", {"dog": "hot dog"}),
        ("a tennis player with a racket", {"player": "person", "racket": "tennis racket"}),
        ("a stop sign and a fire truck", {"sign": "stop sign", "truck": "truck"}),
        ("a white dog is jumping", {"dog": "dog"}),
        ("the water is blue", {}),
        ("a child sits on a couch with a teddy bear", {"child": "person", "couch": "couch", "bear": "teddy bear"}),
    ],
)
def test_words_mean_the_class_they_are_a_kind_of(data_dir: Path, caption: str, expected: dict[str, str]) -> None:
    assert named(caption) == expected


def test_every_class_of_coco_has_synsets_that_wordnet_knows(data_dir: Path) -> None:
    lines = (data_dir / "coco_mini" / "annotations.jsonl").read_text().splitlines()
    used = {thing["cat"] for line in lines for thing in json.loads(line)["objects"]}
    assert used == set(CLASSES) and len(CLASSES) == 80
    from nltk.corpus import wordnet

    for synset in (synset for synsets in CLASSES.values() for synset in synsets):
        assert wordnet.synset(synset).pos() == "n"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two photos: a dog on the left of the one, a cat on the other."""
    (tmp_path / "images").mkdir()
    with (tmp_path / "annotations.jsonl").open("w") as file:
        for number, name in enumerate(("dog", "cat")):
            Image.fromarray(torch.full((48, 64, 3), 90 * number, dtype=torch.uint8).numpy()).save(
                tmp_path / "images" / f"{number}.png"
            )
            thing = {"cat": name, "bbox": [0, 0, 32, 48], "crowd": 0, "polys": []}
            file.write(json.dumps({"file": f"{number}.png", "w": 64, "h": 48, "objects": [thing]}) + "\n")
    return tmp_path


def test_only_words_whose_class_is_in_the_photo_have_rows(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = load("show-attend-tell", device="cpu")
    index = task.captioner.vocabulary.index
    caption = [index(word) for word in ("a", "dog", "sees", "a", "dog")]
    monkeypatch.setattr(task, "generate", lambda features, beam: [caption] * len(features))
    monkeypatch.setattr(
        "mmexplain.evaluate.generated_grounding.classes_of",
        lambda words: ["dog" if word == "dog" else None for word in words],
    )
    protocol = GeneratedGrounding(task, coco, ["gradcam"])
    first, second = protocol.measure(protocol.items())
    assert second == [], "the model said dog of the cat"
    everything = [row["method"] for row in first if row["class"] == "all"]
    assert sorted(everything) == sorted(["gradcam", "attention", "centre", "random", "whole caption"] * 2)
    assert {row["class"] for row in first} == {"all", "not a person"}
    assert next(row for row in first if row["method"] == "random")["pointing"] == 0.5


def test_a_photo_of_another_size_than_it_was_marked_at_is_left_out(coco: Path) -> None:
    task: Any = load("show-attend-tell", device="cpu")
    index = task.captioner.vocabulary.index
    task.generate = lambda features, beam: [[index("dog")]] * len(features)
    path = coco / "annotations.jsonl"
    path.write_text(path.read_text().replace('"w": 64', '"w": 640').replace('"cat": "cat"', '"cat": "dog"'))
    protocol = GeneratedGrounding(task, coco, ["gradcam"])
    assert list(protocol.measure(protocol.items())) == [[], []]
    path.write_text(path.read_text().replace('"w": 640', '"w": 64', 1))
    protocol = GeneratedGrounding(task, coco, ["gradcam"])
    first, second = protocol.measure(protocol.items())
    assert first and not second
    assert any("marked at are left out" in note for note in protocol.notes())


def test_what_cannot_be_measured(coco: Path, tmp_path: Path) -> None:
    task: Any = load("show-attend-tell", device="cpu")
    with pytest.raises(InputError, match="beam of at least 1"):
        GeneratedGrounding(task, coco, ["gradcam"], beam=0)
    with pytest.raises(InputError, match="no such file or folder"):
        run(GeneratedGrounding(task, tmp_path / "none", ["gradcam"]))
    with pytest.raises(InputError, match="measures captioners"):
        GeneratedGrounding(load("efficientnet-lite0", device="cpu"), coco, ["gradcam"])


def test_real_captions(data_dir: Path) -> None:
    task: Any = load("show-attend-tell", device="cpu")
    result = run(GeneratedGrounding(task, data_dir / "coco_mini", ["gradcam"]), limit=16)
    found = {line.labels["method"]: line.means for line in result.lines if line.labels["class"] == "all"}
    assert found["gradcam"]["pointing"].rows > 5
    assert found["gradcam"]["energy"].value > found["random"]["energy"].value
    assert visual_words._meaning("player") == "person"
