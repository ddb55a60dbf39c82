"""Word grounding: the numbers on maps worked by hand, and the protocol on captioners whose maps are known."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.errors import InputError, MethodError
from mmexplain.evaluate import run
from mmexplain.evaluate.captions import CaptionedPhotos, Given
from mmexplain.evaluate.grounding import WordGrounding
from mmexplain.evaluate.grounding_rows import Thing, centre_row, numbers, random_row
from mmexplain.evaluate.masks import box_mask
from mmexplain.evaluate.metrics.grounding import Sums, best_iou
from mmexplain.evaluate.metrics.pointing import hit
from mmexplain.preprocess import Preprocess
from mmexplain.targets import Target
from mmexplain.tasks.captioning import CaptionerAdapter, Captioning, WordList
from mmexplain.tasks.registry import load

NAN = math.nan
LEFT = torch.from_numpy(box_mask((0, 0, 2, 4), (4, 4)))


class Tiny(CaptionerAdapter):
    """Linear in the grid, with a recurrent part, so that words and captions have maps of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary = WordList(["<end>", "<unk>", "a", "dog", "cat", "ball", "runs"], end=0)
        self.cnn = nn.Sequential(nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())
        self.see, self.embed = nn.Linear(8, 12), nn.Embedding(7, 12)
        self.lstm, self.speak = nn.LSTM(12, 12, batch_first=True), nn.Linear(12, 7)
        self.seen = 0

    def encode(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        features: Tensor = self.cnn(images)
        return features

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        photo = self.see(features.mean((2, 3)))[:, None]
        hidden, _ = self.lstm(torch.cat([photo, self.embed(tokens[:, :-1])], 1))
        logits: Tensor = self.speak(hidden)
        return logits


@pytest.fixture
def task() -> Captioning:
    torch.manual_seed(0)
    plain = Preprocess(resize=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)
    return Captioning(Tiny(), plain, layer="cnn", model_id="tiny")


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    """Two photos of 64 × 48 pixels, whose originals had twice as many on each side."""
    (tmp_path / "images").mkdir()
    records = []
    for number in range(2):
        pixels = torch.randint(0, 255, (48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        Image.fromarray(pixels.numpy()).save(tmp_path / "images" / f"{number}.png")
        records.append(
            {
                "file": f"{number}.png",
                "split": "test",
                "orig_w": 128,
                "orig_h": 96,
                "captions": ["a dog runs", "a zebra runs"],
                "boxes": {"1": [[0, 0, 64, 96]], "2": [[64, 0, 128, 48]]},
                "entities": [
                    {
                        "tokens": ["A", "dog", "bites", "a", "cat", "."],
                        "phrases": [[0, 1, "1", "animals"], [3, 4, "2", "animals"]],
                    },
                    {"tokens": ["A", "dog", "runs"], "phrases": [[0, 1, "1", "animals"]]},
                    {"tokens": ["A", "zebra", "runs"], "phrases": [[0, 1, "1", "animals"]]},
                ],
            }
        )
    with gzip.open(tmp_path / "annotations.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return tmp_path


def slow_iou(values: list[list[float]], mask: Tensor, levels: int) -> float:
    """Straight from the definition, pixel by pixel."""
    seen = [v for row in values for v in row if not math.isnan(v)]
    low, high = min(seen), max(seen)
    best = 0.0
    for level in range(levels):
        both = either = 0
        for y, row in enumerate(values):
            for x, v in enumerate(row):
                scaled = 0.0 if high == low or math.isnan(v) else (v - low) / (high - low)
                inside = not math.isnan(v) and scaled >= level / levels
                both += inside and bool(mask[y, x])
                either += inside or bool(mask[y, x])
        best = max(best, both / either)
    return best


# -- metrics ------------------------------------------------------------


def test_a_hit_is_a_peak_in_the_mask_and_a_flat_map_misses() -> None:
    assert hit((1, 3), LEFT.numpy()) == 1 and hit((2, 3), LEFT.numpy()) == 0
    assert hit(None, torch.ones(4, 4).bool().numpy()) == 0


def test_iou_of_a_perfect_map_a_flat_one_and_an_empty_mask() -> None:
    assert best_iou(LEFT.float(), LEFT) == 1
    assert best_iou(torch.full((4, 4), 3.0), LEFT) == 0.5, "a flat map's only level set is the photo"
    assert best_iou(1 - LEFT.float(), LEFT) == 0.5, "so is the best one of a map that is wrong"
    assert math.isnan(best_iou(LEFT.float(), torch.zeros(4, 4).bool()).item())
    one = torch.zeros(4, 4).bool()
    one[2, 1] = True
    assert best_iou(one.float() - 7, one) == 1 and best_iou(torch.ones(4, 4), one) == 1 / 16


def test_iou_by_hand_with_unseen_pixels() -> None:
    maps = torch.tensor([[4.0, 3.0], [NAN, 0.0]])
    mask = torch.tensor([[True, False], [True, False]])
    # level sets {4, 3, 0}, {4, 3}, {4}: 1/4, 1/3, 1/2; the unseen pixel of the mask is always missed
    assert best_iou(maps, mask) == 0.5
    for nothing in (torch.full((2, 2), NAN), torch.tensor([[math.inf, 1.0], [NAN, 0.0]])):
        assert best_iou(nothing, mask).isnan() and Sums.of(nothing, mask).energy().isnan()
        assert Sums.of(nothing, mask).inside_outside().isnan()


@pytest.mark.parametrize("levels", [3, 20])
def test_iou_against_the_definition(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    maps = torch.randint(-6, 7, (5, 7, 6), generator=generator).float()
    maps[0, :2] = NAN
    maps[1] = 0.5 * (maps[1] > 0)
    masks = torch.rand(5, 7, 6, generator=generator) > 0.6
    found = best_iou(maps.double(), masks, levels)
    expected = [slow_iou(m.double().tolist(), mask, levels) for m, mask in zip(maps, masks, strict=True)]
    assert found.tolist() == pytest.approx(expected)
    assert torch.stack([best_iou(m.double(), mask, levels) for m, mask in zip(maps, masks, strict=True)]).equal(found)


def test_inside_against_outside_and_the_share_of_the_energy() -> None:
    maps = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    mask = torch.tensor([[True, False], [True, False]])
    sums = Sums.of(maps, mask)
    assert sums.inside_outside() == 2 and sums.energy() == pytest.approx(4 / 6)
    assert Sums.of(torch.full((4, 4), 0.25), LEFT).inside_outside() == 1
    assert Sums.of(torch.tensor([[3.0, 1.0], [-5.0, NAN]]), mask).inside_outside() == 1.5, (
        "negative is 0, NaN is not there"
    )
    nothing, everything = torch.zeros(2, 2), torch.ones(2, 2).bool()
    assert Sums.of(maps * mask, mask).inside_outside() == 100, "nothing outside: the most"
    for values, held in ((nothing, mask), (maps, everything), (maps, ~everything)):
        assert math.isnan(Sums.of(values, held).inside_outside().item())
    assert math.isnan(Sums.of(nothing, mask).energy().item()) and Sums.of(maps * mask, mask).energy() == 1
    assert numbers(nothing[None], mask[None]) == [{"iou": 0.5, "inside_outside": None, "energy": None}]


def test_controls_that_need_no_model() -> None:
    thing = Thing.of([(10, 10, 20, 20)], (40, 40), (80, 80))
    assert int(thing.mask.sum()) == 100 and int(thing.wide.sum()) == 100 + 4 * 70 + 4 * 37, (
        "7 rows (15 px are 7.5) on each side, in each corner the 37 of a, b ≥ 1 with a² + b² < 7.5²"
    )
    assert centre_row(thing) == {"method": "centre", "pointing": 0, "pointing_15px": 1}
    random = random_row(thing)
    assert random["pointing"] == 100 / 1600 and random["inside_outside"] == 1
    uniform = numbers(torch.ones(1, 40, 40), thing.mask[None])[0]
    assert {name: random[name] for name in uniform} == pytest.approx(uniform)
    whole = Thing.of([(0, 0, 40, 40)], (40, 40), (40, 40))
    assert random_row(whole)["inside_outside"] is None and random_row(whole)["iou"] == 1


# -- maps of captions ------------------------------------------------------------


def given(task: Captioning) -> list[Given]:
    tokens = ((2, 3, 6), (2, 4), (2, 5, 6, 2, 3))
    found = []
    for number, row in enumerate(tokens):
        words = [Target(task.captioner.vocabulary.tokens[t], "word", (t,), i) for i, t in enumerate(row)]
        found.append(Given(number % 2, row, (*words[1:], Target("whole", "caption", (*row, 0), 0))))
    return found


@pytest.mark.parametrize("methods", [["gradcam", "gradcam++", "hirescam"], ["gradcam", "occlusion(patch=32)"]])
def test_maps_from_features_are_those_of_the_task(task: Captioning, flickr: Path, methods: list[str]) -> None:
    photos = [flickr / "images" / f"{number}.png" for number in range(2)]
    encoded = CaptionedPhotos(task, photos, methods)
    assert encoded.shared == (len(methods) == 3)
    explained = encoded.explain(given(task), seed=0)
    for caption, found in zip(given(task), explained, strict=True):
        text = " ".join(task.captioner.vocabulary.tokens[token] for token in caption.tokens)
        alone = task.explain(photos[caption.photo], text, whole=True, methods=methods, seed=0)
        for method in methods:
            for target in caption.targets:
                place = next(i for i, t in enumerate(alone.targets) if (t.kind, t.index) == (target.kind, target.index))
                expected = alone.map(place, method=method)
                assert found.map(target, method=method) == pytest.approx(expected, abs=1e-6)
        assert found.geometry == alone.geometry


def test_the_encoder_sees_each_photo_once(task: Captioning, flickr: Path) -> None:
    photos = [flickr / "images" / f"{number}.png" for number in range(2)]
    encoded = CaptionedPhotos(task, photos, ["gradcam", "layercam"])
    encoded.explain(given(task))
    assert task.captioner.seen == 2
    deep = CaptionedPhotos(task, photos, ["gradcam"], "cnn.1")
    assert not deep.shared, "the features are not this layer's output"
    assert deep.explain(given(task))[0].maps


# -- the protocol ------------------------------------------------------------


def test_rows_of_every_word_method_and_control(task: Captioning, flickr: Path) -> None:
    protocol = WordGrounding(task, flickr, ["gradcam", "layercam"])
    rows = protocol.measure(protocol.items())
    methods = [row["method"] for row in rows[0] if row["phrase"] == "all"]
    # The zebra is no word of the model's, and its phrase has no other.
    assert {name: methods.count(name) for name in methods} == {
        "gradcam": 3,
        "layercam": 3,
        "centre": 3,
        "random": 3,
        "whole caption": 3,
        "another word": 2,
    }
    assert len(rows[0]) == 2 * len(methods)
    text = "a dog <unk> a cat"
    tokens = (2, 3, 1, 2, 4)
    own = Target("dog", "word", (3,), 1)
    (explanation,) = CaptionedPhotos(task, [flickr / "images" / "0.png"], ["gradcam"]).explain(
        [Given(0, tokens, (own,))]
    )
    heat = explanation.heatmap(own, method="gradcam")
    mask = torch.from_numpy(box_mask((0, 0, 32, 48), (48, 64)))
    row = next(row for row in rows[0] if row["method"] == "gradcam")
    peak = explanation.peak(own, method="gradcam")
    assert row["pointing"] == (0 if peak is None else float(peak[0] < 32)), text
    assert row["energy"] == pytest.approx((heat * mask).sum().item() / heat.sum().item(), abs=1e-5)
    together, alone = rows[1], protocol.measure(protocol.items()[1:])[0]
    assert [list(row) for row in together] == [list(row) for row in alone]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_run_with_fewer_captions(task: Captioning, flickr: Path, tmp_path: Path) -> None:
    result = run(WordGrounding(task, flickr, ["gradcam"], captions=1), tmp_path / "out")
    means = {(line.labels["method"], line.labels["phrase"]): line.means for line in result.lines}
    assert means["random", "animals"]["pointing"].value == pytest.approx((0.5 + 0.25) / 2)
    assert means["gradcam", "all"]["pointing"].rows == 4
    assert "another word: the map" in result.markdown()


def test_words_are_skipped_where_the_model_has_no_token_for_unknown_ones(task: Captioning, flickr: Path) -> None:
    task.captioner.vocabulary.tokens[1] = "bird"
    rows = WordGrounding(task, flickr, ["gradcam"]).measure(WordGrounding(task, flickr, ["gradcam"]).items())
    assert len([row for row in rows[0] if row["method"] == "centre"]) == 2, "'bites' is unknown: 'a dog runs' is left"


def test_what_cannot_be_measured(task: Captioning, flickr: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Flickr8k"):
        run(WordGrounding(task, tmp_path / "none", ["gradcam"]))
    with pytest.raises(InputError, match="no split 'val'; there are: test"):
        run(WordGrounding(task, flickr, ["gradcam"], split="val"))
    with pytest.raises(InputError, match="captions=0"):
        WordGrounding(task, flickr, ["gradcam"], captions=0)
    with pytest.raises(MethodError, match="unknown method"):
        WordGrounding(task, flickr, ["gradkam"])
    classifier: Any = nn.Linear(1, 1)
    with pytest.raises(InputError, match="measures captioners whose tokens are words, and 'Linear' is none"):
        WordGrounding(classifier, flickr, ["gradcam"])
    (flickr / "annotations.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="cannot read"):
        WordGrounding(task, flickr, ["gradcam"]).items()


def test_real_words_of_the_default_captioner(data_dir: Path) -> None:
    task: Any = load("show-attend-tell", device="cpu")
    protocol = WordGrounding(task, data_dir / "flickr8k", ["gradcam", "layercam"])
    assert protocol.methods == ["gradcam", "layercam", "attention"] and len(protocol.items()) == 1000
    result = run(protocol, limit=8)
    found = {line.labels["method"]: line.means for line in result.lines if line.labels["phrase"] == "all"}
    for method in ("gradcam", "layercam"):
        assert found[method]["energy"].value > found["random"]["energy"].value
        assert found[method]["energy"].value > found["another word"]["energy"].value
