"""Which of the words said before led to each word of a caption."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.errors import MethodError
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.captioning import CaptionerAdapter, Captioning, ShowAndTell, ShowAttendTell, WordList
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary
from mmexplain.tasks.registry import load

WORDS = ["<end>", "a", "red", "dog", "cat", "runs", "on", "the", "grass", "frisbee"]
CAPTION = "a red dog runs on the grass"
INTEGRATED = "integrated-gradients"


class Tiny(CaptionerAdapter):
    """A CNN with an LSTM whose first input is the photo: no start token, and the last word is not embedded."""

    embedding = "embed"
    first_word = 0

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary = WordList(WORDS, end=0)
        self.cnn = nn.Sequential(nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())
        self.see, self.embed = nn.Linear(8, 12), nn.Embedding(len(WORDS), 12)
        self.lstm, self.speak = nn.LSTM(12, 12, batch_first=True), nn.Linear(12, len(WORDS))

    def encode(self, images: Tensor) -> Tensor:
        features: Tensor = self.cnn(images)
        return features

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        photo = self.see(features.mean((2, 3)))[:, None]
        hidden, _ = self.lstm(torch.cat([photo, self.embed(tokens[:, :-1])], 1))
        logits: Tensor = self.speak(hidden)
        return logits


def bundled(architecture: Any) -> nn.Module:
    model: nn.Module = architecture(Vocabulary([*SPECIAL, *WORDS[1:]]), hidden=16, embedding=16)
    return model.double()


@pytest.fixture(params=["tiny", "show-attend-tell", "show-and-tell"])
def task(request: pytest.FixtureRequest) -> Captioning:
    torch.manual_seed(0)
    models = {"tiny": Tiny, "show-attend-tell": ShowAttendTell, "show-and-tell": ShowAndTell}
    model = Tiny().double() if request.param == "tiny" else bundled(models[request.param])
    return Captioning(model.eval(), Preprocess(resize=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3))


@pytest.fixture
def photo() -> Image.Image:
    torch.manual_seed(1)
    return Image.fromarray((torch.rand(48, 80, 3) * 255).byte().numpy())


def without(task: Captioning, words: set[int]) -> Captioning:
    """The same model whose embeddings of the words at these places of the caption are zero."""
    other = Captioning(copy.deepcopy(task.model), task.preprocess)
    places = [place + other.captioner.first_word for place in words]

    def silence(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, [place for place in places if place < output.shape[1]]] = 0
        return output

    other.captioner.embed.register_forward_hook(silence)
    return other


def read(found: Any) -> list[list[bool]]:
    values: Tensor = found.text_maps[INTEGRATED]
    return [[not bool(value.isnan()) for value in row] for row in values]


def test_only_words_before_the_target_were_read(task: Captioning, photo: Image.Image) -> None:
    found = task.explain(photo, CAPTION, text="all")
    assert read(found) == [[word < target for word in range(7)] for target in range(7)]
    for name, value in found.text_maps.items():
        assert value.shape == (7, 7), name
        assert torch.equal(value.isnan(), found.text_maps[INTEGRATED].isnan())


def test_spans_contrasts_and_whole_captions(task: Captioning, photo: Image.Image) -> None:
    found = task.explain(photo, CAPTION, words=["dog runs"], versus={"dog": "cat"}, whole=True, text=INTEGRATED)
    assert [target.kind for target in found.targets] == ["span", "contrast", "caption"]
    assert [sum(row) for row in read(found)] == [2, 2, 7]
    assert found.text_errors[INTEGRATED].max() < 0.01


def test_the_parts_add_up_to_what_the_words_change(task: Captioning, photo: Image.Image) -> None:
    """S₀ is the score of the model with the read words silenced, and the start token and the photo left to it."""
    wanted: dict[str, Any] = {"words": ["runs", "dog runs"], "versus": {"grass": "frisbee"}, "whole": True}
    found = task.explain(photo, CAPTION, **wanted, text=INTEGRATED)
    for k, words in enumerate(([0, 1, 2], [0, 1], [0, 1, 2, 3, 4, 5], [*range(7)])):
        silent = without(task, set(words)).explain(photo, CAPTION, **wanted)
        change = found.scores[k] - silent.scores[k]
        assert change.abs() > 1e-3
        torch.testing.assert_close(found.text_maps[INTEGRATED][k].nansum(), change, rtol=0.02, atol=1e-5)


def test_the_first_word_read_nothing(task: Captioning, photo: Image.Image) -> None:
    found = task.explain(photo, CAPTION, words=["a"], text="all")
    assert found.text_maps[INTEGRATED].isnan().all()
    assert found.text_errors[INTEGRATED].tolist() == [0]


def test_captions_of_different_length(task: Captioning, photo: Image.Image) -> None:
    captions = ["the cat", CAPTION]
    together = task.explain([photo, photo.rotate(180)], captions, text="all", whole=True)
    for image, caption, found in zip([photo, photo.rotate(180)], captions, together, strict=True):
        alone = task.explain(image, caption, text="all", whole=True)
        for name, value in found.text_maps.items():
            torch.testing.assert_close(value, alone.text_maps[name], rtol=1e-4, atol=1e-6, equal_nan=True)


def test_a_captioner_that_names_no_text_layer(photo: Image.Image) -> None:
    class Silent(Tiny):
        embedding = None

    task = Captioning(Silent(), Preprocess(resize=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3), model_id="silent")
    with pytest.raises(MethodError, match="model 'silent' reads no text, or does not say which layer"):
        task.explain(photo, CAPTION, text="all")


@pytest.mark.parametrize("model", ["show-attend-tell", "show-and-tell"])
def test_the_trained_captioners_account_for_their_words(model: str, photo: Image.Image) -> None:
    found = load(model, "caption").explain(photo, "a brown dog runs through the grass", whole=True, text="all")
    assert found.text_errors[INTEGRATED].max() < 0.05
    assert found.text_maps[INTEGRATED][1:].nan_to_num().abs().amax(1).min() > 0.01
    # What led to "runs" is "dog" more than "brown".
    runs = found.words_read("runs", INTEGRATED)
    assert runs[2].abs() > runs[1].abs()
