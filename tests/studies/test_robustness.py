"""The study of robustness: its rows against explanations made one by one, its tables and controls, its verb."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr

from mmexplain.errors import InputError, TargetError
from mmexplain.studies.robustness.attack import TargetedPGD
from mmexplain.studies.robustness.found import (
    ADVERSARIAL,
    NOISE,
    OTHER,
    PHOTO,
    Changed,
    Found,
    Mapped,
    controls,
    tables,
)
from mmexplain.studies.robustness.study import robustness
from tests.command_line import picture, record, refusal, run
from tests.evaluate.objects import colours, lines, photo

pytest_plugins = ["tests.command_line_fixtures"]

ATTACK = TargetedPGD(epsilon=0.4)
BLOCKS = {
    "0.png": [("red", (0, 0, 40, 40)), ("green", (40, 40, 64, 64))],
    "1.png": [("red", (10, 20, 64, 64))],
    "2.png": [("green", (0, 30, 50, 64)), ("blue", (50, 0, 64, 20))],
}


def sure():
    """The classifier by colours, sure of what it sees."""
    task = colours()
    task.model.fc.weight.data.mul_(200)
    return task


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    for name, blocks in BLOCKS.items():
        photo(folder / "images" / name, *blocks)
    entries = [
        (name, [(colour, (x0, y0, x1 - x0, y1 - y0)) for colour, (x0, y0, x1, y1) in blocks])
        for name, blocks in BLOCKS.items()
    ]
    return lines(folder, *entries)


@pytest.fixture(scope="module")
def found(data):
    return robustness(sure(), data, target="blue", attack=ATTACK, seed=3)


def rows(study, view, **wanted):
    return [
        row
        for row in study.details["maps"]
        if row["view"] == view and all(row[name] == value for name, value in wanted.items())
    ]


def test_photos_that_hold_the_target_are_left_out(found):
    study, _ = found
    assert study.items == 2 and {row["photo"] for row in study.details["photos"]} == {"0.png", "1.png"}
    assert [(row["photo"], row["name"]) for row in rows(study, PHOTO)] == [
        ("0.png", "red"),
        ("0.png", "green"),
        ("1.png", "red"),
    ]


def test_predictions(found):
    study, _ = found
    by_view = {
        view: [row for row in study.details["photos"] if row["view"] == view] for view in (PHOTO, ADVERSARIAL, NOISE)
    }
    assert [row["top"] for row in by_view[PHOTO]] == ["red", "red"] and all(row["keeps_top"] for row in by_view[NOISE])
    assert all(row["passes"] and row["says_target"] and not row["keeps_top"] for row in by_view[ADVERSARIAL])
    assert all(row["probability"] > 0.9999 and row["linf"] <= 0.4 + 1e-6 for row in by_view[ADVERSARIAL])
    assert all(0 < row["steps"] < 40 for row in by_view[ADVERSARIAL])
    assert all(row["linf"] == row["l2"] == 0 and row["steps"] is None for row in by_view[PHOTO])
    for noise, attacked in zip(by_view[NOISE], by_view[ADVERSARIAL], strict=True):
        assert 0.99 * attacked["linf"] < noise["linf"] <= attacked["linf"] + 1e-6


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_maps_of_the_photo_and_of_another_one(found, data):
    """The class activation map of a colour is its channel: all that is known of it can be worked out from the photo."""
    study, _ = found
    task = sure()
    maps = {name: task.explain(str(data / "images" / name), ["red", "green"]) for name in ("0.png", "1.png")}
    for one, other, name in (("0.png", "1.png", "red"), ("0.png", "1.png", "green"), ("1.png", "0.png", "red")):
        (own,), (another,) = (rows(study, view, photo=one, name=name) for view in (PHOTO, OTHER))
        assert own["hit"] == 1 and own["energy"] > 0.9 and own["correlation"] is None
        values = [maps[file].map(name).flatten().numpy() for file in (one, other)]
        expected = spearmanr(*values).statistic
        if expected == expected:
            assert another["correlation"] == pytest.approx(expected, abs=1e-6)
        else:
            assert another["correlation"] is None and another["hit"] == 0, "no green in the other photo: a flat map"
    (moved,) = rows(study, OTHER, photo="1.png")
    heat = maps["0.png"].map("red").clamp(min=0)
    heat = torch.nn.functional.interpolate(heat[None, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
    assert moved["energy"] == pytest.approx(float(heat[20:64, 10:64].sum() / heat.sum()), rel=1e-4)


def test_a_seed_is_all_that_is_drawn(found, data):
    again, _ = robustness(sure(), data, target="blue", attack=ATTACK, seed=3)
    assert again.details == found[0].details
    other, _ = robustness(sure(), data, target="blue", attack=ATTACK, seed=4)
    assert other.details != again.details


def test_the_figure_has_six_pictures_a_row(found):
    _, figure = found
    (axes,) = figure.axes
    assert len(axes.images) == 12, "two photos"
    texts = [text.get_text() for text in axes.texts]
    assert {"blue, after", "p > 0.9999", "what was added, × 1.25"} < set(texts)
    assert sum(text.startswith("p < 0.0001 · ρ = ") for text in texts) == 2


def test_a_plain_folder(data):
    study, _ = robustness(sure(), data / "images", target="blue", attack=ATTACK, methods=["gradcam", "layercam"])
    assert study.items == 3 and [table.title for table in study.tables][-1].startswith("Maps of true classes")
    assert [row["label"] for row in rows(study, PHOTO, method="gradcam")] == ["red", "red", "green"]
    assert all(row["hit"] is row["energy"] is None for row in study.details["maps"])
    assert "likeliest one before the attack" in study.notes[0]
    assert [control.what.endswith("(layercam).") for control in study.controls] == [False, False, False, True, True]
    left, figure = robustness(sure(), data / "images", target="green", attack=ATTACK, pictures=1)
    assert len(figure.axes[0].images) == 6
    assert left.items == 2, "a photo that shows the target already cannot be made to"


def test_refusals(data, tmp_path):
    task = sure()
    with pytest.raises(InputError, match="on none of 2 photos: raise epsilon"):
        robustness(task, data, target="blue", attack=TargetedPGD(epsilon=0.01))
    with pytest.raises(TargetError, match="'airliner'"):
        robustness(task, data)
    with pytest.raises(InputError, match="holds 1 photos that can be made to show 'green'"):
        robustness(task, data, target="green", attack=ATTACK)
    with pytest.raises(InputError, match="pictures=0"):
        robustness(task, data, target="blue", pictures=0)
    with pytest.raises(InputError, match="limit=1"):
        robustness(task, data, target="blue", limit=1)
    with pytest.raises(InputError, match="has none of the 3 classes"):
        robustness(colours(("x", "y", "z")), data, target="x")
    with pytest.raises(InputError, match="is for classifiers with class names"):
        robustness(colours(None), data, target=0)
    plain = colours()
    plain.link = "none"
    with pytest.raises(InputError, match="are no probabilities that could be attacked"):
        robustness(plain, data, target="blue")
    with pytest.raises(InputError, match=r"ends in \.bmp"):
        robustness(task, tmp_path, target="blue")


# -- tables and controls -----------------------------------------------------------------------------------------------


def made(**changes):
    """Two photos, of which the attack reached the first, and one map of each."""
    says = {PHOTO: 0.1, ADVERSARIAL: 0.99995, NOISE: 0.1}
    changed = [
        Changed(
            key,
            view,
            key == "a",
            p if key == "a" else 0.1,
            "dog",
            view == ADVERSARIAL,
            view == NOISE,
            False,
            3,
            0.02,
            5.0,
        )
        for key in "ab"
        for view, p in says.items()
    ]
    numbers = {PHOTO: (None, 1.0), ADVERSARIAL: (0.5, 1.0), NOISE: (0.9, 1.0), OTHER: (0.1, 0.0)} | changes
    mapped = [
        Mapped(key, "dog", "beagle", "gradcam", view, key == "a", 0.25, value, value, hit, 0.75)
        for view, (value, hit) in numbers.items()
        for key in "ab"
    ]
    return Found("airliner", TargetedPGD(), changed, mapped)


def test_tables_worked_by_hand():
    predictions, changes, alike, placed = (table.cells() for table in tables(made()))
    assert predictions[2] == ["adversarial photo", "0.0", "100.0", "0.0", "55.0", "25.0", "2"]
    assert changes[1] == ["adversarial photo", "3.00", "5.10", "5.00"]
    assert alike == [
        ["gradcam", "photo with noise", "0.90", "0.90", "1"],
        ["gradcam", "adversarial photo", "0.50", "0.50", "1"],
        ["gradcam", "another photo", "0.10", "0.10", "1"],
    ]
    assert placed[3] == ["gradcam", "another photo", "0.0", "75.0", "1"]
    assert placed[4] == ["gradcam", "adversarial photo − photo", "0.0", "0.0", "–"]
    assert "1 of 2 photos, on which the attack did not get there" in made().notes()[-1]


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, None),
        ({NOISE: (0.5, 1.0)}, 1),
        ({OTHER: (0.6, 0.0)}, 2),
        ({OTHER: (0.1, 1.0)}, 3),
        ({NOISE: (None, 1.0)}, 1),
    ],
)
def test_controls_on_maps_can_fail(changes, failed):
    held = [control.held for control in controls(made(**changes))]
    assert held == [number != failed for number in range(4)]


def test_the_control_on_noise_can_fail():
    found = made()
    for change in ({"probability": 0.2}, {"keeps_top": False}):
        changed = [replace(row, **change) if row.view == NOISE else row for row in found.changed]
        assert not controls(replace(found, changed=changed))[0].held


# -- the verb ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("verb")
    (path / "images").mkdir()
    for number in range(3):
        picture(120 + number).save(path / "images" / f"{number}.png")
    return path


def arguments(folder, classifier):
    base = ("study", "robustness", "--data", folder, "--model", classifier, "--device", "cpu")
    return (*base, "--epsilon", "255", "--confidence", "0.4", "--target", "cloud")


def test_the_record_and_the_files(folder, classifier, tmp_path):
    found = record(*arguments(folder, classifier), "--limit", 2, "--out", tmp_path / "out")
    assert found["name"] == "robustness" and found["items"] == 2 and found["settings"]["epsilon"] == "255/255"
    assert [path.rsplit("/", 1)[1] for path in found["files"]] == ["study.json", "study.md", "study.png"]
    assert (tmp_path / "out" / "study.png").stat().st_size > 10_000
    assert found["settings"]["target"] == "cloud"


def test_what_is_printed(folder, classifier):
    result = run(*arguments(folder, classifier), "--limit", 2)
    assert result.exit_code == 0, result.output
    assert result.stderr == "" and "says cloud" in result.stdout and "2 items" in result.stdout
    assert "control held: Uniform noise" in result.stdout or "control failed: Uniform noise" in result.stdout


def test_what_the_verb_refuses(folder, classifier, captioner, photo, tmp_path):
    base = arguments(folder, classifier)
    for epsilon in ("0", "x", "8/0", "256", "300/255"):
        assert f"--epsilon '{epsilon}': give levels" in refusal(*base, "--epsilon", epsilon)
    assert "no such file or folder: 'nowhere'" in refusal(*base, "--data", "nowhere")
    assert "'airliner'" in refusal(*base, "--target", "airliner")
    assert "--limit" in refusal(*base, "--limit", 0)
    assert "confidence=1" in refusal(*base, "--confidence", 1)
    assert "is no folder" in refusal(*base, "--out", photo)
    assert "unknown method 'gradcan'; closest: 'gradcam'" in refusal(*base, "--method", "gradcan")
    assert "closest: 'layer4'" in refusal(*base, "--layer", "layer9")
    assert "no data with boxes" in refusal(*base, "--data", photo)
    assert "classif" in refusal(*base, "--model", captioner)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "1.png").write_bytes(b"no photo")
    (broken / "2.png").write_bytes(b"no photo")
    assert "1.png" in refusal(*base, "--data", broken)
