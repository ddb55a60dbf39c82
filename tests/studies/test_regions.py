"""Region captions: data, maps held against a slow reference, the statistics on made-up numbers, and the verb."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import InputError
from mmexplain.evaluate.intervals import mean, ratio
from mmexplain.preprocess import Preprocess
from mmexplain.studies.regions.data import Region, RegionPhoto, read_regions
from mmexplain.studies.regions.figures import photos_figure, spread_figure
from mmexplain.studies.regions.maps import (
    CENTRE,
    MOVED,
    OWN,
    STRANGER,
    UNIFORM,
    Lying,
    blur,
    known_regions,
    measure,
    moved,
    region_mask,
    strange_phrases,
)
from mmexplain.studies.regions.study import regions, study_of
from mmexplain.tasks.captioning import CaptionerAdapter, Captioning, WordList
from mmexplain.tasks.registry import load
from tests.command_line import record, refusal, run
from tests.evaluate.objects import lines, photo

pytest_plugins = ["tests.command_line_fixtures"]

WORDS = ["<end>", "<unk>", "a", "red", "green", "ball", "block"]
LEFT_TOP = (0.0, 0.0, 0.5, 0.5)


class Colours(CaptionerAdapter):
    """A word for a colour is as likely as the photo is of that colour; the logit's map is the colour itself."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary = WordList(WORDS, end=0)
        self.see = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.dirac_(self.see.weight)

    def encode(self, images: Tensor) -> Tensor:
        features: Tensor = self.see(images)
        return features

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        means = features.mean((2, 3))
        logits = F.pad(means[:, :2], (3, 2))
        return logits[:, None].expand(-1, tokens.shape[1], -1)


class Speaker(Colours):
    """A captioner whose words depend on those before."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())  # type: ignore[assignment]
        self.read, self.embed = nn.Linear(8, 12), nn.Embedding(len(WORDS), 12)
        self.lstm, self.speak = nn.LSTM(12, 12, batch_first=True), nn.Linear(12, len(WORDS))

    def decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        start = self.read(features.mean((2, 3)))[:, None]
        logits: Tensor = self.speak(self.lstm(torch.cat([start, self.embed(tokens[:, :-1])], 1))[0])
        return logits


def captioning(model: nn.Module, size: int) -> Captioning:
    plain = Preprocess(resize=(size, size), mean=(0.0,) * 3, std=(1.0,) * 3)
    return Captioning(model.eval(), plain, layer="see", model_id="colours")


def painted(background: tuple[int, int, int], block: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> Any:
    """A photo (w, h) whose upper left quarter is a block."""
    image = Image.new("RGB", size, background)
    image.paste(block, (0, 0, size[0] // 2, size[1] // 2))
    return image


@pytest.fixture
def photos() -> list[RegionPhoto]:
    """In the first red is 5 times as strong in the block as outside and green the same; in the second the reverse."""
    red, green = painted((51, 51, 0), (255, 51, 0)), painted((51, 51, 0), (51, 255, 0))
    return [
        RegionPhoto("red", red, (Region("a red block", (LEFT_TOP,), "block"),)),
        RegionPhoto("green", green, (Region("a green ball", (LEFT_TOP,), "ball"),)),
    ]


# -- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    """Two photos of 64 × 64 pixels, squashed from 128 × 96; the second has no boxes."""
    (tmp_path / "images").mkdir()
    entry = {
        "split": "test",
        "orig_w": 128,
        "orig_h": 96,
        "captions": ["A red ball .", "a red ball"],
        "boxes": {"1": [[0, 0, 64, 48], [64, 0, 128, 24]], "2": [[64, 48, 128, 96]]},
        "entities": [
            {"tokens": ["A", "red", "ball", "."], "phrases": [[0, 2, "1", "other"], [3, 3, "2", "other"]]},
            {
                "tokens": ["a", "Red", "ball", "on", "a", "zebra"],
                "phrases": [[0, 2, "1", "other"], [4, 5, "2", "animals"]],
            },
        ],
    }
    records = [{**entry, "file": "0.png"}, {**entry, "file": "1.png", "boxes": {}}]
    for row in records:
        painted((51, 51, 0), (255, 51, 0), (64, 64)).save(tmp_path / "images" / str(row["file"]))
    with gzip.open(tmp_path / "annotations.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in records)
    return tmp_path


def test_phrases_with_boxes_are_regions_each_once(flickr: Path) -> None:
    (found,) = read_regions(flickr)
    ball = Region("a red ball", ((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.25)), "other")
    assert found.regions == (ball, Region("a zebra", ((0.5, 0.5, 1, 1),), "animals"))
    assert found.key == "0.png" and found.image == flickr / "images" / "0.png" and found.shape == (96, 128)
    assert read_regions(flickr, "test", 1)[0].regions == (ball,)
    (known,) = known_regions(captioning(Colours(), 32), [found])
    assert known.regions == (ball,), "'zebra' is no word of the model's"
    mask = region_mask(ball.boxes, (64, 64))
    assert mask[:32, :32].all() and mask[:16, 32:].all() and int(mask.sum()) == 32 * 32 + 16 * 32


def test_names_of_classes_are_phrases_and_all_their_boxes_one_region(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png", ("red", (0, 0, 32, 32)))
    things = [
        ("dog", (0, 0, 32, 16)),
        ("elephant", (0, 0, 64, 64)),
        ("person", (0, 0, 1, 1)),
        ("dog", (32, 48, 32, 16)),
    ]
    (found,) = read_regions(lines(tmp_path, ("a.png", things)))
    dog, elephant, person = found.regions
    assert dog == Region("a dog", ((0, 0, 0.5, 0.25), (0.5, 0.75, 1, 1)), "not a person")
    assert elephant.phrase == "an elephant" and person.kind == "person" and found.shape is None


def test_data_that_cannot_be_used(flickr: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'val'; there are: test"):
        read_regions(flickr, "val")
    with pytest.raises(InputError, match="captions=0"):
        read_regions(flickr, captions=0)
    with pytest.raises(InputError, match="no such file or folder"):
        read_regions(tmp_path / "none")
    photo(tmp_path / "bare" / "images" / "a.png")
    with pytest.raises(InputError, match="holds no photos with boxes"):
        read_regions(tmp_path / "bare")
    bare = lines(tmp_path / "bare", ("a.png", []))
    with pytest.raises(InputError, match=r"none of the 1 photos .* has a phrase with a box"):
        read_regions(bare)
    with pytest.raises(InputError, match="only that has splits"):
        read_regions(bare, "test")


# -- maps -------------------------------------------------------------------------------------------------------------


def test_ratios_that_are_known(photos: list[RegionPhoto]) -> None:
    rows = measure(captioning(Colours(), 32), photos, score="logit")
    assert [(row.photo, row.method, row.of) for row in rows[:5]] == [
        ("red", "gradcam", OWN),
        ("red", "gradcam", STRANGER),
        ("red", "gradcam", MOVED),
        ("red", UNIFORM, OWN),
        ("red", CENTRE, OWN),
    ]
    own, stranger, elsewhere, uniform, centre = rows[:5]
    assert own.ratio == pytest.approx(5) and own.energy == pytest.approx(5 / 8) and own.area == 0.25
    assert stranger.ratio == pytest.approx(1), "green is everywhere the same"
    assert elsewhere.area == 0.25 and elsewhere.ratio < 5
    assert uniform.ratio == 1 and uniform.energy == 0.25
    values = blur((32, 32)).double()
    inside = values[:16, :16].mean() / ((values.sum() - values[:16, :16].sum()) / (3 * 16 * 16))
    assert centre.ratio == pytest.approx(float(inside)) == pytest.approx(1), "all quarters are alike"
    assert [row.ratio for row in rows if row.of == OWN and row.method == "gradcam"] == pytest.approx([5, 5])


def test_the_map_is_of_the_log_probability_of_the_words_without_the_end() -> None:
    torch.manual_seed(3)
    model = Speaker()
    task = captioning(model, 64)
    generator = np.random.default_rng(0)
    noise = [Image.fromarray(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(2)]
    phrases = ("a red block", "a green ball")
    asked = [RegionPhoto(p, image, (Region(p, (LEFT_TOP,)),)) for p, image in zip(phrases, noise, strict=True)]
    rows = measure(task, asked, ["gradcam", "guided-gradcam"])
    assert not any(parameter.grad is not None for parameter in model.parameters())
    for of, said, seen in ((OWN, 0, 0), (STRANGER, 1, 0), (OWN, 1, 1), (STRANGER, 0, 1)):
        tokens = torch.tensor([[WORDS.index(word) for word in phrases[said].split()]])
        features = model.encode(task.prepare(noise[seen]).inputs["image"]).detach().requires_grad_()
        logs = model.decode(features, tokens).log_softmax(-1).gather(2, tokens[..., None]).sum()
        (gradient,) = torch.autograd.grad(logs, features)
        cam = (gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu()
        heat = F.interpolate(cam, (48, 64), mode="bilinear").detach()[0, 0].tolist()
        parts: tuple[list[float], list[float]] = ([], [])
        for y, line in enumerate(heat):
            for x, value in enumerate(line):
                parts[y < 24 and x < 32].append(value)
        expected = (sum(parts[1]) / len(parts[1])) / (sum(parts[0]) / len(parts[0]))
        (row,) = [r for r in rows if (r.photo, r.method, r.of) == (phrases[seen], "gradcam", of)]
        assert row.ratio == pytest.approx(expected, rel=1e-4)
    assert {row.method for row in rows} == {"gradcam", "guided-gradcam", UNIFORM, CENTRE}


def test_phrases_of_other_photos_share_no_word_and_a_seed_gives_the_same(photos: list[RegionPhoto]) -> None:
    blue = RegionPhoto("blue", None, tuple(Region(f"the {word}", (LEFT_TOP,)) for word in ("red", "sky", "it")))
    many = [*photos, blue, RegionPhoto("last", None, (Region("a sea", (LEFT_TOP,)),))]
    drawn = {seed: strange_phrases(many, seed) for seed in range(20)}
    assert [len(row) for row in drawn[0]] == [1, 1, 3, 1] and strange_phrases(many, 3) == drawn[3]
    first = {rows[0][0] for rows in drawn.values()}
    assert first == {"a green ball", "the sky", "a sea"}, "'the red' shares a word, 'the it' says nothing"
    with pytest.raises(InputError, match="take more photos"):
        strange_phrases(photos[:1], 0)


@given(st.integers(0, 5), st.integers(0, 7), st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_a_moved_box_stays_whole_and_in_the_photo(top: int, left: int, tall: int, wide: int, seed: int) -> None:
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[top : top + tall, left : left + wide] = True
    found = moved(mask, np.random.default_rng(seed))
    y, x = (found.any(1 - axis).nonzero().flatten() for axis in (0, 1))
    assert found.sum() == mask.sum() == len(y) * len(x), "a rectangle of the same area"
    assert len(y) == y[-1] - y[0] + 1 and len(x) == x[-1] - x[0] + 1, "that no edge has cut in two"


def test_a_box_moves_to_every_place_alike() -> None:
    mask, random = torch.tensor([[False, True, True, False, False]]), np.random.default_rng(0)
    places = [int(moved(mask, random)[0].nonzero()[0]) for _ in range(2000)]
    assert np.bincount(places).tolist() == pytest.approx([500] * 4, abs=80)
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    assert moved(nothing, random).equal(nothing)


# -- statistics -------------------------------------------------------------------------------------------------------


def test_ratio_of_means() -> None:
    found = ratio([1, 2, math.nan, 9], [1, 3, 5, 0], ["a", "a", "b", "c"])
    assert found.value == 12 / 4 and (found.rows, found.items, found.undefined) == (3, 2, 1)
    assert math.isnan(found.low), "too few items"
    values, items = list(np.random.default_rng(0).random(60)), [str(n // 3) for n in range(60)]
    plain, same = mean(values, items, seed=4), ratio(values, [1.0] * 60, items, seed=4)
    assert (same.value, same.low, same.high) == (plain.value, plain.low, plain.high)
    assert math.isnan(ratio([], [], []).value) and math.isnan(ratio([1], [0], ["a"]).value)


def made_up(own: list[float], stranger: list[float], elsewhere: list[float]) -> list[Lying]:
    """A region of a quarter of each photo, with such ratios."""
    rows = []
    for number, numbers in enumerate(zip(own, stranger, elsewhere, strict=True)):
        named = [
            *zip(["gradcam"] * 3, (OWN, STRANGER, MOVED), numbers, strict=True),
            (UNIFORM, OWN, 1.0),
            (CENTRE, OWN, 2.0),
        ]
        for method, of, value in named:
            rows.append(Lying(str(number), "a dog", "ab"[number % 2], method, of, value, value / (value + 3), 0.25))
    return rows


def test_tables_and_controls_by_hand() -> None:
    own = [3.0, 1.0, 8.0, 0.5, 2.0, 4.0, 6.0, math.nan, 3.0, 2.0, 5.0, 7.0]
    study = study_of(made_up(own, [0.5] * 12, [3.0] * 12), {"model": "m", "methods": ["gradcam"]}, 12, 1.0)
    heads, (line, stranger, _, centre, uniform) = study.tables[0].heads, study.tables[0].rows
    found: dict[str, Any] = dict(zip(heads, line, strict=True))
    defined = [value for value in own if value == value]
    assert (
        found["ratio"].value == pytest.approx(41.5 / 11) and found["regions"] == 11 and found["paper"] == "3.27 ± 0.18"
    )
    assert found["s.e."] == pytest.approx(np.std(defined, ddof=1) / 11**0.5) and found["median"] == 3
    assert found["ratio > 1, %"].value == pytest.approx(9 / 11), "1 is not above 1"
    shares = [value / (value + 3) for value in defined]
    expected = np.mean([share / 0.25 for share in shares]) / np.mean([(1 - share) / 0.75 for share in shares])
    assert found["ratio of means"].value == pytest.approx(expected)
    assert centre[2].value == 2 and uniform[2].value == 1 and uniform[5].value == pytest.approx(1)
    assert stranger[-1] is None and uniform[-1] == "1.0"
    kinds = study.tables[1]
    assert [row[:3] for row in kinds.rows] == [["a", 6, 0.25], ["b", 6, 0.25]]
    assert kinds.rows[0][3].value == pytest.approx((3 + 8 + 2 + 6 + 3 + 5) / 6) and kinds.rows[0][4].value == 0.5
    against_stranger, against_moved, flat = study.controls
    assert "95.5 [86.4, 100.0] % of 11 regions" in against_stranger.found, "10 wins and a tie"
    assert against_stranger.held and flat.held and not against_moved.held, "5 of 11, and 2 ties"
    assert not study.held


def test_controls_fail_where_the_phrase_makes_no_difference() -> None:
    same = [float(n) for n in range(1, 21)]
    study = study_of(made_up(same, same, same), {"model": "m", "methods": ["gradcam"]}, 20, 1.0)
    assert [control.held for control in study.controls] == [False, False, True]
    bent = [
        row if row.method != UNIFORM else Lying(*list(vars(row).values())[:5], 1.01, 0.25, 0.25)
        for row in made_up(same, same, same)
    ]
    assert not study_of(bent, {"model": "m", "methods": ["gradcam"]}, 20, 1.0).controls[2].held


def test_the_study_of_a_captioner(photos: list[RegionPhoto]) -> None:
    task, told = captioning(Colours(), 32), []
    unknown = RegionPhoto("zebra", None, (Region("a zebra", (LEFT_TOP,)),))
    study, rows = regions(task, [*photos, unknown], score="logit", progress=lambda *done: told.append(done))
    assert study.items == 2 and told == [(2, 2)] and len(rows) == 10
    assert study.notes[0].startswith("1 of 3 phrases hold a word")
    assert not study.controls[0].held and "of 2 regions; too few photos to tell" in study.controls[0].found
    assert study.settings == {"model": "colours", "methods": ["gradcam"], "layer": "see", "score": "logit", "seed": 0}
    assert regions(task, photos, score="logit")[1] == rows, "the same seed"
    with pytest.raises(InputError, match="knows the words of none of the 1 phrases"):
        regions(task, [unknown])
    with pytest.raises(InputError, match="limit=0"):
        regions(task, photos, limit=0)
    with pytest.raises(InputError, match="use 'show-attend-tell'"):
        regions(nn.Linear(1, 1), photos)


# -- figures ----------------------------------------------------------------------------------------------------------


def test_figures_show_what_was_measured(photos: list[RegionPhoto]) -> None:
    axes = spread_figure(made_up([2.0, 4.0, 0.0], [1.0] * 3, [1.0] * 3)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gradcam", STRANGER, MOVED, CENTRE]
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert medians == [2, 1, 1, 2] and [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"] == [
        3.27
    ]
    page = photos_figure(captioning(Colours(), 32), photos, score="logit").axes[0]
    texts = [text.get_text() for text in page.texts]
    assert texts[1:] == ["a red block", "5.0", "a green ball", "5.0"]
    assert len(page.images) == 4 and len(page.patches) == 8, "two photos, two maps; a box on each, drawn twice"
    with pytest.raises(InputError, match="knows the words of none"):
        photos_figure(captioning(Colours(), 32), [])


# -- the verb ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    photo(folder / "images" / "a.png", ("red", (0, 0, 32, 32)))
    photo(folder / "images" / "b.png", ("green", (32, 32, 64, 64)))
    return lines(folder, ("a.png", [("dog", (0, 0, 32, 32))]), ("b.png", [("cat", (32, 32, 32, 32))]))


def test_the_verb_prints_and_writes(coco: Path, captioner: str, tmp_path: Path) -> None:
    told = record(
        "study", "regions", "--data", coco, "--model", captioner, "--device", "cpu", "--out", tmp_path / "out"
    )
    assert [Path(file).name for file in told["files"]] == [
        "study.json",
        "study.md",
        "study.png",
        "photos.png",
        "regions.jsonl",
    ]
    assert told["name"] == "regions" and told["items"] == 2 and told["settings"]["score"] == "log-probability"
    rows = [json.loads(line) for line in (tmp_path / "out" / "regions.jsonl").read_text().splitlines()]
    assert [row["phrase"] for row in rows] == ["a dog"] * 5 + ["a cat"] * 5
    for file in told["files"][2:4]:
        with Image.open(file) as image:
            assert min(image.size) > 100
    shown = run("study", "regions", "--data", coco, "--model", captioner, "--device", "cpu", "--score", "logit")
    assert (
        shown.exit_code == 0
        and "3.27 ± 0.18" in shown.stdout
        and "control held: The ratio of a uniform" in shown.stdout
    )


def test_the_verb_refuses(coco: Path, captioner: str, classifier: str, tmp_path: Path) -> None:
    assert "no such file or folder" in refusal("study", "regions", "--data", tmp_path / "none")
    told = refusal("study", "regions", "--data", coco, "--model", classifier, "--device", "cpu")
    assert "caption" in told and "three.safetensors" in told
    (tmp_path / "file").touch()
    assert "is no folder" in refusal("study", "regions", "--data", coco, "--out", tmp_path / "file")
    one = refusal("study", "regions", "--data", coco, "--model", captioner, "--device", "cpu", "--limit", 1)
    assert "take more photos" in one
    assert run("study", "regions", "--data", coco, "--limit", 0).exit_code == 2


def test_phrases_of_real_photos_lie_on_their_boxes(data_dir: Path) -> None:
    task = load("show-attend-tell", device="cpu")
    study, _ = regions(task, read_regions(data_dir / "flickr8k", captions=1), limit=24)
    assert study.controls[0].held and study.controls[2].held, study.markdown()
    own, stranger = (dict(zip(study.tables[0].heads, row, strict=True)) for row in study.tables[0].rows[:2])
    assert own["ratio of means"].low > 1 > stranger["ratio of means"].low and own["median"] > stranger["median"]
