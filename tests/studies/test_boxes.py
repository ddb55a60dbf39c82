"""Boxes from maps: that they lie where they should, in files that others read, and that the controls can fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmexplain.errors import InputError, MethodError
from mmexplain.evaluate.data.labelled import Labelled
from mmexplain.evaluate.data.objects import read as read_objects
from mmexplain.studies.annotation.box_files import copy_photos, file_names, write_coco, write_yolo
from mmexplain.studies.annotation.boxes import GRID, Annotated, Annotation, centred, contrast, study_boxes
from mmexplain.studies.annotation.boxes_told import boxes_figure
from tests.command_line import record, refusal, run
from tests.evaluate.objects import COLOURS, colours
from tests.studies.marked import SIZE, marked, scattered

pytest_plugins = ["tests.command_line_fixtures"]


def blocks(data: Path) -> dict[str, dict[str, tuple[float, ...]]]:
    """Photo → class → edges, read without the package."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for line in (data / "annotations.jsonl").read_text().splitlines():
        entry = json.loads(line)
        for one in entry["objects"]:
            x, y, width, height = one["bbox"]
            found.setdefault(entry["file"], {})[one["cat"]] = (x, y, x + width, y + height)
    return found


def test_boxes_are_those_of_the_blocks(tmp_path: Path) -> None:
    data = scattered(tmp_path)
    study, photos = study_boxes(colours(), data, method="cam")
    for one in photos:
        assert one.size == (SIZE, SIZE)
        assert {box.name: box.box for box in one.boxes} == blocks(data)[one.photo.key]
        assert all(box.contrast == pytest.approx(1) and box.score is not None for box in one.boxes)
    assert study.items == 12 and study.details["boxes"] == 24
    agreement = study.tables[0]
    assert agreement.rows[0][:2] == ["all", "cam"] and agreement.rows[0][2].value == 1
    assert agreement.rows[0][3].value == 1 and agreement.rows[0][4] == 24
    assert study.held and len(study.controls) == 2


def test_controls_fail_for_a_model_that_looks_at_the_wrong_things(tmp_path: Path) -> None:
    """Its "red" is blue, which is nowhere: the box in the middle is better than none."""
    data = scattered(tmp_path)
    study, photos = study_boxes(colours(["blue", "green", "red"]), data, method="cam")
    assert all({box.name for box in one.boxes} == {"green"} for one in photos)
    swapped, _ = study_boxes(colours(["green", "red", "blue"]), data, method="cam")
    assert not swapped.held and not swapped.controls[0].held
    assert swapped.tables[0].rows[0][2].value == 0
    assert study.tables[0].rows[0][2].value == 0.5


def test_numbers_of_the_controls(tmp_path: Path) -> None:
    """Two photos, worked by hand: drawn boxes of 16 × 16 and 16 × 8 have a mean of 16 × 12, from (8, 10) to (24, 22);
    the random class of both can only be green or blue, which are black."""
    data = marked(tmp_path, {"a.png": [("red", (8, 8, 24, 24))], "b.png": [("red", (0, 0, 16, 8))]})
    study, _ = study_boxes(colours(), data, method="cam")
    one, two = study.details["measured"]
    assert one["centre"] == pytest.approx(16 * 12 / (16 * 16))
    assert two["centre"] == pytest.approx(0)
    assert one["random"] == two["random"] == 0 and one["alone"]
    assert "Mean IoU: +62.5 points." in study.controls[0].found


def test_contrast_and_the_middle() -> None:
    heat = np.array([[0.0, 4.0, 2.0], [np.nan, 0.0, 2.0]])
    assert contrast(heat, (1, 0, 3, 1)) == pytest.approx((3 - 2 / 3) / 4)
    assert contrast(heat, (0, 0, 3, 2)) == pytest.approx(8 / 5 / 4)
    assert centred((0.5, 0.25), (100, 40)) == (15, 25, 25, 75)


def test_the_same_photo_lying_and_upright(tmp_path: Path) -> None:
    """A file that EXIF turns gives the boxes of one whose pixels are turned already, in both formats."""
    upright = Image.new("RGB", (40, 60))
    upright.paste(COLOURS["red"], (4, 30, 20, 54))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("upright", "lying"):
        (tmp_path / name / "red").mkdir(parents=True)
    upright.save(tmp_path / "upright" / "red" / "a.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying" / "red" / "a.png", exif=exif)
    assert Image.open(tmp_path / "lying" / "red" / "a.png").size == (60, 40)
    found = {}
    for name in ("upright", "lying"):
        _, photos = study_boxes(colours(), tmp_path / name, method="cam")
        write_coco(tmp_path / name, photos, file_names(photos, True), "")
        write_yolo(tmp_path / name, photos, file_names(photos, True), False)
        copy_photos(tmp_path / name, photos)
        coco = json.loads((tmp_path / name / "instances.json").read_text())
        yolo = (tmp_path / name / "labels" / "a.txt").read_text()
        found[name] = coco["images"], coco["annotations"], yolo
        assert Image.open(tmp_path / name / "images" / "a.jpg").size == (40, 60)
    assert found["lying"] == found["upright"]
    (image,), (annotation,), yolo = found["lying"]
    assert (image["width"], image["height"]) == (40, 60)
    left, top, width, height = annotation["bbox"]
    assert np.allclose((left, top, left + width, top + height), (4, 30, 20, 54), atol=2)
    number, *shares = yolo.split()
    x, y, w, h = (float(share) * side for share, side in zip(shares, (40, 60, 40, 60), strict=True))
    assert number == "0" and np.allclose((x - w / 2, y - h / 2, w, h), annotation["bbox"], atol=1e-5)


def test_coco_comes_back(tmp_path: Path) -> None:
    """As COCO describes it, and through this package's own reader."""
    _, photos = study_boxes(colours(), scattered(tmp_path / "data", 3), method="cam")
    photos.append(Annotated(photos[0].photo, (SIZE, SIZE), ()))
    names = ["00.jpg", "01.jpg", "02.jpg", "03.jpg"]
    record = json.loads(write_coco(tmp_path, photos, names, "about").read_text())
    assert [set(record), record["info"]["description"]] == [{"info", "images", "annotations", "categories"}, "about"]
    assert [one["id"] for one in record["annotations"]] == list(range(1, 7))
    assert [(one["id"], one["name"]) for one in record["categories"]] == [(1, "green"), (2, "red")]
    sizes = {image["id"]: (image["width"], image["height"]) for image in record["images"]}
    for one in record["annotations"]:
        x, y, w, h = one["bbox"]
        assert one["area"] == w * h > 0 and one["iscrowd"] == 0 and 0 < one["score"] < 1
        assert x >= 0 and y >= 0 and x + w <= sizes[one["image_id"]][0] and y + h <= sizes[one["image_id"]][1]
        (polygon,) = one["segmentation"]
        assert (min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])) == (x, y, x + w, y + h)
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "images" / name)
    scenes = read_objects(tmp_path / "instances.json")
    assert [{thing.name: thing.box for thing in scene.things} for scene in scenes] == [
        {box.name: box.box for box in one.boxes} for one in photos
    ]


def test_yolo_by_hand(tmp_path: Path) -> None:
    photo = Labelled("val/a.png", Path("val/a.png"), ("dog",))
    boxes = (Annotation("dog", (0, 0, 50, 20), 0.25, 0.5), Annotation("cat", (80, 10, 100, 40), 0.75, 0.1))
    photos = [Annotated(photo, (40, 100), boxes), Annotated(Labelled("b.jpg", Path("b.jpg"), ()), (10, 10), ())]
    write_yolo(tmp_path, photos, file_names(photos, False), False)
    assert (tmp_path / "labels" / "val" / "a.txt").read_text() == (
        "1 0.25000000 0.25000000 0.50000000 0.50000000\n0 0.90000000 0.62500000 0.20000000 0.75000000\n"
    )
    assert (tmp_path / "labels" / "b.txt").read_text() == ""
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\n"
    assert '  0: "cat"\n  1: "dog"\n' in (tmp_path / "data.yaml").read_text()
    write_yolo(tmp_path, photos, file_names(photos, False), True)
    assert (tmp_path / "labels" / "val" / "a.txt").read_text().splitlines()[0].endswith(" 0.25000000")
    with pytest.raises(InputError, match="would share one file"):
        write_yolo(tmp_path, photos, ["a.jpg", "a.png"], False)
    nameless = [Annotated(photo, (40, 100), (Annotation("dog", (0, 0, 5, 2), None, 0.5),))]
    with pytest.raises(InputError, match="no probabilities"):
        write_yolo(tmp_path, nameless, ["a.jpg"], True)


def test_the_calibrated_threshold_is_the_best_in_every_other_photo(tmp_path: Path) -> None:
    """Blocks with a dim rim: below a threshold of half the maximum the rim belongs to the box, and it should not."""
    photos = {f"{n}.png": [("red", (8 + n, 8, 20 + n, 20))] for n in range(6)}
    data = marked(tmp_path, photos)
    for name, ((_, block),) in photos.items():
        image = Image.new("RGB", (SIZE, SIZE))
        image.paste((100, 0, 0), (block[0] - 6, 2, block[2] + 6, 26))
        image.paste(COLOURS["red"], block)
        image.save(data / "images" / name)
    study, _ = study_boxes(colours(), data, method="cam", threshold=None)
    ious = {}
    for threshold in GRID:
        rows = study_boxes(colours(), data, method="cam", threshold=threshold)[0].details["measured"]
        ious[threshold] = [row["own"] for row in rows]
    best = max(GRID, key=lambda threshold: np.mean(ious[threshold][::2]))
    assert study.details["threshold"] == best == 0.4, "the rim has 100 of 255"
    assert [row["own"] for row in study.details["measured"]] == ious[best][1::2]
    with pytest.raises(InputError, match="two or more photos"):
        study_boxes(colours(), data, method="cam", threshold=None, limit=1)


def test_photos_of_which_nothing_is_known(tmp_path: Path) -> None:
    """The likeliest classes, and no control."""
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        image = Image.new("RGB", (SIZE, SIZE))
        image.paste(COLOURS[colour], (3, 5, 11, 29))
        image.save(tmp_path / name)
    study, photos = study_boxes(colours(), tmp_path, method="cam")
    assert [(one.photo.key, [(box.name, box.box) for box in one.boxes]) for one in photos] == [
        ("a.png", [("red", (3, 5, 11, 29))]),
        ("b.png", [("blue", (3, 5, 11, 29))]),
    ]
    assert study.controls == [] and "no control was made" in study.notes[-1] and boxes_figure(study) is None
    two, photos = study_boxes(colours(), tmp_path, method="cam", count=2)
    assert [len(one.boxes) for one in photos] == [1, 1], "the map of the second says nothing"
    assert two.settings["classes"] == "the 2 likeliest"


def test_the_same_seed_draws_the_same_whatever_the_limit(tmp_path: Path) -> None:
    data = scattered(tmp_path)
    whole, part = (study_boxes(colours(), data, method="cam", limit=limit)[0].details["measured"] for limit in (12, 4))
    assert [row["random"] for row in whole][:8] == [row["random"] for row in part]


def test_refusals(tmp_path: Path) -> None:
    data = scattered(tmp_path, 2)
    with pytest.raises(InputError, match=r"threshold=1\.5"):
        study_boxes(colours(), data, threshold=1.5)
    with pytest.raises(InputError, match="limit=0"):
        study_boxes(colours(), data, limit=0)
    with pytest.raises(MethodError, match="names 2 methods"):
        study_boxes(colours(), data, method="occlusion(patch=[8, 16])")
    with pytest.raises(InputError, match="has none of the 2 classes"):
        study_boxes(colours(["a", "b", "c"]), data)


def test_the_verb(tmp_path: Path, photo: Path, classifier: str, captioner: str) -> None:
    out = tmp_path / "out"
    arguments = ("study", "boxes", "--data", photo.parent, "--model", classifier, "--out", out)
    found = record(*arguments, "--format", "coco", "--format", "yolo", "--photos", "--top", 2)
    assert found["items"] == 1 and found["controls"] == [] and found["held"]
    assert {Path(file).name for file in found["files"]} == {
        "images",
        "instances.json",
        "labels",
        "classes.txt",
        "data.yaml",
        "study.json",
        "study.md",
    }
    assert all(Path(file).exists() for file in found["files"])
    printed = run(*arguments).stdout
    assert "Boxes of the commonest classes" in printed and "wrote" in printed
    base = ("study", "boxes", "--data", photo.parent, "--model")
    assert "--out" in refusal(*base, classifier)
    assert "is no folder" in refusal(*base, classifier, "--out", photo)
    assert "neither a number nor 'calibrated'" in refusal(*base, classifier, "--out", out, "--threshold", "much")
    assert "no share" in refusal(*base, classifier, "--out", out, "--threshold", "2")
    assert "two or more photos" in refusal(*base, classifier, "--out", out, "--threshold", "calibrated")
    assert "is for classifiers" in refusal(*base, captioner, "--out", out)
    assert "no such file or folder" in refusal("study", "boxes", "--data", "no", "--model", classifier, "--out", out)


def test_the_figure(tmp_path: Path) -> None:
    study, _ = study_boxes(colours(), scattered(tmp_path), method="cam")
    figure = boxes_figure(study)
    assert figure is not None
    (axes,) = figure.axes
    own = axes.lines[0]
    assert own.get_label() == "cam: 100% at 0.5" and (own.get_ydata() == 100).all()


@pytest.mark.parametrize("name", ["../a.jpg", "/data/a.jpg", "x/../../a.jpg"])
def test_labels_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    photos = [Annotated(Labelled(name, Path(name), ()), (10, 10), ())]
    with pytest.raises(InputError, match="outside"):
        write_yolo(tmp_path / "out", photos, [name], False)
    assert not list(tmp_path.rglob("*.txt"))
