"""The training recipe on a toy world made here, and for a moment on real photos."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.tasks.captioning.cache import augment, normalize
from mmexplain.tasks.captioning.detection import detectable_words, pool_scores, word_presence
from mmexplain.tasks.captioning.encoder import GridEncoder
from mmexplain.tasks.captioning.encoder_training import cosine, dense_strides, trainable
from mmexplain.tasks.captioning.flickr8k import load_annotations
from mmexplain.tasks.captioning.training import main
from mmexplain.tasks.captioning.vocabulary import Vocabulary
from mmexplain.tasks.captioning.weights import load_captioner

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 230)}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of one colour on grey, in the layout of Flickr8k."""
    root = tmp_path_factory.mktemp("toy")
    (root / "images").mkdir()
    generator = np.random.default_rng(0)
    records = []
    for number in range(18):
        colour = list(COLOURS)[number % 3]
        x, y = generator.integers(0, 60, 2).tolist()
        pixels = np.full((100, 100, 3), 128, np.uint8)
        pixels[y : y + 40, x : x + 40] = COLOURS[colour]
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        tokens = ["A", colour, "square", "on", "grey", "."]
        records.append(
            {
                "file": f"{number}.png",
                "split": ("train", "train", "train", "train", "dev", "test")[number // 3],
                "orig_w": 100,
                "orig_h": 100,
                "captions": [" ".join(tokens)] * 5,
                "boxes": {"7": [[x, y, x + 40, y + 40]]},
                "nobox": {},
                "entities": [{"tokens": tokens, "phrases": [[0, 2, "7", "other"], [4, 4, "0", "notvisual"]]}] * 5,
            }
        )
    with gzip.open(root / "annotations.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(record) + "\n" for record in records)
    return root


def test_annotations_become_fractions_and_words(toy: Path) -> None:
    photo = load_annotations(toy)[0]
    (phrase,) = photo.sentences[0].phrases  # the chain "0" has no box
    assert photo.sentences[0].words == ("a", "red", "square", "on", "grey")
    assert (phrase.first, phrase.last, phrase.kind) == (0, 2, "other")
    x0, y0, x1, y1 = phrase.boxes[0]
    assert x1 - x0 == pytest.approx(0.4) and y1 - y0 == pytest.approx(0.4)


def test_which_words_are_detected(toy: Path) -> None:
    photos = load_annotations(toy)
    vocabulary = Vocabulary.build((text for photo in photos for text in photo.captions), 1)
    tokens = detectable_words(photos, vocabulary, min_photos=1)
    assert {vocabulary.tokens[token] for token in tokens} == {"red", "green", "blue", "square", "grey"}
    presence = word_presence(photos[:1], vocabulary, tokens)
    said = {vocabulary.tokens[token] for token, here in zip(tokens, presence[0], strict=True) if here}
    assert said == {"red", "square", "grey"}


def test_pooled_scores_lie_between_mean_and_maximum() -> None:
    scores = torch.randn(2, 3, 4, 5)
    pooled = pool_scores(scores)
    assert (pooled >= scores.mean((2, 3))).all() and (pooled <= scores.amax((2, 3))).all()
    assert torch.allclose(pool_scores(torch.full((1, 1, 3, 3), 2.0)), torch.tensor(2.0))


def test_augmentation_is_repeatable_and_stays_in_range() -> None:
    images = torch.randint(0, 256, (4, 3, 50, 50), dtype=torch.uint8)
    first, again = (augment(images, 64, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (4, 3, 64, 64)
    assert first.min() >= -127 / 128 - 1e-5 and first.max() <= 1 + 1e-5
    white = normalize(torch.full((1, 3, 50, 50), 255, dtype=torch.uint8), 64)
    assert torch.allclose(white, torch.tensor(1.0))


def test_dense_strides_change_the_speed_only() -> None:
    encoder = GridEncoder()
    features = torch.randn(1, 40, 9, 12)
    with torch.no_grad():
        plain = encoder.middle(features)
        with dense_strides(encoder):
            dense = encoder.middle(features)
        after = encoder.middle(features)
    assert torch.allclose(plain, dense, atol=1e-5) and torch.equal(plain, after)


def test_what_of_the_encoder_is_trained() -> None:
    encoder = GridEncoder()
    chosen = {id(parameter) for parameter in trainable(encoder)}
    names = {name for name, parameter in encoder.named_parameters() if id(parameter) in chosen}
    assert {name for name, parameter in encoder.named_parameters() if parameter.requires_grad} == names
    assert "conv_head.weight" in names and "blocks.3.0.conv_pw.weight" in names
    assert not any(name.endswith("conv_dw.weight") or name.startswith(("conv_stem", "blocks.2")) for name in names)


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [cosine(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == 1.0 and factors[-1] < 0.01


def run(data: Path, out: Path, architecture: str, *more: str) -> dict[str, object]:
    command = f"--data {data} --out {out} --architecture {architecture} --size 64 --versions 1 --encoder-epochs 1"
    assert main([*command.split(), *more]) == 0
    card: dict[str, object] = json.loads((out / f"{architecture.replace('-', '_')}.json").read_text())
    return card


@pytest.mark.parametrize("architecture", ["show-attend-tell", "show-and-tell"])
def test_training_writes_a_model_and_its_card_and_resumes(
    architecture: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = run(toy, tmp_path, architecture, "--epochs", "1")
    path = tmp_path / f"{architecture.replace('-', '_')}.safetensors"
    model = load_captioner(path)
    assert model.architecture == architecture and model.input_size == 64
    scores = card["scores"]
    assert isinstance(scores, dict)
    assert set(scores["captions"]) >= {"bleu-1", "bleu-4", "shuffled"}
    maps = {"grad-cam", "grad-cam-logit", "centre", "random"}
    assert maps | ({"attention"} if architecture == "show-attend-tell" else set()) <= set(scores["grounding"])
    assert scores["grounding"]["words"] == {"all": 15, "other": 15}
    capsys.readouterr()
    run(toy, tmp_path, architecture, "--epochs", "2")
    told = capsys.readouterr().out
    assert "encoder: already trained" in told and "epoch 2:" in told and "epoch 1:" not in told


def test_a_folder_without_photos_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path), "--architecture", "show-and-tell"]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_training_on_real_photos(data_dir: Path, tmp_path: Path) -> None:
    card = run(data_dir / "flickr8k", tmp_path, "show-attend-tell", "--epochs", "1", "--limit", "6")
    scores = card["scores"]
    assert isinstance(scores, dict) and scores["grounding"]["words"]["all"] > 20
