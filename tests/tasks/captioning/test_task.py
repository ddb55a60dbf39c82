"""Captioning: targets of words, spans, contrasts and whole captions, scored against plain log-softmax."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.errors import InputError, ModelError, TargetError
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.captioning import (
    CaptionerAdapter,
    Captioning,
    DecoderOutput,
    ShowAndTell,
    ShowAttendTell,
    WordList,
)
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary
from mmexplain.tasks.registry import load

WORDS = ["<end>", "a", "red", "dog", "cat", "runs", "on", "the", "grass", "frisbee"]


class Tiny(CaptionerAdapter):
    """A CNN with an LSTM; the photo is the first input."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary = WordList(WORDS, end=0)
        self.cnn = nn.Sequential(nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())
        self.see, self.embed = nn.Linear(8, 12), nn.Embedding(len(WORDS), 12)
        self.lstm, self.speak = nn.LSTM(12, 12, batch_first=True), nn.Linear(12, len(WORDS))

    def encode(self, images: Tensor) -> Tensor:
        """Features ``[B, 8, h, w]``."""
        features: Tensor = self.cnn(images)
        return features

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Logits."""
        photo = self.see(features.mean((2, 3)))[:, None]
        hidden, _ = self.lstm(torch.cat([photo, self.embed(tokens[:, :-1])], 1))
        logits: Tensor = self.speak(hidden)
        return logits


@pytest.fixture
def task() -> Captioning:
    torch.manual_seed(0)
    plain = Preprocess(resize=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)
    return Captioning(Tiny(), plain, model_id="tiny")


@pytest.fixture
def photo() -> Image.Image:
    torch.manual_seed(1)
    return Image.fromarray((torch.rand(48, 80, 3) * 255).byte().numpy())


def log_probabilities(task: Captioning, photo: Image.Image, caption: str) -> Tensor:
    """[T] log-probabilities of the words of a caption and its end, straight from the model."""
    return logits(task, photo, caption).log_softmax(-1)[0].gather(1, said(caption))[:, 0]


def said(caption: str) -> Tensor:
    """[T, 1] tokens of a caption and its end."""
    return torch.tensor([WORDS.index(word) for word in caption.split()] + [0])[:, None]


def logits(task: Captioning, photo: Image.Image, caption: str) -> Tensor:
    """[1, T, V] logits, straight from the model."""
    with torch.no_grad():
        batch = task.prepare(photo)
        found: Tensor = task.captioner.decode(task.encode(batch.inputs), said(caption).T)
    return found


def test_every_word_is_a_target_with_its_logit_and_probability(task: Captioning, photo: Image.Image) -> None:
    explanation = task.explain(photo, "A red dog runs on the grass.")
    assert explanation.text == "a red dog runs on the grass"
    assert [target.label for target in explanation.targets] == explanation.words
    assert [target.index for target in explanation.targets] == list(range(7))
    assert [t.label for t in explanation.targets if t.content] == ["red", "dog", "runs", "grass"]
    expected = log_probabilities(task, photo, explanation.text)[:7]
    own = logits(task, photo, explanation.text)[0].gather(1, said(explanation.text))[:7, 0]
    torch.testing.assert_close(explanation.scores, own)
    torch.testing.assert_close(explanation.probabilities, expected.exp())
    other = task.explain(photo, "A red dog runs on the grass.", score="log-probability")
    torch.testing.assert_close(other.scores, expected)
    torch.testing.assert_close(other.probabilities, expected.exp())
    assert not torch.allclose(other.map("dog"), explanation.map("dog"))


def test_spans_and_the_whole_caption_sum_log_probabilities(task: Captioning, photo: Image.Image) -> None:
    caption = "a red dog runs on the grass"
    explanation = task.explain(photo, caption, words=["a red dog", "the grass"], whole=True, score="log-probability")
    plain = task.explain(photo, caption, words=["a red dog"], whole=True)
    each = log_probabilities(task, photo, caption)
    assert [(t.kind, t.span) for t in explanation.targets] == [("span", (0, 3)), ("span", (5, 7)), ("caption", (0, 8))]
    torch.testing.assert_close(explanation.scores, torch.stack([each[:3].sum(), each[5:7].sum(), each.sum()]))
    own = logits(task, photo, caption)[0].gather(1, said(caption))[:, 0]
    torch.testing.assert_close(plain.scores, torch.stack([own[:3].sum(), each.sum()]))


def test_map_of_a_span_is_made_of_the_summed_gradient(task: Captioning, photo: Image.Image) -> None:
    """Without its ReLU Grad-CAM is linear in the score: the span's map is the sum of its words' maps."""
    method = ["gradcam-no-relu"]
    caption = "a red dog runs"
    words = task.explain(photo, caption, methods=method)
    span = task.explain(photo, caption, words=["red dog"], methods=method)
    torch.testing.assert_close(span.map(0), words.map(1) + words.map(2), rtol=1e-4, atol=1e-7)


def test_contrast_is_a_difference_at_the_same_place(task: Captioning, photo: Image.Image) -> None:
    explanation = task.explain(photo, "a red dog", words=["dog"], versus={"dog": "cat"}, methods=["gradcam-no-relu"])
    dog = log_probabilities(task, photo, "a red dog")[2]
    cat = log_probabilities(task, photo, "a red cat")[2]
    assert explanation.targets[1].label == "dog rather than cat"
    torch.testing.assert_close(explanation.scores[1], dog - cat)
    rival = task.explain(photo, "a red cat", words=["cat"], methods=["gradcam-no-relu"])
    torch.testing.assert_close(explanation.map(1), explanation.map(0) - rival.map(0), rtol=1e-3, atol=1e-6)


def test_a_contrast_takes_away_a_part_of_the_other(task: Captioning, photo: Image.Image) -> None:
    whole = task.explain(photo, "a red dog", words=["dog"], versus={"dog": "cat"}, methods=["gradcam-no-relu"])
    dog, cat = log_probabilities(task, photo, "a red dog")[2], log_probabilities(task, photo, "a red cat")[2]
    batch = task.prepare(photo)
    tokens = torch.tensor([[task.captioner.vocabulary.tokens.index(word) for word in ("a", "red", "dog")]])
    part = dataclasses.replace(whole.targets[1], weight=0.5)
    with torch.no_grad():
        output = task.decode(task.encode(batch.inputs), {"tokens": tokens})
        torch.testing.assert_close(task.log_probability(output, [[part]])[0, 0], dog - 0.5 * cat)
        torch.testing.assert_close(task.probability(output, [[part]])[0, 0], (dog - cat).sigmoid())


def test_alternatives_are_what_the_search_found(task: Captioning, photo: Image.Image) -> None:
    bundled: Any = load("show-attend-tell", device="cpu")
    found = bundled.alternatives(photo, beam=4)
    assert len(found) >= 4 and [score for _, score in found] == sorted((s for _, s in found), reverse=True)
    assert found[0][0] == bundled.explain(photo, beam=4).text
    with pytest.raises(InputError, match="beam of at least 1"):
        bundled.alternatives(photo, beam=0)
    with pytest.raises(ModelError, match="tells one caption only"):
        task.alternatives(photo)


def test_repeated_words_are_separate_targets(task: Captioning, photo: Image.Image) -> None:
    explanation = task.explain(photo, "the dog runs on the grass", words=["the"])
    assert [target.index for target in explanation.targets] == [0, 4]


def test_captions_of_different_length_in_one_batch(task: Captioning, photo: Image.Image) -> None:
    captions = ["a dog", "the red cat runs on the grass"]
    other = photo.rotate(180)
    together = task.explain([photo, other], captions, strategy="auto")
    for image, caption, explanation in zip([photo, other], captions, together, strict=True):
        alone = task.explain(image, caption, strategy="loop")
        torch.testing.assert_close(explanation.scores, alone.scores)
        for number in range(len(alone)):
            torch.testing.assert_close(explanation.map(number), alone.map(number), rtol=1e-4, atol=1e-7)


def test_the_encoder_runs_once_when_the_model_speaks(task: Captioning, photo: Image.Image) -> None:
    calls: list[int] = []
    task.captioner.cnn.register_forward_hook(lambda *_: calls.append(1))
    layer = ["cnn.3"]
    with torch.no_grad():
        task.captioner.speak.bias[0] = -9.0  # the toy never ends a caption by itself
    explanation = task.explain(photo, max_length=5, layers=layer)
    assert len(explanation.words) == 5
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_photos_take_the_floating_type_of_the_model(task: Captioning, photo: Image.Image, dtype: torch.dtype) -> None:
    other = Captioning(copy.deepcopy(task.model).to(dtype), task.preprocess)
    assert other.prepare(photo).inputs["image"].dtype == dtype
    assert other.default_layer() == "cnn"
    assert other.explain(photo).map().isfinite().all()
    caption = "a red dog runs on the grass"
    expected = task.explain(photo, caption).scores
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(other.explain(photo, caption).scores.float(), expected, atol=tolerance, rtol=0)


def test_what_cannot_be_meant_is_refused(task: Captioning, photo: Image.Image) -> None:
    caption = "a red dog runs on the grass"
    with pytest.raises(TargetError, match="no word was named"):
        task.explain(photo, caption, words=[])
    with pytest.raises(TargetError, match="'dog' cannot be held against itself"):
        task.explain(photo, caption, versus={"dog": "Dog"})
    assert [target.label for target in task.explain(photo, caption, words="red dog").targets] == ["red dog"]
    assert [target.kind for target in task.explain(photo, caption, words=[], whole=True).targets] == ["caption"]


def test_photos_that_become_inputs_of_different_sizes(task: Captioning, photo: Image.Image) -> None:
    task.preprocess = Preprocess(resize=32)
    assert len(task.prepare([photo, photo])) == 2
    with pytest.raises(InputError, match=r"photo 3 becomes an input of 32×53 .* photo 1 one of 53×32"):
        task.prepare([photo, photo, photo.transpose(Image.Transpose.ROTATE_90)])


def test_provenance_tells_the_model_and_the_preprocessing(task: Captioning) -> None:
    record = task.provenance()
    assert json.loads(json.dumps(record)) == record
    assert record["model_class"].endswith("Tiny")
    assert Preprocess.from_dict(record["preprocess"]) == task.preprocess


def test_default_layer_is_the_end_of_the_encoder(task: Captioning) -> None:
    assert task.default_layer() == "cnn"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"caption": "..."}, InputError, "holds no word"),
        ({"caption": "a rde dog"}, TargetError, "'rde' is not among the model's 10 words; closest: 'red'"),
        ({"caption": "a dog", "words": ["cat"]}, TargetError, "'cat' is not in the caption 'a dog'"),
        ({"caption": "a dog", "versus": {"dog": "red cat"}}, TargetError, "cannot change places"),
        ({"caption": "a dog", "versus": {"dog": "zebra"}}, TargetError, "'zebra' is not among"),
        ({"caption": ["a dog", "a cat"]}, InputError, "2 caption"),
        ({"beam": 0}, InputError, "at least 1"),
        ({"score": "odds"}, InputError, "unknown score 'odds'"),
    ],
)
def test_bad_requests(
    task: Captioning, photo: Image.Image, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        task.explain(photo, **options)


@pytest.mark.parametrize("architecture", [ShowAndTell, ShowAttendTell])
def test_bundled_architectures_agree_over_strategies(architecture: Any, photo: Image.Image) -> None:
    torch.manual_seed(0)
    model = architecture(Vocabulary([*SPECIAL, *WORDS[1:]]), hidden=16, embedding=16).eval()
    task = Captioning(model, Preprocess(resize=(96, 96), mean=(0.5,) * 3, std=(0.5,) * 3))
    assert task.default_layer() in ("encoder", "encoder.bn2")
    layers = ["encoder.bn2", "encoder.blocks.5"]
    found = {
        strategy: task.explain(photo, "a red dog runs", strategy=strategy, layers=layers)
        for strategy in ("loop", "vjp", "expand", "auto")
    }
    for explanation in found.values():
        for key, number, value in explanation.each_map():
            expected = found["loop"].map(number, key.layer, key.method)
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_own_attention_is_shown_beside_gradient_maps(photo: Image.Image) -> None:
    torch.manual_seed(0)
    model = ShowAttendTell(Vocabulary([*SPECIAL, *WORDS[1:]]), hidden=16, embedding=16).eval()
    task = Captioning(model, Preprocess(resize=(96, 96), mean=(0.5,) * 3, std=(0.5,) * 3))
    explanation = task.explain(photo, "a red dog", words=["red", "red dog"], methods=["gradcam", "attention"])
    tokens = torch.tensor([[model.vocabulary.index(word) for word in ("a", "red", "dog")]])
    with torch.no_grad():
        output: DecoderOutput = model(task.prepare(photo).inputs["image"], tokens)
    assert output.attention is not None
    torch.testing.assert_close(explanation.map(0, method="attention"), output.attention[0, 1])
    torch.testing.assert_close(explanation.map(1, method="attention"), output.attention[0, 1:3].mean(0))
