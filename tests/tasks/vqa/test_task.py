"""Questions and answers: what is forced, what is contrasted, what is refused; scored against plain softmax."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.errors import InputError, TargetError
from mmexplain.explanation import MapKey
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary
from mmexplain.tasks.vqa.adapter import VQAAdapter
from mmexplain.tasks.vqa.coattention import CoAttention
from mmexplain.tasks.vqa.deeper_lstm import DeeperLSTM
from mmexplain.tasks.vqa.task import VQA

ANSWERS = ["red", "yellow", "dog", "ice cream", "two"]
WORDS = ["what", "is", "the", "colour", "of", "ball", "how", "many"]
QUESTION = "What is the colour of the ball?"


class Tiny(VQAAdapter):
    """A CNN whose pooled features are gated by the sum of the question's words."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = ANSWERS
        self.words = {word: number + 2 for number, word in enumerate(WORDS)}
        self.unknown = 1
        self.embedding = "embed"
        self.cnn = nn.Sequential(nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())
        self.embed = nn.Embedding(len(WORDS) + 2, 8, padding_idx=0)
        self.choose = nn.Linear(8, len(ANSWERS))

    def encode(self, images: Tensor) -> Tensor:
        """Features ``[B, 8, h, w]``."""
        features: Tensor = self.cnn(images)
        return features

    def decode(self, features: Tensor, question: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.choose(features.mean((2, 3)) * self.embed(question).sum(1))
        return logits


@pytest.fixture
def task() -> VQA:
    torch.manual_seed(0)
    return VQA(Tiny(), Preprocess(resize=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3), model_id="tiny")


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))


def logits(task: VQA, photo: Image.Image, tokens: list[int]) -> Tensor:
    batch = task.prepare(photo)
    with torch.no_grad():
        found: Tensor = task.answerer.decode(task.answerer.encode(batch.inputs["image"]), torch.tensor([tokens]))[0]
    return found


def test_the_models_own_answer_and_those_that_are_forced(task: VQA, photo: Image.Image) -> None:
    explanation = task.explain(photo, QUESTION, ["Yellow", "dog"], versus=[("red", "two")], text="all")
    plain = logits(task, photo, [2, 3, 4, 5, 6, 4, 7])
    labels = list(dict.fromkeys([ANSWERS[int(plain.argmax())], "yellow", "dog"]))
    assert [target.label for target in explanation.targets] == [*labels, "red rather than two"]
    assert {target.kind for target in explanation.targets} == {"answer", "contrast"}
    assert (explanation.task, explanation.text) == ("vqa", QUESTION)
    assert explanation.words == ["what", "is", "the", "colour", "of", "the", "ball"]
    expected = [plain[ANSWERS.index(label)] for label in labels] + [plain[0] - plain[4]]
    torch.testing.assert_close(explanation.scores, torch.stack(expected))
    assert explanation.probabilities is not None
    chances = plain.softmax(0)
    of_two = chances[0] / (chances[0] + chances[4])
    torch.testing.assert_close(
        explanation.probabilities, torch.stack([*chances[[*map(ANSWERS.index, labels)]], of_two])
    )
    contrasted = explanation.text_maps["gradient-x-embedding"][-1]
    named = task.explain(photo, QUESTION, ["red", "two"], top=0, text="all").text_maps["gradient-x-embedding"]
    torch.testing.assert_close(contrasted, named[0] - named[1])


def test_log_probabilities_can_be_differentiated_too(task: VQA, photo: Image.Image) -> None:
    explanation = task.explain(photo, QUESTION, ["dog"], top=0, score="log-probability", methods=["gradcam-no-relu"])
    plain = logits(task, photo, [2, 3, 4, 5, 6, 4, 7])
    torch.testing.assert_close(explanation.scores, plain.log_softmax(0)[2:3])
    with pytest.raises(InputError, match="unknown score 'odds'; there are: 'logit', 'log-probability'"):
        task.explain(photo, QUESTION, score="odds")


def test_maps_are_those_of_autograd(task: VQA, photo: Image.Image) -> None:
    explanation = task.explain(photo, QUESTION, ANSWERS, top=0, layers=["cnn.3"])
    features = task.answerer.encode(task.prepare(photo).inputs["image"]).detach().double().requires_grad_()
    model = copy.deepcopy(task.answerer).double()
    for number, answer in enumerate(ANSWERS):
        score = model.decode(features, torch.tensor([[2, 3, 4, 5, 6, 4, 7]]))[0, number]
        (gradient,) = torch.autograd.grad(score, features)
        expected = (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu()[0].float()
        torch.testing.assert_close(explanation.map(answer), expected)


def test_an_unknown_answer_is_never_replaced(task: VQA, photo: Image.Image) -> None:
    for asked, message in {
        "yellow and red": "'yellow and red' is not among the model's 5 answers; closest: 'yellow', 'red'",
        "yelow": "'yelow' is not among the model's 5 answers; closest: 'yellow'",
        "ice": "'ice' is not among the model's 5 answers; closest: 'ice cream'",
        "2": "'2' is not among the model's 5 answers; closest: 'two'",
        "4": "'4' is not among the model's 5 answers",
        "": "'' is not among the model's 5 answers",
    }.items():
        with pytest.raises(TargetError) as caught:
            task.explain(photo, QUESTION, [asked])
        assert str(caught.value) == message
    assert task.target(4).label == "two", "a number that is no text counts from 0"
    with pytest.raises(TargetError, match="'red' cannot be held against itself: name another answer"):
        task.explain(photo, QUESTION, versus=[("red", "Red")])
    for nothing in ((), None):
        with pytest.raises(TargetError, match="no answer to explain"):
            task.explain(photo, QUESTION, nothing, top=0, versus=nothing)
    with pytest.raises(InputError, match=r"top is a whole number, not 1\.5"):
        task.explain(photo, QUESTION, top=1.5)
    for pairs in (("red", "yellow"), [("red",)], 3.5):
        with pytest.raises(InputError, match="versus is one answer for all targets, or pairs of them"):
            task.explain(photo, QUESTION, versus=pairs)


def test_yes_and_no_are_not_offered_anything_else(task: VQA) -> None:
    with pytest.raises(TargetError) as caught:
        task.target("yes")
    assert str(caught.value) == (
        "'yes' is not among the model's 5 answers: it was not taught to say yes or no; ask what, who, where or how many"
    )


def test_one_answer_that_all_are_held_against(task: VQA, photo: Image.Image) -> None:
    explanation = task.explain(photo, QUESTION, ["dog", "two"], top=5, versus="red")
    labels = [target.label for target in explanation.targets]
    assert sorted(labels) == sorted(f"{name} rather than red" for name in task.labels if name != "red")
    pair = task.explain(photo, QUESTION, top=0, versus=[("dog", "red")])
    torch.testing.assert_close(explanation.map("dog rather than red"), pair.map(0))


def test_questions_that_cannot_be_read(task: VQA, photo: Image.Image) -> None:
    with pytest.raises(InputError, match="the question '  ' is empty; ask something"):
        task.explain(photo, "  ")
    with pytest.raises(InputError, match="the model knows no word of the question '\\?!'"):
        task.explain(photo, "?!")
    with pytest.raises(InputError, match=r"2 question\(s\) for 1 photo\(s\)"):
        task.explain(photo, [QUESTION, QUESTION])


def test_a_batch_equals_its_photos_one_by_one(task: VQA, photo: Image.Image) -> None:
    questions = ["how many", QUESTION]
    photos = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    together = task.explain(photos, questions, ["dog"], text="all")
    for found, one, question in zip(together, photos, questions, strict=True):
        alone = task.explain(one, question, ["dog"], text="all")
        assert found.targets == alone.targets
        assert found.words == alone.words
        torch.testing.assert_close(found.scores, alone.scores)
        torch.testing.assert_close(found.text_maps, alone.text_maps)
        for key in alone.maps:
            torch.testing.assert_close(found.maps[key], alone.maps[key])


@pytest.mark.parametrize("architecture", [DeeperLSTM, CoAttention])
def test_the_bundled_architectures(architecture: Any, photo: Image.Image) -> None:
    torch.manual_seed(0)
    model = architecture(Vocabulary([*SPECIAL, *WORDS]), ANSWERS).eval()
    task = VQA(model, Preprocess(resize=(96, 96), mean=(0.5,) * 3, std=(0.5,) * 3), layer="encoder.smooth")
    attends = architecture is CoAttention
    methods = ["gradcam", "gradcam++", *(["attention"] if attends else [])]
    explanation = task.explain(photo, "what is the zebra", ["two"], methods=methods, text="all")
    assert explanation.maps[MapKey("encoder.smooth", "gradcam")].shape[1:] == (3, 3)
    assert explanation.provenance["unknown_words"] == ["zebra"]
    assert explanation.text_maps["integrated-gradients"].shape == (len(explanation), 4)
    if attends:
        own = explanation.map(0, method="attention")
        torch.testing.assert_close(own.sum(), torch.tensor(1.0))
    with pytest.raises(InputError, match="the model knows no word of the question 'zebra'"):
        task.explain(photo, "zebra")
