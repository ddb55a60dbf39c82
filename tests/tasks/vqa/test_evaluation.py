"""Accuracy, majority, shuffled photos and pointing, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.tasks.captioning.flickr8k import Photo, Sentence
from mmexplain.tasks.captioning.flickr8k import Phrase as BoxedPhrase
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary
from mmexplain.tasks.vqa.answering import VQAOutput
from mmexplain.tasks.vqa.card import findings
from mmexplain.tasks.vqa.daquar import daquar_source, load_daquar, spoken
from mmexplain.tasks.vqa.deeper_lstm import DeeperLSTM
from mmexplain.tasks.vqa.evaluation import accuracies, answer, derangement, evaluate_answers, majority
from mmexplain.tasks.vqa.examples import Example, Source, answer_space, generated, question_words
from mmexplain.tasks.vqa.pointing import answer_maps, answers_by_kind, evaluate_pointing, grown, pointed, rates
from mmexplain.tasks.vqa.questions.question import Question


def quiet(what: str, done: int, total: int) -> None:
    """No progress to see."""


def test_accuracy_by_hand() -> None:
    examples = [
        Example(0, "what is it", "dog", "object"),
        Example(0, "what is there", "cat", "object"),
        Example(1, "what is it", "dog", "object"),
        Example(1, "what colour", "red", "colour"),
    ]
    table = accuracies(
        examples,
        said=["dog", "cat", "cat", "red"],
        shuffled=["dog", "dog", "cat", "blue"],
        usual={"object": "dog", "colour": "blue"},
    )
    assert list(table) == ["all", "object", "colour"]
    assert table["all"] == {"questions": 4, "accuracy": 0.75, "majority": 0.5, "shuffled": 0.25, "gain": 0.5}
    assert table["object"] == {
        "questions": 3,
        "accuracy": round(2 / 3, 4),
        "majority": round(2 / 3, 4),
        "shuffled": round(1 / 3, 4),
        "gain": round(1 / 3, 4),
    }
    assert table["colour"] == {"questions": 1, "accuracy": 1, "majority": 0, "shuffled": 0, "gain": 1}


def test_the_majority_answer_is_counted_by_kind_and_ties_go_by_the_alphabet() -> None:
    pairs = [("object", "dog"), ("object", "cat"), ("colour", "red"), ("colour", "red"), ("colour", "blue")]
    assert majority(Example(0, "", answer, kind) for kind, answer in pairs) == {"object": "cat", "colour": "red"}


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_a_derangement_moves_everything(n: int) -> None:
    other = derangement(n)
    assert sorted(other) == list(range(n)) and all(i != j for i, j in enumerate(other))
    assert other == derangement(n)


class Bright(torch.nn.Module):
    """Says "bright" where the photo's first channel is above a half, else "dark", whatever is asked."""

    vocabulary = Vocabulary([*SPECIAL, "is", "it"])
    answers = ("bright", "dark")

    def decode(self, features: Tensor, question: Tensor) -> VQAOutput:
        mean = features[:, 0].mean((1, 2))
        return VQAOutput(torch.stack([mean - 0.5, 0.5 - mean], dim=1))


class Identity(torch.nn.Module):
    """Its "grid" is what is cached."""

    def head(self, features: Tensor) -> Tensor:
        return features


def toy(levels: list[float]) -> tuple[Source, list[np.ndarray]]:
    """Photos of constant brightness in the test split, one question each."""
    photos = [Photo(f"{i}.jpg", "test", (), ()) for i in range(len(levels))]
    examples = [Example(i, "is it", "bright" if v > 0.5 else "dark", "object") for i, v in enumerate(levels)]
    taught = Photo("train.jpg", "train", (), ())
    return Source("toy", [*photos, taught], [*examples, Example(len(levels), "is it", "dark", "object")]), [
        np.stack([np.full((4, 2, 2), v, np.float16) for v in [*levels, 0.0]])
    ]


def test_evaluation_shuffles_photos() -> None:
    model = Bright()
    model.encoder = Identity()
    source, features = toy([0.9, 0.1, 0.8, 0.2, 0.3])
    table = evaluate_answers(model, [source], [features], "test", quiet)  # type: ignore[arg-type]
    bright = [True, False, True, False, False]
    right = sum(bright[i] == bright[j] for i, j in enumerate(derangement(5))) / 5
    assert table["object"]["accuracy"] == 1 and table["object"]["majority"] == 0.6
    assert table["object"]["shuffled"] == right and table["all"]["questions"] == 5
    assert table == evaluate_answers(model, [source], [features], "test", quiet)  # type: ignore[arg-type]
    grids = torch.full((2, 4, 2, 2), 0.1)
    grids[1] = 0.9
    assert answer(model, grids, [1, 0, 1], ["is it"] * 3, batch=2) == ["bright", "dark", "bright"]  # type: ignore[arg-type]


def test_boxes_grow_by_pixels_of_the_original() -> None:
    photo = Photo("p.jpg", "test", (), (), (500, 300))
    assert grown([(0.5, 0.5, 0.75, 0.75)], photo) == ((0.5 - 0.03, 0.5 - 0.05, 0.75 + 0.03, 0.75 + 0.05),)
    with pytest.raises(InputError, match=r"'p\.jpg' is not known"):
        grown([(0.5, 0.5, 0.75, 0.75)], Photo("p.jpg", "test", (), ()))


def test_rates_are_means_by_kind() -> None:
    assert rates({"a": [("object", 1), ("object", 0), ("colour", 0.25)], "b": []}) == {
        "a": {"all": round(1.25 / 3, 4), "object": 0.5, "colour": 0.25},
        "b": {},
    }


def test_pointing_on_a_model_that_looks_at_one_corner() -> None:
    """A logit for each quarter of the photo: the right answer's map hits the quarter's box, a wrong one's does not."""

    class Corners(torch.nn.Module):
        vocabulary = Vocabulary([*SPECIAL, "what"])
        answers = ("a", "b", "c", "d")
        encoder = Identity()

        def decode(self, features: Tensor, question: Tensor) -> VQAOutput:
            return VQAOutput(features.mean((2, 3)))

    grid = torch.zeros(4, 4, 4)
    for c in range(4):
        grid[c, 3 * (c // 2), 3 * (c % 2)] = 1 + c / 10
    phrase = BoxedPhrase(0, 0, "other", ((0.75, 0.0, 1.0, 0.25),))  # the upper right: "b"
    photo = Photo("p.jpg", "test", ("thing",), (Sentence(("thing",), (phrase,)),), (60, 120))
    other = Photo("q.jpg", "train", (), ())
    asked = [Question("p.jpg", "test", "what", "b", "object", 0, (0, 0))]
    taught = [Question("q.jpg", "train", "what", name, "object", 0, (0, 0)) for name in "abd"]
    source = generated([photo, other], [*asked, *taught, Question("absent.jpg", "", "what", "a", "object", 0, (0, 0))])
    assert len(source.examples) == 4
    assert answers_by_kind(source.split("train"), Corners.answers) == {"object": [0, 1, 3]}
    (item,) = pointed(source, Corners.answers, "test")
    assert item.right == 1 and item.other in (0, 3)
    assert item.boxes == {"strict": phrase.boxes, "tolerant": ((0.5, -0.125, 1.25, 0.375),)}
    features = [np.stack([grid.numpy(), grid.numpy()]).astype(np.float16)]
    found = evaluate_pointing(Corners(), source, features, "test", quiet)  # type: ignore[arg-type]
    assert found["questions"] == {"all": 1, "object": 1}
    for rule, chance in (("strict", 1 / 16), ("tolerant", 1 / 2 * 3 / 8)):
        table = found[rule]
        assert table["right"]["all"] == 1 and table["random"] == {"all": round(chance, 4), "object": round(chance, 4)}
        assert table["likeliest-wrong"]["all"] == table["random-wrong"]["all"] == table["centre"]["all"] == 0
        assert "attention" not in table and table["answered-right"] == {}  # it answers "d", the brightest


def test_a_maximum_beside_the_box_is_a_tolerant_hit() -> None:
    """Bilinear upsampling by 56 is highest all over the outer half of the corner's cell, first at its very corner."""

    class Corner(torch.nn.Module):
        vocabulary = Vocabulary([*SPECIAL, "what"])
        answers = ("a", "b")
        encoder = Identity()

        def decode(self, features: Tensor, question: Tensor) -> VQAOutput:
            return VQAOutput(features.mean((2, 3)), attention=features[:, 0])

    grid = np.zeros((1, 2, 4, 4), np.float16)
    grid[0, 0, 0, 0] = 2
    grid[0, 1, 3, 3] = 1
    phrase = BoxedPhrase(0, 0, "other", ((0.1, 0.0, 1.0, 0.6),))
    photo = Photo("p.jpg", "test", ("thing",), (Sentence(("thing",), (phrase,)),), (100, 100))
    taught = Photo("q.jpg", "train", (), ())
    asked = [Question("p.jpg", "test", "what", "a", "object", 0, (0, 0))]
    learned = [Question("q.jpg", "train", "what", name, "object", 0, (0, 0)) for name in "ab"]
    source = generated([photo, taught], [*asked, *learned])
    found = evaluate_pointing(Corner(), source, [np.repeat(grid, 2, 0)], "test", quiet)  # type: ignore[arg-type]
    for name in ("right", "answered-right", "attention"):
        assert found["strict"][name]["all"] == 0 and found["tolerant"][name]["all"] == 1
    assert found["strict"]["centre"]["all"] == found["tolerant"]["centre"]["all"] == 1


def test_the_card_says_what_the_scores_say_against_the_model() -> None:
    def row(accuracy: float, majority: float, shuffled: float) -> dict[str, float]:
        return {"questions": 400, "accuracy": accuracy, "majority": majority, "shuffled": shuffled}

    answers = {"all": row(0.1, 0.9, 0.9), "object": row(0.4, 0.1, 0.1), "number": row(0.6, 0.58, 0.2)}
    answers["daquar"] = row(0.15, 0.05, 0.11)
    strict = {"right": {"all": 0.3}, "centre": {"all": 0.4}, "attention": {"all": 0.5}}
    pointing = {"strict": strict, "tolerant": {"right": {"all": 0.7}, "centre": {"all": 0.6}}}
    assert findings({"answers": answers, "pointing": pointing}, "test") == [
        "Questions of the kind 'number' (test): 60.0% right, no better than the usual answer (58.0%).",
        "Questions of the kind 'daquar' (test): 15.0% right, 11.0% with the wrong photo: most of it comes from the "
        "question alone.",
        "Grad-CAM of the right answer points no better than the photo's centre (test, strict): 30.0%, 40.0%.",
        "The model's own attention points better than the photo's centre (test, strict): 50.0%, 40.0%.",
        "Grad-CAM of the right answer points better than the photo's centre (test, tolerant): 70.0%, 60.0%.",
    ]


def test_maps_of_answers_are_gradcam() -> None:
    torch.manual_seed(0)
    model = DeeperLSTM(Vocabulary([*SPECIAL, "what"]), ["a", "b", "c"], embedding=4, hidden=4, common=6).eval()
    grid = torch.rand(2, 1280, 3, 3)
    question = torch.tensor([[4, 4], [4, 0]])
    (found,) = answer_maps(model, grid, question, [torch.tensor([2, 0])])
    for row, target in enumerate([2, 0]):
        features = grid[[row]].clone().requires_grad_()
        model.decode(features, question[[row]]).logits[0, target].backward()
        assert features.grad is not None
        weights = features.grad[0].mean((1, 2))
        expected = (weights[:, None, None] * grid[row]).sum(0).clamp(min=0)
        assert torch.allclose(found[row], expected, atol=1e-6)


def test_words_and_answers_are_learned_from_what_is_frequent() -> None:
    examples = [
        *(Example(0, "what is the dog", "ball", "object") for _ in range(3)),
        Example(0, "what is rare", "stick", "object"),
        *(Example(0, "what", "garbage bin", "daquar") for _ in range(2)),
        Example(0, "how many", "two", "daquar"),
    ]
    assert question_words(examples, 3).tokens[4:] == ["what", "is", "dog", "the"]
    assert answer_space(examples, {True: 2, False: 3}) == ["ball", "garbage bin"]
    assert answer_space(examples, {True: 1, False: 1}) == ["ball", "garbage bin", "stick", "two"]


def test_daquar_answers_are_spoken() -> None:
    assert [spoken(answer) for answer in ("garbage_bin", "3", "20", "21", "red")] == [
        "garbage bin",
        "three",
        "twenty",
        "21",
        "red",
    ]


def test_daquar_has_one_answer_a_question_and_development_photos() -> None:
    records = [
        {"image": f"image{i}.jpg", "split": "test" if i % 2 else "train", "question": f"q{i}", "answers": ["a_b"]}
        for i in range(1, 41)
    ]
    records.append({"image": "image2.jpg", "split": "train", "question": "several", "answers": ["a", "b"]})
    source = daquar_source(records)
    splits = [photo.split for photo in source.photos]
    assert [photo.file for photo in source.photos] == [f"image{i}.jpg" for i in range(1, 41)]
    assert [i + 1 for i, split in enumerate(splits) if split == "dev"] == [20, 40]
    assert splits.count("test") == 20 and len(source.examples) == 40
    assert source.examples[3] == Example(3, "q4", "a b", "daquar")
    assert [example.text for example in source.split("dev")] == ["q20", "q40"]
    small = daquar_source(records, limit=1)
    assert [photo.file for photo in small.photos] == ["image1.jpg", "image2.jpg", "image20.jpg"]
    assert [example.photo for example in small.examples] == [0, 1, 2]


def test_daquar_as_it_is_stored(data_dir: Path) -> None:
    source = load_daquar(data_dir / "daquar")
    with (data_dir / "daquar" / "qa.jsonl").open() as lines:
        records = [json.loads(line) for line in lines]
    assert len(source.examples) == sum(len(record["answers"]) == 1 for record in records) == 11225
    assert len(source.split("test")) == 5076
    counts = [len([photo for photo in source.photos if photo.split == split]) for split in ("train", "dev", "test")]
    assert counts == [715, 79, 653]
