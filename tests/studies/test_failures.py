"""Failure modes: photos whose maps are known, controls that hold and that fail, and the verb."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.evaluate.data.labelled import Labelled, read_labelled
from mmexplain.preprocess import Preprocess
from mmexplain.studies.failures.judged import shared
from mmexplain.studies.failures.study import Failures, _Looking, failures
from mmexplain.studies.failures.told import apart
from mmexplain.tasks.classification.task import Classifier
from tests.command_line import picture, record, refusal, run
from tests.evaluate.objects import colours, lines, photo, xml

pytest_plugins = ["tests.command_line_fixtures"]
NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Orange (red and green at one place), and some blue elsewhere. 12 are said to be red, which they are taken for; 12
    green, 3 of them with the object marked where there is nothing."""
    folder = tmp_path_factory.mktemp("orange")
    entries = []
    for number in range(24):
        name = f"{number:02}.png"
        image = Image.new("RGB", (64, 64))
        image.paste((255 - number, 200, 0), (0, 0, 32, 32))
        image.paste((0, 0, 255), (44, 44, 60, 60))
        (folder / "images").mkdir(exist_ok=True)
        image.save(folder / "images" / name)
        wrong, missed = number % 2 == 1, number in (1, 3, 5)
        box = (0.0, 34.0, 8.0, 8.0) if missed else (0.0, 0.0, 32.0, 32.0)
        entries.append((name, [("green" if wrong else "red", box)]))
    return lines(folder, *entries)


@pytest.fixture(scope="module")
def found(data: Path) -> Failures:
    return failures(colours(NAMES), data, worst=5, tolerance=0)


# -- numbers of one photo ---------------------------------------------------------------------------------------------


def test_the_strongest_places_by_hand() -> None:
    one = torch.tensor([[9.0, 8, 7, 0, 0], [0, 0, 0, 0, 0]])
    assert shared(one, torch.tensor([[5.0, 4, 0, 0, 0], [0, 0, 0, 0, 0]])) == 1, "2 of 10, whatever the scale"
    assert shared(one, torch.tensor([[0.0, 5, 4, 0, 0], [0, 0, 0, 0, 0]])) == pytest.approx(1 / 3)
    assert shared(one, torch.tensor([[5.0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])) == 0.5, "what is lowest is marked by none"
    assert shared(one, torch.tensor([[5.0, 4, 4, 0, 0], [0, 0, 0, 0, 0]])) == pytest.approx(2 / 3), (
        "ties count together"
    )
    assert shared(one, torch.tensor([[9.0, 8, 7, 1, 1], [1, 1, 1, 1, 1]]), share=0.3) == 1
    assert math.isnan(shared(one, torch.zeros(2, 5))) and math.isnan(shared(one * math.inf, one))


def test_the_strongest_places_are_those_of_a_sort() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        one, other = random.normal(size=(2, 7, 7))
        tops = [set(np.argsort(-values.ravel())[:10]) for values in (one, other)]
        expected = len(tops[0] & tops[1]) / len(tops[0] | tops[1])
        assert shared(torch.tensor(one), torch.tensor(other)) == pytest.approx(expected)


def test_the_random_class_is_another_and_stays() -> None:
    looking = _Looking(None, {"dog": [2, 5], "cat": [7]}, "gradcam", None, 0, seed=0)
    logits = torch.tensor([0.0, 3, 1, 4, 0, 2, 0, 9, 0, 0])
    drawn = set()
    for number in range(300):
        roles, rank, wrong = looking._roles(Labelled(f"{number}.jpg", Path(), ("dog", "kite")), logits)
        assert (roles["predicted"], roles["true"], rank, wrong) == (7, 5, 4, True), "9, 4 and 3 are more than 2"
        drawn.add(roles["random"])
    assert drawn == {0, 1, 3, 4, 6, 8, 9}
    both = Labelled("1.jpg", Path(), ("dog", "cat"))
    roles, rank, wrong = looking._roles(both, logits)
    assert (roles["predicted"], roles["true"], rank, wrong) == (7, 7, 1, False)
    assert looking._roles(both, logits)[0] == roles
    closed = _Looking(None, {"dog": [2, 5], "cat": [7], "cow": [1, 8]}, "gradcam", None, 0, seed=0, closed=True)
    roles, rank, wrong = closed._roles(Labelled("1.jpg", Path(), ("dog",)), logits)
    assert (roles["predicted"], roles["true"], rank, wrong) == (7, 5, 3, True), "4 means nothing here"
    assert roles["random"] in (1, 8)
    others = {_Looking(None, {"dog": [2]}, "", None, 0, seed)._roles(both, logits)[0]["random"] for seed in range(50)}
    assert len(others) > 5


def test_the_difference_of_two_groups() -> None:
    random = np.random.default_rng(0)
    ones, others = random.random(400) < 0.7, random.random(300) < 0.4
    gain = apart(list(ones.astype(float)), list(others.astype(float)), seed=1)
    error = math.sqrt(ones.var() / 400 + others.var() / 300)
    assert gain.value == pytest.approx(ones.mean() - others.mean())
    assert gain.low == pytest.approx(gain.value - 1.96 * error, abs=0.008)
    assert gain.high == pytest.approx(gain.value + 1.96 * error, abs=0.008)
    few = apart([1.0] * 30, [0.0] * 9, seed=0)
    assert few.value == 1 and math.isnan(few.low)
    assert math.isnan(apart([], [1.0], seed=0).value)


# -- the data ---------------------------------------------------------------------------------------------------------


def test_folders_of_classes(tmp_path: Path) -> None:
    photo(tmp_path / "red" / "a.png", ("red", (0, 0, 9, 9)))
    photo(tmp_path / "red" / "more" / "b.png", ("red", (0, 0, 9, 9)))
    photo(tmp_path / "green" / "a.png", ("green", (0, 0, 9, 9)))
    photo(tmp_path / "loose.png", ("green", (0, 0, 9, 9)))
    assert [(one.key, one.names, one.scene) for one in read_labelled(tmp_path)] == [
        ("green/a.png", ("green",), None),
        ("loose.png", (), None),
        ("red/a.png", ("red",), None),
        ("red/more/b.png", ("red",), None),
    ]
    result = failures(colours(NAMES), tmp_path)
    assert result.study.items == 3 and "1 photos, which hold no" not in "".join(result.study.notes)
    assert not result.worst and result.figure() is None
    assert [table.title for table in result.study.tables] == ["Accuracy"], "nothing is marked, and nothing is wrong"
    assert not result.study.held and "Not told" in result.study.controls[0].found


def test_xml_names_the_classes_and_the_objects(tmp_path: Path) -> None:
    for name in ("red/a.png", "red/b.png"):
        photo(tmp_path / name, ("green", (40, 40, 60, 60)))
    xml(tmp_path / "Annotations" / "a.xml", (64, 64), ("green", (40, 40, 59, 59), 0))
    marked, other = read_labelled(tmp_path)
    assert marked.names == ("green",) and marked.scene is not None and marked.scene.things[0].name == "green"
    assert other.names == ("red",) and other.scene is None
    (only,) = failures(colours(NAMES), tmp_path).worst
    assert only.photo.file == "red/b.png" and only.photo.hits == {} and only.boxes == ()


def test_data_that_cannot_be_used(tmp_path: Path, data: Path) -> None:
    photo(tmp_path / "photos" / "a.png", ("red", (0, 0, 9, 9)))
    with pytest.raises(InputError, match="has a label: put them in folders"):
        failures(colours(NAMES), tmp_path / "photos")
    with pytest.raises(InputError, match=r"has none of the 1 classes .*\(photos\)"):
        failures(colours(NAMES), tmp_path)
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "b.png").write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"b\.png"):
        failures(colours(NAMES), tmp_path)
    with pytest.raises(InputError, match="stands for 2 methods"):
        failures(colours(NAMES), data, method="occlusion(patch=[4, 8])")
    for options in ({"limit": 0}, {"worst": 0}, {"tolerance": -1}):
        with pytest.raises(InputError):
            failures(colours(NAMES), data, **options)  # type: ignore[arg-type]
    unlinked = colours(NAMES)
    unlinked.link = "none"
    with pytest.raises(InputError, match="no probabilities"):
        failures(unlinked, data)


# -- the study --------------------------------------------------------------------------------------------------------


def test_accuracy_and_the_worst(found: Failures) -> None:
    assert found.study.items == 24
    whole, right, wrong = found.study.tables[0].rows
    assert (whole[1], right[1], wrong[1]) == (24, 12, 12) and whole[2].value == 0.5
    files = [failure.photo.file for failure in found.worst]
    assert files == ["01.png", "03.png", "05.png", "07.png", "09.png"], "the reddest first"
    # Logits are means of the channels: a quarter of the photo is orange, a sixteenth blue.
    logits = np.array([254 / 255 / 4, 200 / 255 / 4, 1 / 16])
    worst = found.worst[0].photo
    assert worst.confidence == pytest.approx((np.exp(logits) / np.exp(logits).sum())[0], abs=0.01)
    assert worst.labels == {"predicted": "red", "true": "green", "random": "blue"}
    assert worst.rank == 2 and not worst.foreign and worst.classes == ("green",)
    assert found.worst[0].boxes == ((0, 34, 8, 42),) and found.worst[4].boxes == ((0, 0, 32, 32),)


def test_where_the_maps_point(found: Failures) -> None:
    """Red and green are strongest in the orange, blue elsewhere; three objects are marked where there is nothing."""
    table = next(table for table in found.study.tables if table.title.startswith("Maps that point"))
    shares = {row[0]: [cell and cell.value for cell in row[1:]] for row in table.rows}
    assert shares["true class"] == [0.75, 1] and shares["predicted class"] == [0.75, None]
    assert shares["random class"][0] == 0 < shares["random class"][1] < 1, (
        "on red photos blue, and green which is there"
    )
    assert shares["none: centre of photo"] == [0, 0], "(32, 32) is one pixel beyond the orange"
    patterns = next(table for table in found.study.tables if "whose map" in table.title)
    assert [row[1] for row in patterns.rows] == [9, 0, 0, 3]
    alike = found.study.tables[-1]
    assert [row[2].value for row in alike.rows] == [1, 0], "one place, and two"
    assert alike.rows[0][1].value > 0.9 > 0 > alike.rows[1][1].value
    listed = next(table for table in found.study.tables if "confidently" in table.title)
    assert [row[-1] for row in listed.rows] == ["neither", "neither", "neither", "both", "both"]


def test_controls_that_hold(found: Failures) -> None:
    assert [control.held for control in found.study.controls] == [True, False, True]
    assert "75.0 % against 0.0 %: +75.0" in found.study.controls[0].found
    assert "100.0 % against 75.0 %: +25.0 [+0.0" in found.study.controls[1].found, "three of twelve are too few"
    assert "1.00 against 0.00: +1.00" in found.study.controls[2].found


def test_controls_fail_for_maps_that_know_no_class(data: Path) -> None:
    """The same map whatever is asked about: every hit is luck, and the controls say so."""
    blind = failures(colours(NAMES), data, method="eigencam", tolerance=0)
    assert [control.held for control in blind.study.controls] == [False, False, False]
    assert "+0.0 [+0.0, +0.0]" in blind.study.controls[0].found


def test_the_first_photos_are_judged_alike_and_the_model_is_left_as_it_was(data: Path, found: Failures) -> None:
    task = colours(NAMES)
    task.model.train()
    before = copy.deepcopy(task.model.state_dict())
    first = failures(task, data, limit=10, tolerance=0)
    assert task.model.training and all(torch.equal(before[name], now) for name, now in task.model.state_dict().items())
    assert first.study.items == 10 and first.study.settings["limit"] == 10
    every = {one["file"]: one for one in found.study.details["wrong"]}
    assert len(every) == 12 and [one["file"] for one in first.study.details["wrong"]] == list(every)[:5]
    assert all(one["hits"] == every[one["file"]]["hits"] for one in first.study.details["wrong"])


def test_two_classes_leave_none_to_draw(tmp_path: Path) -> None:
    for number in range(12):
        photo(tmp_path / "yes" / f"{number}.png", ("red", (0, 0, 40, 40)))
    whole = colours(NAMES)
    model = torch.nn.Sequential(whole.model.features, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model.append(torch.nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[3].weight.copy_(torch.tensor([[-1.0, 0, 0]]))
    found = failures(Classifier(model.eval(), whole.preprocess, ["no", "yes"], layer="0"), tmp_path)
    assert found.worst[0].photo.labels == {"predicted": "no", "true": "yes"}
    assert not found.study.held and found.study.tables[-1].rows[1][1].rows == 0


def test_closed_to_the_classes_of_the_data(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / ("green" if number else "blue") / f"{number}.png", ("red", (0, 0, 40, 40)))
    open_, closed = (failures(colours(NAMES), tmp_path, closed=closed) for closed in (False, True))
    assert len(open_.worst) == 3 and all(failure.photo.foreign for failure in open_.worst)
    assert "3 of 3 wrong predictions name something" in open_.study.notes[1]
    (failure,) = closed.worst
    assert failure.photo.labels == {"predicted": "green", "true": "blue"} and failure.photo.rank == 1, "equals"
    assert failure.photo.confidence == pytest.approx(open_.worst[0].photo.probabilities["true"])


def test_objects_that_the_model_did_not_see(tmp_path: Path) -> None:
    """Of a wide photo its middle is looked at."""
    preprocess = Preprocess.from_timm(
        {
            "input_size": (3, 32, 32),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
        }
    )
    for name in ("a.png", "b.png"):
        photo(tmp_path / "images" / name, ("red", (70, 0, 90, 30)), size=(160, 64))
    boxes = {"a.png": (0.0, 0.0, 20.0, 64.0), "b.png": (60.0, 0.0, 20.0, 64.0)}
    lines(tmp_path, *((name, [("green", box)]) for name, box in boxes.items()), size=(160, 64))
    task = Classifier(colours().model, preprocess, NAMES, layer="features")
    unseen, seen = sorted(failures(task, tmp_path, tolerance=0).worst, key=lambda failure: failure.photo.file)
    assert unseen.photo.hits == {} and unseen.boxes == ((0, 0, 20, 64),), "drawn all the same"
    assert seen.photo.hits["predicted"] == 1 and seen.photo.hits["centre"] == 0


# -- files and the verb -----------------------------------------------------------------------------------------------


def test_files(found: Failures, tmp_path: Path) -> None:
    paths = found.save(tmp_path / "out")
    assert [path.name for path in paths] == ["study.json", "study.md", "study.png", "failures.html"]
    stored = json.loads(paths[0].read_text())
    assert stored["details"]["wrong"][0]["labels"]["true"] == "green"
    drawn = Image.open(paths[2])
    assert drawn.width > 1000 and np.asarray(drawn.convert("RGB")).std() > 20
    page = paths[3].read_text()
    assert "predicted: red" in page and "true: green" in page and "blue" not in page.partition("<main")[2]


def test_the_sheet_shows_photo_predicted_and_true(found: Failures) -> None:
    figure = found.figure()
    assert figure is not None
    told = [text.get_text() for text in figure.axes[0].texts]
    assert "Failures of colours on" in told[0]
    assert told.count("red") == told.count("green") == 5 and "01.png" in told
    assert any(text.startswith("true, 3") and text.endswith("rank 2") for text in told)
    assert sum(len(axes.patches) for axes in figure.axes) >= 10, "an outline in black and white around each object"


def test_names_are_text_on_the_page(tmp_path: Path) -> None:
    photo(tmp_path / "green" / "<img src=x onerror=1>.png", ("red", (0, 0, 40, 40)))
    found = failures(colours(["<script>red</script>", "green", "blue"]), tmp_path)
    page = found.save(tmp_path / "out")[-1].read_text()
    assert "<img src=x" not in page and "<script>red" not in page and "&lt;script&gt;red" in page


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    for name in ("square/a.png", "square/b.png", "stripe/c.png", "cloud/d.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_the_verb(labelled: Path, classifier: str, tmp_path: Path) -> None:
    arguments = ("study", "failures", "--data", labelled, "--model", classifier)
    result = run(*arguments, "--worst", 1, "--out", tmp_path / "out")
    assert result.exit_code == 0 and result.stderr == ""
    assert "Accuracy" in result.stdout and "The most confidently wrong" in result.stdout
    assert "control failed" in result.stdout and "failures.html" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "study.json",
        "study.md",
        "study.png",
        "failures.html",
    }
    told = record(*arguments, "--limit", 3, "--method", "gradcam++", "--layer", "layer3", "--seed", 4)
    assert told["items"] == 3 and told["files"] == [] and told["held"] is False
    assert told["settings"]["layer"] == "layer3" and told["settings"]["method"] == "gradcam++"
    # All photos are the same: one class is right, whichever that is.
    wrong = {one["file"] for one in told["details"]["wrong"]}
    assert len(wrong) in (1, 2, 3) and wrong < {"cloud/d.png", "square/a.png", "square/b.png", "stripe/c.png"}


def test_the_verb_refuses(labelled: Path, classifier: str, captioner: str, photo: Path) -> None:
    base = ("study", "failures", "--data", labelled, "--model")
    assert "no such file or folder: 'nowhere'" in refusal(*base[:3], "nowhere", "--model", classifier)
    assert "is no data with boxes" in refusal(*base[:3], photo, "--model", classifier)
    assert "with class names" in refusal(*base, captioner)
    assert "closest: 'gradcam'" in refusal(*base, classifier, "--method", "gradcan")
    assert "closest: 'layer4'" in refusal(*base, classifier, "--layer", "layer9")
    assert "'layer?' stands for 4 layers; name one" in refusal(*base, classifier, "--layer", "layer?")
    assert "is no folder" in refusal(*base, classifier, "--out", photo)
    assert "--limit" in refusal(*base, classifier, "--limit", 0)
    assert "--worst" in refusal(*base, classifier, "--worst", 0)


def test_real_photos(data_dir: Path) -> None:
    """Against the logits of the model itself, and WordNet asked another way."""
    from nltk.corpus import wordnet

    from mmexplain.tasks.registry import load

    task = load("efficientnet-lite0", "classify", "cpu")
    found = failures(task, data_dir / "coco_mini", limit=5, worst=5)
    files = [Path(failure.photo.file) for failure in found.worst]
    assert found.study.items == 5 and 0 < len(files) < 5
    logits = task.encode(task.prepare([data_dir / "coco_mini" / "images" / file for file in files]).inputs).detach()
    for failure, row in zip(found.worst, logits, strict=True):
        judged = failure.photo
        assert judged.confidence == pytest.approx(float(row.softmax(0).max()), abs=1e-4)
        assert judged.labels["predicted"] == task.labels[int(row.argmax())]
        assert judged.rank == 1 + int((row > row[task.labels.find(judged.labels["true"])]).sum()) > 1
        dogs = [synset for synset in wordnet.synsets(judged.labels["predicted"].replace(" ", "_"), "n")]
        if "dog" in judged.classes:
            assert not any(wordnet.synset("dog.n.01") in path for synset in dogs for path in synset.hypernym_paths())
