"""Where a model looks in two groups of photos: shares, intervals, regions, groups, and the verb."""

from __future__ import annotations

import gzip
import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from mmexplain.errors import InputError
from mmexplain.evaluate.data.scene import Scene, Thing
from mmexplain.evaluate.intervals import mean
from mmexplain.io import load_image
from mmexplain.studies.bias import bias, bias_figure
from mmexplain.studies.bias.groups import read_groups
from mmexplain.studies.bias.regions import (
    BACKGROUND,
    BORDER,
    CENTRE,
    FACES,
    KIND,
    OBJECT,
    OTHERS,
    PEOPLE,
    faces,
    marked,
    thirds,
)
from mmexplain.studies.bias.seen import Seen, controls, less, over_area
from mmexplain.studies.bias.shares import Share, difference, ratio, shares
from mmexplain.tasks.labels import Labels
from tests.command_line import picture, record, refusal, run
from tests.evaluate.objects import colours, lines, photo

pytest_plugins = ["tests.command_line_fixtures"]
NAN = math.nan


# -- shares and their means -------------------------------------------------------------------------------------------


def test_shares_worked_by_hand():
    heat = torch.tensor([[4.0, 0, 0, NAN], [2, 2, 0, NAN], [-5, 0, 0, NAN], [0, 0, 2, NAN]])
    left = np.zeros((4, 4), dtype=bool)
    left[:, 0] = True
    unseen = np.zeros((4, 4), dtype=bool)
    unseen[:, 3] = True
    found = shares(heat, (0, 0), {"left": left, "unseen": unseen, "rest": ~left})
    assert found == {"left": Share(4 / 12, 0.6, 1.0), "rest": Share(8 / 12, 0.4, 0.0)}
    assert shares(-heat.abs(), None, {"left": left}) == {}, "positive nowhere"
    assert shares(heat.masked_fill(heat == 2, math.inf), None, {"left": left}) == {}


def test_the_ratio_is_of_sums_and_the_mean_where_areas_are_alike():
    assert ratio([0.5, 0.1], [0.25, 0.5], ["a", "b"]).value == pytest.approx(0.6 / 0.75)
    assert math.isnan(ratio([0.5, 0.1], [0.25, 0.5], ["a", "b"]).low), "two photos have no interval"
    random = np.random.default_rng(1)
    values, items = random.random(60).tolist(), [str(n % 20) for n in range(60)]
    found, plain = ratio(values, [1.0] * 60, items), mean(values, items)
    assert (found.value, found.items, found.rows) == (pytest.approx(plain.value), 20, 60)
    assert (found.low, found.high) == (pytest.approx(plain.low, abs=0.01), pytest.approx(plain.high, abs=0.01))
    assert math.isnan(ratio([], [], []).value)


def test_intervals_hold_what_they_say():
    """Of 200 samples of 30 photos, about 95 % of the intervals hold the true ratio."""
    random, held = np.random.default_rng(2), 0
    for number in range(200):
        areas = random.uniform(0.1, 0.5, 30)
        found = ratio((areas * random.uniform(1, 3, 30)).tolist(), areas.tolist(), list(map(str, range(30))), number)
        held += found.low <= 2 <= found.high
    assert 178 <= held <= 199


def test_a_permutation_test_against_all_permutations():
    random = np.random.default_rng(3)
    areas, energies = random.uniform(0.2, 0.4, 20), random.uniform(0.2, 0.4, 20)
    energies[:10] += 0.06
    all_shares = [Share(area, energy) for area, energy in zip(areas, energies, strict=True)]
    found, p = difference(all_shares[:10], all_shares[10:])
    chosen = np.array(list(combinations(range(20), 10)))
    own = energies[chosen].sum(1) / areas[chosen].sum(1)
    other = (energies.sum() - energies[chosen].sum(1)) / (areas.sum() - areas[chosen].sum(1))
    assert found.value == pytest.approx(own[0] - other[0])
    exact = (np.abs(own - other) >= abs(found.value) - 1e-12).mean()
    assert 0.01 < exact < 0.5 and p == pytest.approx(exact, abs=0.03)
    assert difference(all_shares[:10], all_shares[:10])[1] == 1.0
    assert difference(all_shares[:9], all_shares[9:])[0].value and math.isnan(difference(all_shares[:9], [])[1])


def test_pairs_cancel_what_photos_have_in_common():
    random = np.random.default_rng(4)
    first = [Share(0.2, energy) for energy in random.uniform(0.1, 0.9, 40)]
    second = [Share(0.2, one.energy - 0.02) for one in first]
    found = less(first, second, list(map(str, range(40))))
    assert (found.value, found.low, found.high) == tuple(pytest.approx(0.1) for _ in range(3))


def seen(energies: dict[str, tuple[float, float, float]], number: int, group: str = "a") -> Seen:
    own, other, noise = ({name: Share(0.25, values[n]) for name, values in energies.items()} for n in range(3))
    return Seen(str(number), group, "t", None, own, other, noise)


def test_controls_can_fail():
    random = np.random.default_rng(5)
    knows = [seen({OBJECT: (0.6 + random.uniform(-0.1, 0.1), 0.3, 0.25)}, n) for n in range(20)]
    blind = [seen({OBJECT: (0.3 + random.uniform(-0.1, 0.1), 0.3, 0.4 + n / 1000)}, n) for n in range(20)]
    assert [one.held for one in controls(knows, OBJECT, 0)] == [True, True]
    assert [one.held for one in controls(blind, OBJECT, 0)] == [False, False]
    few = [seen({CENTRE: (0.5, 0.5, 0.25)}, n) for n in range(20)]
    assert len(controls(few, OBJECT, 0)) == 1
    assert over_area(knows, OBJECT, which="other").value == pytest.approx(1.2)


# -- regions ----------------------------------------------------------------------------------------------------------


def test_each_pixel_is_of_one_region():
    things = (
        Thing("dog", (0, 0, 4, 4)),
        Thing("person", (2, 2, 8, 8)),
        Thing("chair", (6, 0, 10, 10)),
        Thing("cup", (6, 0, 7, 1)),
    )
    found = marked(Scene("x", Path("x"), (10, 12), things), "dog")
    parts = np.stack([found[name] for name in (OBJECT, PEOPLE, OTHERS, BACKGROUND)])
    assert (parts.sum(0) == 1).all()
    assert [int(part.sum()) for part in parts] == [16, 36 - 4, 40 - 12, 120 - 16 - 32 - 28]
    assert int(found[f"{KIND}chair"].sum()) == 28 and int(found[f"{KIND}cup"].sum()) == 1
    of_people = marked(Scene("x", Path("x"), (10, 12), things), "person")
    assert not of_people[PEOPLE].any() and of_people[OBJECT].sum() == 36 and of_people[f"{KIND}dog"].sum() == 12
    middle = thirds((9, 12))
    assert middle[CENTRE].sum() == 12 and (middle[CENTRE] ^ middle[BORDER]).all()


def test_a_face_is_found_where_it_is():
    found = faces(load_image(data.astronaut()))
    assert found[95:150, 195:250].all() and found.mean() < 0.08, "her eyes, nose and mouth, and little else"
    large = faces(load_image(np.kron(data.astronaut(), np.ones((2, 2, 1), dtype=np.uint8))))
    assert large.shape == (1024, 1024) and large[190:300:2, 390:500:2].all()
    assert not faces(load_image(np.full((200, 300, 3), 128, dtype=np.uint8))).any()


# -- groups -----------------------------------------------------------------------------------------------------------


def block(random: np.random.Generator, side: int = 16) -> tuple[int, int, int, int]:
    x, y = (int(value) for value in random.integers(0, 64 - 20 - side, 2))
    return x, y, x + side, y + side


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Twelve photos of a red thing, on black, and twelve of a green one, above a green band on which people are marked;
    one photo holds both."""
    random, entries = np.random.default_rng(0), []
    for number in range(25):
        names = ["red", "green"] if number == 24 else [("red", "green")[number % 2]]
        blocks = [(name, block(random)) for name in names]
        band = [("green", (0, 44, 64, 64))] if number % 2 else []
        photo(tmp_path / "images" / f"{number:02}.png", *blocks, *band)
        boxes = [(name, (box[0], box[1], 16, 16)) for name, box in blocks]
        entries.append((f"{number:02}.png", [*boxes, ("person", (0, 44, 64, 20))]))
    return lines(tmp_path, *entries)


def test_groups_of_objects(marks: Path):
    found = read_groups(marks, (), Labels.of(["red", "green", "blue"]))
    assert set(found.names) == {"red", "green"} and found.both == 1 and found.kind == "objects"
    assert len(found.of("red")) == len(found.of("green")) == 12
    assert set(read_groups(marks).names) == {"red", "green"}, "people, of whom there are more, apart"
    assert [one.group for one in read_groups(marks, ("green", "red")).first(3, 0).members].count("green") == 3
    for names, words in {
        ("red",): "name two different groups",
        ("red", "red"): "name two different groups",
        ("red", "gren"): "closest: 'green'",
        ("red", "person"): "is of 'red' and not of 'person'",
    }.items():
        with pytest.raises(InputError, match=words):
            read_groups(marks, names)
    with pytest.raises(InputError, match="fewer than two"):
        read_groups(marks, (), Labels.of(["red", "blue"]))


def test_groups_of_folders(tmp_path: Path):
    for name in ("doctor", "nurse", "nurse/ward"):
        photo(tmp_path / name / "x.png")
    found = read_groups(tmp_path)
    assert [(one.key, one.group) for one in found.members] == [
        ("doctor/x.png", "doctor"),
        ("nurse/ward/x.png", "nurse"),
        ("nurse/x.png", "nurse"),
    ]
    with pytest.raises(InputError, match=r"no folder 'nurs' .* closest: 'nurse'"):
        read_groups(tmp_path, ("doctor", "nurs"))
    photo(tmp_path / "cook" / "x.png")
    with pytest.raises(InputError, match=r"holds 3 folders .* --groups"):
        read_groups(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_groups(tmp_path / "none")


def words_folder(folder: Path, count: int = 2, extra: str = "runs", first: int = 2) -> Path:
    """The layout of flickr8k: in even photos a dog in the left half and a man, in odd ones a cat; captions end in
    ``extra`` from the ``first`` on."""
    (folder / "images").mkdir(parents=True)
    records = []
    for number in range(count):
        picture(64, 64).save(folder / "images" / f"{number}.png")
        animal = ("dog", "cat")[number % 2]
        tokens = ["a", "red", animal, "on", "grass", extra if number >= first else "runs"]
        entity = {"tokens": tokens, "phrases": [[0, 2, "1", "animals"], [4, 4, "2", "scene"]]}
        man = {"tokens": ["a", "man"], "phrases": [[0, 1, "3", "people"]]}
        boxes = {"1": [[0, 0, 50, 80]], "2": [[0, 0, 100, 80]], "3": [[50, 0, 100, 40]]}
        records.append(
            {"file": f"{number}.png", "split": "test", "orig_w": 100, "orig_h": 80}
            | {"captions": [" ".join(tokens)], "boxes": boxes, "entities": [entity, man]}
        )
    with gzip.open(folder / "annotations.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in records)
    return folder


def test_groups_of_words(tmp_path: Path):
    folder = words_folder(tmp_path / "w")
    first, second = read_groups(folder, ("dog", "cat")).members
    assert (first.group, first.captions, second.group) == ("dog", ("a red dog on grass runs",), "cat")
    regions = marked(first.scene, first.group)
    assert regions[OBJECT][:, :32].all() and not regions[OBJECT][:, 32:].any()
    assert regions[PEOPLE][:32, 32:].all() and regions[PEOPLE].sum() == 32 * 32 and not regions[OTHERS].any()
    for names, words in {(): "name two", ("dog", "Cat"): "small letters", ("dog", "man"): "'dog' and not of"}.items():
        with pytest.raises(InputError, match=words):
            read_groups(folder, names)


# -- the study --------------------------------------------------------------------------------------------------------


def test_what_a_model_looks_at_is_found(marks: Path):
    """Its maps are the channels: of red photos all of it, of green ones the band under the thing too."""
    study = bias(colours(), marks, ("red", "green"))
    rows = {(row[0], row[1]): row for row in study.tables[0].rows}
    assert study.items == 24 and study.held
    # A map at 32 × 32 is blurred a little over the edges of the boxes.
    assert rows[OBJECT, "red"][4] > 0.85 and rows[OBJECT, "red"][7] == 1.0 and rows[PEOPLE, "red"][4] == 0
    area = 16 * 16 / 64**2
    assert rows[OBJECT, "red"][3] == pytest.approx(area)
    assert rows[OBJECT, "red"][5].value == pytest.approx(rows[OBJECT, "red"][4] / area)
    green = 16 * 16 + 20 * 64
    assert rows[PEOPLE, "green"][4] == pytest.approx(20 * 64 / green, abs=0.02)
    differ = {row[0]: row for row in study.tables[1].rows}
    assert differ[PEOPLE][1].high < -2 and float(differ[PEOPLE][2]) == pytest.approx(1 / 2001, abs=1e-4)
    assert study.tables[2].rows[0][2].value == 1.0 and "1 photos hold both" in " ".join(study.notes)
    assert bias(colours(), marks, ("red", "green")).tables == study.tables
    assert bias_figure(study).axes[0].get_xlabel().startswith("energy / area")


def test_the_likeliest_class_can_be_explained(marks: Path):
    """A model whose only other class wins looks at what speaks for that."""
    task = colours(("red", "blue", "green"))  # what is green it calls blue
    named = bias(task, marks, ("red", "green"), explained="prediction", limit=5)
    assert [row[2].value for row in named.tables[2].rows] == [1.0, 0.0]
    assert {one["target"] for one in named.details["photos"] if one["group"] == "green"} == {"blue"}
    label = bias(task, marks, ("red", "green"), limit=5)
    assert label.settings["explained"] == "label"
    assert {one["target"] for one in label.details["photos"] if one["group"] == "green"} == {"green"}
    with pytest.raises(InputError, match="no label for 'green'"):
        bias(colours(("red", "blue", "grey")), marks, ("red", "green"), explained="label")


def test_folders_tell_faces_and_the_centre(tmp_path: Path):
    for name in ("red", "other"):
        photo(tmp_path / name / "1.png", ("red", (24, 24, 40, 40)))
    study = bias(colours(), tmp_path)
    assert [row[0] for row in study.tables[0].rows] == [CENTRE, CENTRE, BORDER, BORDER]
    assert study.settings["explained"] == "prediction" and "No objects are marked" in " ".join(study.notes)
    assert study.tables[0].rows[0][4] > 0.8 and study.tables[2].rows[0][2].value != study.tables[2].rows[0][2].value


def test_faces_are_looked_for_where_people_are(tmp_path: Path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(data.astronaut()).save(tmp_path / name / "x.png")
    rows = [row for row in bias(colours(), tmp_path).tables[0].rows if row[0] == FACES]
    assert [row[2] for row in rows] == [1, 1] and 0.02 < rows[0][3] < 0.1


def test_the_verb(marks: Path, tmp_path: Path, classifier: str, captioner: str):
    squares = tmp_path / "squares"
    for name in ("square", "stripe"):
        (squares / name).mkdir(parents=True)
        for number in range(2):
            picture().save(squares / name / f"{number}.png")
    arguments = ("study", "bias", "--data", squares, "--model", classifier)
    result = run(*arguments)
    assert result.exit_code == 0 and result.stderr == ""
    assert any(line.split()[:2] == ["centre", "square"] for line in result.stdout.splitlines())
    found = record(*arguments, "--limit", 1, "--out", tmp_path / "out", "--method", "gradcam++")
    assert found["items"] == 2 and found["settings"]["method"] == "gradcam++" and len(found["files"]) == 3
    assert (tmp_path / "out" / "study.png").stat().st_size > 5000
    words = record("study", "bias", "--data", words_folder(tmp_path / "w"), "--model", captioner, "--groups", "dog,cat")
    assert words["settings"]["explained"] == "word" and words["items"] == 2
    folder = words_folder(tmp_path / "v", 3, extra="gowns")
    start = ("study", "bias", "--model", captioner, "--groups", "dog,cat", "--data")
    some = record(*start, folder)
    assert some["items"] == 2 and any("1 photos were left out" in note for note in some["notes"])
    assert "'gowns' is not among" in refusal(*start, words_folder(tmp_path / "u", 2, extra="gowns", first=0))


def test_what_the_verb_refuses(marks: Path, tmp_path: Path, classifier: str, captioner: str):
    (tmp_path / "file").touch()
    start = ("study", "bias", "--data")
    assert "no such file or folder" in refusal(*start, tmp_path / "none", "--model", classifier)
    assert "name a model" in refusal(*start, marks)
    assert "leave out --model" in refusal(*start, marks, "--planted", "--model", classifier)
    assert "--seeds is for --planted" in refusal(*start, marks, "--model", classifier, "--seeds", 2)
    assert "no folder 'coco_mini'" in refusal(*start, marks, "--planted")
    assert "is no folder" in refusal(*start, marks, "--model", classifier, "--out", tmp_path / "file")
    assert "no classifier" in refusal(*start, marks, "--model", captioner)
    assert "fewer than two" in refusal(*start, marks, "--model", classifier)
    assert "no captioner" in refusal(*start, words_folder(tmp_path / "w"), "--model", classifier, "--groups", "dog,cat")
    assert "unknown method" in refusal(*start, marks, "--model", classifier, "--method", "gradcan")
    assert run(*start, marks, "--model", classifier, "--limit", 0).exit_code == 2
