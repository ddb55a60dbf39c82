"""The planted case: composites, the linear layer, and the whole of it on made-up photos."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from mmexplain.errors import InputError
from mmexplain.evaluate.data.flickr8k import read_flickr8k
from mmexplain.evaluate.data.scene import Scene, Thing
from mmexplain.studies.bias import bias_figure, planted, planting, training
from mmexplain.studies.bias.composites import LEAST_GROUND, SIDE, Cutout, Ground, compose, cut_out, draw, grounds
from mmexplain.studies.bias.design import BALANCED, CORRELATION, cells
from mmexplain.studies.bias.training import DECAYS, fit, trunk_of
from tests.command_line import record
from tests.evaluate.objects import colours, lines, photo

GREEN, WHITE, RED, BLUE = (40, 160, 60), (240, 240, 245), (220, 40, 30), (30, 60, 220)


# -- composites -------------------------------------------------------------------------------------------------------


def test_objects_are_cut_along_their_outline(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    photo(path, ("red", (0, 0, 50, 100)), size=(100, 100))
    triangle = Thing("dog", (20, 10, 80, 90), polygons=((20, 10, 80, 10, 20, 90),))
    things = (
        triangle,
        Thing("dog", (0, 0, 40, 40)),
        Thing("cup", (0, 0, 90, 90)),
        Thing("cat", (0, 0, 90, 90), crowd=True),
    )
    (found,) = cut_out(Scene("x", path, (100, 100), things), {"dog", "cat"})
    assert found.name == "dog" and found.pixels.shape[1:] == (60, 4) and 79 <= len(found.pixels) <= 80
    assert (found.pixels[..., 3] > 0).sum() == pytest.approx(60 * 80 / 2, rel=0.02)
    assert (found.pixels[:, :30, 0] == 255).all() and (found.pixels[:, 30:, 0] == 0).all()
    with pytest.raises(InputError, match="marked at"):
        cut_out(Scene("x", path, (90, 100), things), {"dog"})


def ground(path: Path, colour: tuple[int, int, int]) -> Ground:
    Image.new("RGB", (SIDE, SIDE), colour).save(path)
    return Ground(path, (0, 0, SIDE, SIDE))


def cutout(colour: tuple[int, int, int], source: str, side: int = 60) -> Cutout:
    pixels = np.full((side, side // 2, 4), 255, dtype=np.uint8)
    pixels[..., :3] = colour
    return Cutout(source, "dog", pixels)


def test_the_mask_is_where_the_object_lies(tmp_path: Path) -> None:
    place, random = ground(tmp_path / "g.png", GREEN), np.random.default_rng(0)
    corners = set()
    for _ in range(20):
        made = compose(cutout(RED, "x"), place, 0, 1, random)
        red = np.asarray(made.image)[..., 0] > 130
        assert (red == made.mask).mean() > 0.999 and (made.label, made.ground, made.source) == (0, 1, "x")
        rows, columns = (np.flatnonzero(made.mask.any(axis)) for axis in (1, 0))
        assert 80 <= len(rows) <= 120 and len(columns) == pytest.approx(len(rows) / 2, abs=1)
        corners.add((rows[0] // 75, columns[0] // 90))
    assert len(corners) >= 4, "anywhere"


def test_all_objects_and_grounds_have_their_turn(tmp_path: Path) -> None:
    objects = [cutout(RED, str(n)) for n in range(3)]
    places = [ground(tmp_path / f"{n}.png", GREEN) for n in range(2)]
    made = draw({0: objects, 1: objects[:1]}, {0: places, 1: places}, {(0, 1): 7, (1, 0): 2}, np.random.default_rng(0))
    assert sorted(Counter(one.source for one in made[:7]).values()) == [2, 2, 3]
    assert [(one.label, one.ground) for one in made] == [(0, 1)] * 7 + [(1, 0)] * 2


def record_of(
    file: str, split: str, kind: str, boxes: list[list[float]], size: tuple[int, int] = (448, 224)
) -> dict[str, Any]:
    tokens = ["a", "dog", "on", kind]
    phrases = [[0, 1, "1", "animals"], [3, 3, "2", "scene"]]
    return {"file": file, "split": split, "orig_w": size[0], "orig_h": size[1], "captions": [" ".join(tokens)] * 2} | {
        "boxes": {"1": boxes, "2": [[0, 0, *size]]},
        "entities": [{"tokens": tokens, "phrases": phrases}] * 2,
    }


def flickr(folder: Path, records: list[dict[str, Any]], colour: dict[str, tuple[int, int, int]]) -> Path:
    (folder / "images").mkdir(parents=True)
    for one in records:
        Image.new("RGB", (SIDE, SIDE), colour[one["captions"][0].split()[-1]]).save(folder / "images" / one["file"])
    with gzip.open(folder / "annotations.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in records)
    return folder


def test_grounds_are_free_squares(tmp_path: Path) -> None:
    """Of photos twice as wide as high, which are stored squashed: a square there is half as wide in the file."""
    records = [
        record_of("half.png", "train", "grass", [[0, 0, 224, 224]]),
        record_of("full.png", "train", "grass", [[0, 0, 448, 200]]),
        record_of("snow.png", "train", "snow", [[0, 0, 10, 10]]),
    ]
    folder = flickr(tmp_path / "f", records, {"grass": GREEN, "snow": WHITE})
    photos = read_flickr8k(folder, "train")
    (found,) = grounds(folder, photos, ("grass",), ("snow",))
    left, top, right, bottom = found.box
    assert found.path.name == "half.png" and left >= 112 and right - left == pytest.approx((bottom - top) / 2, abs=1)
    assert bottom - top >= 221 and found.cut().size == (SIDE, SIDE)
    assert LEAST_GROUND > 24 and not grounds(folder, photos, ("snow",), ("dog",))


# -- the linear layer -------------------------------------------------------------------------------------------------


def test_sets_are_as_biased_as_they_should_be() -> None:
    assert cells(400, CORRELATION) == {(0, 0): 190, (0, 1): 10, (1, 0): 10, (1, 1): 190}
    assert set(cells(400, BALANCED).values()) == {100}


def test_the_layer_is_the_minimum_of_its_loss() -> None:
    """The gradient of the loss is 0 there, and of two weight decays the one that the validation set likes is taken."""
    generator = torch.Generator().manual_seed(0)
    x, unseen = (torch.randn(n, 6, generator=generator) for n in (200, 400))
    rule = torch.tensor([2.0, -1, 0, 0, 0, 0])
    y, told = ((values @ rule + torch.randn(len(values), generator=generator) > 0).long() for values in (x, unseen))
    head, decay = fit(x, y, (unseen, told))
    weight, bias = (value.double().requires_grad_() for value in (head.weight.detach(), head.bias.detach()))
    loss = functional.cross_entropy(functional.linear(x.double(), weight, bias), y) + decay / 2 * weight.square().sum()
    assert all(float(one.abs().max()) < 1e-4 for one in torch.autograd.grad(loss, (weight, bias)))
    assert float((head(unseen).argmax(1) == told).float().mean()) > 0.8
    assert torch.allclose(head.weight[0], -head.weight[1], atol=1e-5), "begun at 0, the two classes mirror each other"
    random_labels = torch.randint(0, 2, (200,), generator=generator)
    assert fit(x, random_labels, (unseen, told.flip(0)))[1] == max(DECAYS)


def test_the_network_is_cut_after_a_stage() -> None:
    import timm

    model = timm.create_model("tf_efficientnet_lite0").eval()
    with torch.no_grad():
        assert trunk_of(model, 5)(torch.zeros(1, 3, 64, 64)).shape == (1, 112, 4, 4)
    with pytest.raises(InputError, match="1 to 7"):
        trunk_of(model, 8)


# -- the whole of it --------------------------------------------------------------------------------------------------


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Animals are red or dark, vehicles blue or dark, on green and white; a network that sees colours, in a grid."""
    entries = []
    for number in range(40):
        file, name = f"{number:02}.png", ("dog", "car")[number % 2]
        blocks = [(("red", "blue")[number % 2], (8, 8, 60, 60))] if number % 4 < 2 else []
        photo(tmp_path / "coco_mini" / "images" / file, *blocks)
        entries.append((file, [(name, (8, 8, 52, 52))]))
    lines(tmp_path / "coco_mini", *entries)
    kinds = ("grass", "snow")
    records = [
        record_of(f"{split}{number}.png", split, kinds[number % 2], [[0, 0, 10, 10]])
        for split in ("train", "dev", "test")
        for number in range(4)
    ]
    flickr(tmp_path / "flickr8k", records, {"grass": GREEN, "snow": WHITE})
    monkeypatch.setattr(training, "DECAYS", (0.01,))  # the choice is tried above
    monkeypatch.setattr(planting, "load", lambda *_: colours())
    monkeypatch.setattr(planting, "trunk_of", lambda model, _: nn.Sequential(model.features, nn.AvgPool2d(16)))
    return tmp_path


def test_a_bias_is_planted_found_and_removed(made_up: Path) -> None:
    steps: list[tuple[int, int]] = []
    study = planted(made_up, train=80, seeds=2, progress=lambda *done: steps.append(done))
    accuracy = {row[0]: row[1:] for row in study.tables[0].rows}
    assert accuracy["biased"][0].value > 0.9, "on a test set like the training set"
    assert accuracy["rebalanced"][1].value > accuracy["biased"][1].value
    looks = {(row[0], row[1]): row for row in study.tables[1].rows}
    for name in ("biased", "rebalanced", "shuffled labels"):
        own, rest = looks[name, "labelled object"], looks[name, "background"]
        assert own[2] + rest[2] == pytest.approx(1) and own[3] + rest[3] == pytest.approx(1)
    assert looks["biased", "background"][4].value > looks["rebalanced", "background"][4].value
    assert steps[-1][0] == steps[-1][1] and study.controls[3].held
    # What the maps' model says is what the layer says of the features.
    by_cell = [row for row in study.tables[2].rows if row[0] == "biased"]
    assert np.mean([row[3].value for row in by_cell]) == pytest.approx(accuracy["biased"][1].value, abs=0.02)
    assert len(bias_figure(study).axes) == 3


def test_what_is_missing_is_told(made_up: Path) -> None:
    with pytest.raises(InputError, match="40 composites"):
        planted(made_up, train=10)
    (made_up / "flickr8k" / "annotations.jsonl.gz").unlink()
    with pytest.raises(InputError, match="no Flickr8k"):
        planted(made_up, train=80)
    lines(made_up / "coco_mini", ("00.png", [("dog", (8, 8, 52, 52))]))
    flickr_free = made_up / "flickr8k"
    flickr_free.rename(made_up / "other")
    with pytest.raises(InputError, match="'flickr8k'"):
        planted(made_up, train=80)


def test_the_verb(made_up: Path, tmp_path: Path) -> None:
    found = record(
        "study", "bias", "--planted", "--data", made_up, "--limit", 40, "--seeds", 1, "--out", tmp_path / "out"
    )
    assert found["settings"]["train"] == 40 and found["settings"]["seeds"] == 1
    again = planted(made_up, train=40, seeds=1).to_json()
    assert again["tables"] == found["tables"] and again["controls"] == found["controls"]
    assert [Path(file).name for file in found["files"]] == ["study.json", "study.md", "study.png"]


def test_on_photos(data_dir: Path) -> None:
    """There are objects and grounds enough to deal to three parts; an object takes a tenth of a composite or so."""
    photos = planting._cutouts(data_dir / "coco_mini")
    parts = planting._dealt(photos, np.random.default_rng(0))
    sources = {part: {one.source for some in parts[part].values() for one in some} for part in parts}
    assert min(len(some) for part in parts.values() for some in part.values()) >= 3
    assert not sources["train"] & sources["test"] and not sources["validation"] & sources["test"]
    kinds = planting._grounds(data_dir / "flickr8k", "dev")
    assert min(map(len, kinds.values())) >= 20
    made = draw(parts["test"], kinds, cells(40, BALANCED), np.random.default_rng(0))
    assert 0.04 < np.mean([one.mask.mean() for one in made]) < 0.15
    grass, snow = (
        np.mean([np.asarray(one.image)[~one.mask].mean(0) for one in made if one.ground == kind], 0) for kind in (0, 1)
    )
    assert snow[2] - snow[1] > grass[2] - grass[1] + 10, "snow is bluer than grass"
