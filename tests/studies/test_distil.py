"""Learning from explanations: data, the loss of each lesson, trainings that go on, controls, the verb."""

import gzip
import json
import math

import numpy as np
import pytest
import torch

from mmexplain.errors import InputError
from mmexplain.studies.distil import training as training
from mmexplain.studies.distil.data import KINDS, Data, Photos, read
from mmexplain.studies.distil.explanation_loss import ExplanationLoss, class_maps
from mmexplain.studies.distil.found import (
    LESSONS,
    MAPS,
    OTHERS,
    PLAIN,
    TEACHER,
    UNTRAINED,
    controls_of,
    over_seeds,
    tables_of,
)
from mmexplain.studies.distil.study import Setup, distil
from mmexplain.studies.distil.training import Answers, Eyes, Lesson, Recipe, Terms, Training, augmented, fresh, loss_of
from mmexplain.studies.distil.wide_resnet import WideResNet
from tests.command_line import record, refusal, run
from tests.models import noise, seeded

CPU = torch.device("cpu")
NAMES = ["airplane", "frog", "ship"]


def write_cifar(folder, count=6):
    """CIFAR-10's layout with three classes; returns the test photos as ``[N, 32, 32, 3]`` and their classes."""
    inner = folder / "cifar-10-batches-bin"
    inner.mkdir(parents=True)
    (inner / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    random = np.random.default_rng(0)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        numbers = np.arange(count) % 3
        # each class is brighter in a colour of its own
        pixels = random.integers(0, 120, (count, 32, 32, 3), dtype=np.uint8)
        for photo, number in zip(pixels, numbers, strict=True):
            photo[..., number] += 100
        records = [bytes([n]) + p.transpose(2, 0, 1).tobytes() for n, p in zip(numbers, pixels, strict=True)]
        (inner / f"{name}.bin").write_bytes(b"".join(records))
    return pixels, numbers


def photos(count=12, side=32):
    pixels = torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Photos(pixels, torch.arange(count) % 3, [str(n) for n in range(count)])


# -- data -------------------------------------------------------------------------------------------------------------


def test_records_of_cifar(tmp_path):
    pixels, numbers = write_cifar(tmp_path)
    for place in (tmp_path, tmp_path / "cifar-10-batches-bin"):
        data = read(place)
        assert list(data.labels) == NAMES and len(data.train) == 30 and len(set(data.train.items)) == 30
        assert torch.equal(data.test.pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert data.test.classes.tolist() == numbers.tolist()


def test_a_limit_takes_as_many_of_each_class(tmp_path):
    write_cifar(tmp_path)
    data = read(tmp_path, limit=10)
    assert torch.bincount(data.train.classes).tolist() == [3, 3, 3]
    assert torch.bincount(data.test.classes).tolist() == [2, 2, 2]
    whole = read(tmp_path).train
    for pixels, item in zip(data.train.pixels, data.train.items, strict=True):
        assert torch.equal(pixels, whole.pixels[whole.items.index(item)])
    assert torch.equal(read(tmp_path, limit=10).train.pixels, data.train.pixels)


def write_things(folder, count=4):
    """Photos with one thing of each kind, of a grey of its own, and boxes that are no good."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    lines = []
    for split, shift in (("train", 0), ("dev", 1), ("test", 2)):
        for n in range(count):
            image = Image.new("RGB", (224, 224), (255, 255, 255))
            boxes, phrases = {}, []
            for k, kind in enumerate([*KINDS, "scene"]):
                grey = 10 + 40 * k + shift
                x, y = 70 * (k % 3), 100 * (k // 3)
                image.paste((grey, grey, grey), (x, y, x + 60, y + 80))
                # the original was twice as wide
                boxes[str(k)] = [[2 * x, y, 2 * (x + 60), y + 80]]
                phrases.append([k, k, str(k), kind])
            boxes["small"] = [[0, 0, 30, 80]]
            boxes["both"] = [[100, 0, 300, 100]]
            phrases += [[6, 6, "small", "people"], [7, 7, "both", "people"], [8, 8, "both", "animals"]]
            tokens = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
            name = f"{split}{n}.png"
            image.save(folder / "images" / name)
            entities = [{"tokens": tokens, "phrases": phrases}] * 5
            lines.append(
                {"file": name, "split": split, "orig_w": 448, "orig_h": 224, "captions": ["a"] * 5, "boxes": boxes}
                | {"nobox": {}, "entities": entities}
            )
    with gzip.open(folder / "annotations.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def test_things_are_cut_out_of_photos(tmp_path):
    write_things(tmp_path)
    told = []
    data = read(tmp_path, progress=lambda *call: told.append(call))
    assert data.labels == KINDS and len(data.train) == 20 and len(data.test) == 40
    assert told[-1] == (60, 60)
    for half, greys in ((data.train, (0,)), (data.test, (1, 2))):
        for pixels, number, item in zip(half.pixels, half.classes.tolist(), half.items, strict=True):
            shift = {"train": 0, "dev": 1, "test": 2}[item[: -len("0.png")]]
            assert shift in greys and (pixels == 10 + 40 * number + shift).all()
    assert not set(data.train.items) & set(data.test.items)
    assert len(read(tmp_path, limit=10).train) == 10


def test_real_things(data_dir):
    data = read(data_dir / "flickr8k", limit=20)
    assert torch.bincount(data.train.classes).tolist() == [4] * 5 == torch.bincount(data.test.classes).tolist()
    assert data.train.pixels.float().std() > 20


def test_data_that_will_not_do(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match=r"no data to train on.*cifar-10-batches-bin"):
        read(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match=r"pickles.*get the binary version, cifar-10-binary.tar.gz"):
        read(tmp_path)
    write_cifar(tmp_path)
    with pytest.raises(InputError, match="--limit 5 is too few for 3 classes"):
        read(tmp_path, limit=5)
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(InputError, match="cut off"):
        read(tmp_path)
    batch.write_bytes(bytes([7]) * 3073)
    with pytest.raises(InputError, match="names 3 classes and numbers one 7"):
        read(tmp_path)
    batch.unlink()
    with pytest.raises(InputError, match="cannot read CIFAR-10"):
        read(tmp_path)


def test_things_that_will_not_do(tmp_path):
    write_things(tmp_path, count=2)
    (tmp_path / "images" / "dev1.png").write_bytes(b"no photo")
    with pytest.raises(InputError, match="cannot read photo"):
        read(tmp_path)
    write_things(tmp_path / "few", count=1)
    with pytest.raises(InputError, match="of 'people' there are 1 boxes"):
        read(tmp_path / "few")


# -- training ---------------------------------------------------------------------------------------------------------


def test_the_published_schedule():
    recipe = Recipe()
    rates = [recipe.rate_of(epoch) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    assert (recipe.epochs, recipe.batch, recipe.momentum, recipe.decay) == (200, 128, 0.9, 5e-4)


def test_flips_and_cuts_are_all_that_happens():
    pixels = photos(64, side=8).pixels
    changed = augmented(pixels, 2, torch.Generator().manual_seed(0))
    found = []
    for before, after in zip(pixels.numpy(), changed.numpy(), strict=True):
        places = [
            (flip, top, left)
            for flip in (False, True)
            for padded in [np.pad(before[..., ::-1] if flip else before, ((0, 0), (2, 2), (2, 2)), mode="reflect")]
            for top in range(5)
            for left in range(5)
            if np.array_equal(padded[:, top : top + 8, left : left + 8], after)
        ]
        assert len(places) == 1
        found += places
    assert {flip for flip, *_ in found} == {False, True}
    assert {top for _, top, _ in found} == {left for *_, left in found} == set(range(5))


def test_colours_are_scaled_over_the_training_photos():
    own = photos(9)
    seen = Eyes(own, CPU)(own.pixels)
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    grey = Photos(torch.full((2, 3, 32, 32), 7, dtype=torch.uint8), torch.tensor([0, 1]), ["a", "b"])
    assert not Eyes(grey, CPU)(grey.pixels).abs().max() > 1e-3


def test_every_photo_comes_once_an_epoch():
    steps = training.steps_of(10, 4, torch.Generator().manual_seed(0))
    assert [len(step) for step in steps] == [4, 4] and len(set(torch.cat(steps).tolist())) == 8
    assert sorted(training.steps_of(3, 4, torch.Generator())[0].tolist()) == [0, 1, 2]


def test_losses_of_the_lessons():
    student, teacher = seeded(WideResNet, 10, 1, 3).train(), seeded(WideResNet, 10, 1, 3, seed=1)
    untrained = seeded(WideResNet, 10, 1, 3, seed=2)
    explanations, seen, classes = ExplanationLoss("relu"), noise(4, 3, 8, 8), torch.tensor([0, 2, 1, 1])
    for block in (student.bn, *(norm for b in student.blocks for norm in (b.bn1, b.bn2))):
        block.momentum = 0.0
    logits, told = student(seen).detach(), teacher(seen).detach()

    def loss(lesson, alpha=0.5):
        made = loss_of(lesson, teacher, untrained, explanations, Terms(alpha, 4.0))
        return made(student, seen, classes).item()

    def apart(source, order):
        maps = class_maps(source, seen, classes, "relu").maps[order]
        return (class_maps(student, seen, classes, "relu").maps - maps).square().sum((1, 2)).mean().item()

    plain = -logits.log_softmax(1)[range(4), classes].mean().item()
    p, q = (told / 4).softmax(1), (logits / 4).softmax(1)
    soft = 16 * (p * (p / q).log()).sum(1).mean().item()
    own, others = apart(teacher, [0, 1, 2, 3]), apart(teacher, [3, 0, 1, 2])
    assert soft > 1e-3 and abs(own - others) > 1e-3
    expected = [0, own / 2, soft, own / 2 + soft, others / 2, apart(untrained, [0, 1, 2, 3]) / 2]
    for lesson, more in zip(LESSONS, expected, strict=True):
        assert loss(lesson) == pytest.approx(plain + more, rel=1e-6), lesson.name
    assert loss(Lesson("", "untrained", soft=True)) == pytest.approx(plain + soft + expected[-1], rel=1e-6)
    assert loss(MAPS, alpha=0.0) == pytest.approx(plain)


class Stop(Exception):
    """What stops a training."""


def trainings(folder, stop=None, **settings):
    """Three epochs; ``stop`` ends them when so many are done."""
    own, done = photos(), []

    def told():
        done.append(1)
        if len(done) == stop:
            raise Stop

    run = Training(own, Eyes(own, CPU), Recipe(3, 5, 0.05), folder, {"data": "noise"}, told)
    model = run.train("a", fresh(10, 1, 3, 4, CPU), 4, training.cross_entropy, **settings)
    return model.state_dict(), len(done)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path):
    whole, _ = trainings(None)
    with pytest.raises(Stop):
        trainings(tmp_path, stop=3)
    assert [path.name for path in tmp_path.iterdir()] == ["a.half.safetensors"]
    again, told = trainings(tmp_path)
    assert told == 3 and [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    kept, _ = trainings(tmp_path)
    loaded = WideResNet.load(tmp_path / "a.safetensors").state_dict()
    for other in (again, kept, loaded):
        assert all(torch.equal(value, other[name]) for name, value in whole.items())
    untouched = fresh(10, 1, 3, 4, CPU).state_dict()
    assert not torch.equal(whole["fc.weight"], untouched["fc.weight"])


@pytest.mark.parametrize("stop", [None, 2])
def test_networks_of_other_settings_are_not_taken(tmp_path, stop):
    try:
        trainings(tmp_path, stop, alpha=0.01)
    except Stop:
        assert stop
    with pytest.raises(InputError, match=r"other settings \(alpha 0.01 instead of 0.1\): choose another --out"):
        trainings(tmp_path, alpha=0.1)


# -- what was found ---------------------------------------------------------------------------------------------------


ITEMS = [str(n) for n in range(20)]


def made_up(wrong, alike):
    """``wrong`` of 20 photos for each of three seeds, never quite the same ones."""
    photos = torch.arange(20)
    return [Answers(photos < count, torch.full((20,), alike) + photos / 1000) for count in wrong]


def results(**changed):
    found = {lesson.name: made_up((10, 11, 10), 0.5) for lesson in LESSONS} | {TEACHER: made_up((4, 4, 4), 1.0)}
    return found | {lesson.name: changed[key] for key, lesson in NAMED.items() if key in changed}


NAMED = {"plain": PLAIN, "maps": MAPS, "others": OTHERS, "untrained": UNTRAINED}


def test_controls_fail_where_the_maps_make_no_difference():
    alike, others, untrained, without = controls_of(results(), ITEMS, 1e-9, 5)
    assert not alike.held and not others.held and not untrained.held and not without.held
    assert "not told apart" in others.found


def test_controls_hold_where_they_do():
    better = made_up((5, 6, 5), 0.9)
    found = controls_of(results(maps=better), ITEMS, 0.0, 5)
    assert all(control.held for control in found)
    assert found[0].found == "Correlation +0.400 [+0.400, +0.400]."
    assert "Error lower by 25.0 [" in found[1].found and "25.0 [25.0, 25.0] over seeds" in found[1].found
    # better on average, but no more than seeds differ among each other
    chance = controls_of(results(maps=made_up((1, 12, 8), 0.9)), ITEMS, 0.0, 5)
    assert not chance[1].held and not chance[2].held
    alone = controls_of({name: found[:1] for name, found in results(maps=better).items()}, ITEMS, 0.0, 5)
    assert not alone[1].held and "of other seeds one tells nothing" in alone[1].found


def test_tables_by_hand():
    table, apiece = tables_of(results(maps=made_up((8, 8, 9), 0.9)), ITEMS, [3, 4, 5])
    rows = {row[0]: row[1:] for row in table.rows}
    error, deviation, less, likeness = rows["CE + maps"]
    assert error.value == pytest.approx(25 / 60) and error.low < 25 / 60 < error.high
    assert deviation == pytest.approx(math.sqrt(2 / 3 * (1 / 20) ** 2 * (1 / 2)))
    assert less.value == pytest.approx(6 / 60) and likeness.value == pytest.approx(0.9 + 0.0095)
    assert rows["CE"][2] is None and rows[TEACHER][3] is None
    row = next(row for row in apiece.rows if row[0] == "CE + maps")
    assert row[1:4] == pytest.approx((0.1, 0.15, 0.05)) and apiece.heads[1] == "seed 3"
    # the t quantile for two degrees of freedom is 4.3027, the deviation .05
    assert row[4].low == pytest.approx(0.1 - 4.3027 * 0.05 / 3**0.5, abs=1e-5)
    assert math.isnan(over_seeds([0.1]).low)


def test_setups_that_will_not_do():
    for setup, told in (
        (Setup(teacher="12-1"), "no WRN-12-1"),
        (Setup(recipe=Recipe(0)), "0 epochs"),
        (Setup(recipe=Recipe(batch=1)), "1 photos in a step"),
        (Setup(seeds=0), "0 seeds"),
        (Setup(terms=Terms(alpha=-1.0)), "alpha is -1.0"),
        (Setup(terms=Terms(temperature=0.0)), "the temperature is 0.0: it must be positive"),
        (Setup(recipe=Recipe(rate=math.nan)), "the learning rate is nan"),
    ):
        with pytest.raises(InputError, match=told):
            setup.require()


def small():
    own = photos(12, side=16)
    return Data("noise", NAMES, own, own)


SETUP = Setup("10-1", "10-1", Recipe(1, 6, 0.05), seeds=1)


def test_a_study_is_the_same_again_and_networks_are_kept(tmp_path):
    told = []
    study, figure = distil(small(), SETUP, folder=tmp_path, progress=lambda *call: told.append(call))
    again, _ = distil(small(), SETUP, folder=tmp_path)
    anew, _ = distil(small(), SETUP)
    assert study.tables == again.tables == anew.tables
    names = {TEACHER, *(lesson.slug for lesson in LESSONS)}
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}-0.safetensors" for name in names}
    assert told == [(n, 7) for n in range(1, 8)]
    assert study.controls[-1].held and "steps: 0." in study.controls[-1].found
    teacher, plain = (WideResNet.load(tmp_path / f"{name}-0.safetensors").fc.weight for name in (TEACHER, "ce"))
    assert not torch.allclose(teacher, plain, atol=1e-2)
    assert len(figure.axes) == 2 and study.items == 12
    torch.testing.assert_close(
        torch.tensor(study.details["errors"][TEACHER][0]),
        1
        - WideResNet.load(tmp_path / "teacher-0.safetensors")(Eyes(small().train, CPU)(small().test.pixels))
        .argmax(1)
        .eq(small().test.classes)
        .float()
        .mean(),
    )


def test_without_alpha_is_a_check_that_can_fail(monkeypatch):
    """A term that moves the norms' running means, say, would be found out."""

    def loss_of_a_kind(lesson, teacher, *rest):
        made = loss_of(lesson, teacher, *rest)
        return lambda student, seen, classes: made(student, seen, classes) + 0 * student.train()(seen).sum()

    monkeypatch.setattr("mmexplain.studies.distil.study.loss_of", loss_of_a_kind)
    study, _ = distil(small(), SETUP)
    assert not study.controls[-1].held


# -- the verb ---------------------------------------------------------------------------------------------------------

FEW = ("--teacher", "10-1", "--student", "10-1", "--epochs", 1, "--batch", 6, "--seeds", 1, "--limit", 6)


def test_the_verb(tmp_path):
    write_cifar(tmp_path)
    out = tmp_path / "out"
    result = run("study", "distil", "--data", tmp_path, *FEW, "--out", out)
    assert result.exit_code == 0, result.output
    for words in ("CE + KD + maps", "control held: With α = 0", "Published (WRN-40-2", "study.json"):
        assert words in result.stdout
    assert {path.name for path in out.iterdir()} == {"study.json", "study.md", "study.png", "networks"}
    found = record("study", "distil", "--data", tmp_path, *FEW, "--out", out)
    assert found["name"] == "distil" and found["settings"]["alpha"] == 0.01 and len(found["files"]) == 3
    assert [row[0] for row in found["tables"][0]["rows"]] == [*(lesson.name for lesson in LESSONS), TEACHER]


def test_the_verb_refuses(tmp_path):
    write_cifar(tmp_path)
    assert "no such folder" in refusal("study", "distil", "--data", tmp_path / "none")
    assert "no WRN-41-2" in refusal("study", "distil", "--data", tmp_path, "--teacher", "41-2")
    assert "trained through" in refusal("study", "distil", "--data", tmp_path, "--method", "occlusion")
    assert "is no folder" in refusal(
        "study", "distil", "--data", tmp_path, "--out", tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    )
    assert run("study", "distil", "--data", tmp_path, "--limit", 0).exit_code == 2
    run("study", "distil", "--data", tmp_path, *FEW, "--out", tmp_path / "out")
    assert "choose another --out" in refusal(
        "study", "distil", "--data", tmp_path, *FEW, "--alpha", 1, "--out", tmp_path / "out"
    )
