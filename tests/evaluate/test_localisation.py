"""ILSVRC's localisation error and Loc(δ): hand-worked boxes, and a classifier whose maps are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mmexplain.errors import InputError, MethodError
from mmexplain.evaluate import run
from mmexplain.evaluate.data.scene import Scene, Thing
from mmexplain.evaluate.localisation import Localisation
from mmexplain.evaluate.masks import box_mask
from mmexplain.evaluate.metrics.localisation import iou, loc, segment_box
from tests.evaluate.objects import colours, lines, photo, xml

NAN = math.nan


def test_the_box_of_the_largest_segment() -> None:
    heat = np.zeros((6, 8))
    heat[0, 0] = 1.0  # the maximum is not in the largest segment
    heat[2:5, 3:6] = 0.15
    heat[5, 7] = 0.14
    assert segment_box(heat) == (3, 2, 6, 5)
    assert segment_box(heat, 0.16) == (0, 0, 1, 1), "one pixel"
    assert segment_box(heat, 0.14) == (3, 2, 6, 5), "the third is another segment"


def test_corners_connect() -> None:
    heat = np.eye(4)
    heat[0, 3] = 1
    assert segment_box(heat) == (0, 0, 4, 4)
    assert ndimage.label(heat)[1] == 5, "without corners there would be five segments of one pixel"


def test_of_equal_segments_the_first_is_taken() -> None:
    heat = np.zeros((4, 9))
    heat[3, 0:2] = heat[1, 6:8] = 1
    assert segment_box(heat) == (6, 1, 8, 2)


@pytest.mark.parametrize(
    "heat",
    [
        np.zeros((3, 3)),
        np.full((3, 3), 2.0),
        -np.arange(9.0).reshape(3, 3),
        np.full((3, 3), NAN),
        np.array([[NAN, 1.0], [1.0, NAN]]),
        np.array([[0.0, np.inf], [1.0, 0.0]]),
    ],
    ids=["zero", "flat", "negative", "unseen", "flat where seen", "infinite"],
)
def test_maps_that_say_nothing(heat: np.ndarray) -> None:
    assert segment_box(heat) is None
    assert math.isnan(loc(heat, np.ones(heat.shape, dtype=bool), 0.5))


def test_what_was_not_seen_is_not_inside() -> None:
    heat = np.array([[NAN, 1.0, 1.0, 0.0]])
    assert segment_box(heat) == (1, 0, 3, 1)
    assert loc(heat, np.array([[True, True, False, False]]), 0.5) == 1 / 3


def test_iou_by_hand() -> None:
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == 1 / 7
    assert iou((0, 0, 2, 2), (0, 0, 2, 1)) == 0.5
    assert iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert iou((1, 1, 1, 1), (1, 1, 1, 1)) == 0
    assert iou((3, 3, 1, 1), (0, 0, 4, 4)) == 0
    assert iou((0.5, 0, 1.5, 1), (0.5, 0, 1.5, 1)) == 1


def test_loc_by_hand() -> None:
    """Normalised to [0, ⅓, ⅔, 1], the box on the last two: δ = 0: 2 / (2 + 1); .5: 2 / 2; .9: 1 / 2."""
    heat = np.array([[1.0, 2.0, 3.0, 4.0]])
    boxes = np.array([[False, False, True, True]])
    assert loc(heat, boxes, 0) == 2 / 3
    assert loc(heat, boxes, 0.5) == 1
    assert loc(heat, boxes, 0.9) == 0.5
    assert loc(heat, ~boxes, 0.5) == 0
    assert math.isnan(loc(heat, np.zeros((1, 4), dtype=bool), 0))
    assert loc(heat, box_mask((3, 0, 4, 1), (1, 4)), 0.9) == 1, "a box of one pixel"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Photos of 64 × 64: the map of a colour is 1 on its block and 0 elsewhere."""
    block = (16, 16, 48, 48)
    photo(tmp_path / "images" / "right.png", ("red", block))
    photo(tmp_path / "images" / "shifted.png", ("red", block))
    photo(tmp_path / "images" / "second.png", ("red", (0, 0, 40, 40)), ("green", (48, 48, 64, 64)))
    photo(tmp_path / "images" / "black.png")
    photo(tmp_path / "images" / "unknown.png", ("blue", block))
    return lines(
        tmp_path,
        ("right.png", [("red", (16, 16, 32, 32))]),
        ("shifted.png", [("red", (48, 16, 16, 32))]),
        ("second.png", [("green", (48, 48, 16, 16))]),
        ("black.png", [("red", (0, 0, 64, 64))]),
        ("unknown.png", [("kite", (16, 16, 32, 32))]),
    )


def test_the_protocol_on_maps_that_are_known(data: Path) -> None:
    protocol = Localisation(colours(), data, ["cam"])
    items = {item.key: item for item in protocol.items()}
    assert set(items) == {"right.png", "shifted.png", "second.png", "black.png"}
    rows = dict(zip(items, protocol.measure(list(items.values())), strict=True))
    errors = {key: next(row for row in found if "error_top1" in row) for key, found in rows.items()}
    shown = {
        key: [row[name] for name in ("error_top1", "error_top5", "class_error_top1", "class_error_top5")]
        for key, row in errors.items()
    }
    assert shown == {
        "right.png": [0, 0, 0, 0],
        "shifted.png": [1, 1, 0, 0],
        "second.png": [1, 0, 1, 0],
        "black.png": [1, 1, 0, 0],
    }
    # 32 × 32 input pixels over 64 × 64: between them the map falls off over a few pixels.
    right = next(row for row in rows["right.png"] if "loc_0.5" in row)
    assert right["class"] == "red" and right["loc_0.5"] == pytest.approx(1, abs=0.1)
    assert right["loc_0.0"] == pytest.approx(32**2 / 36**2, abs=0.1)
    assert next(row for row in rows["black.png"] if "loc_0.5" in row)["loc_0.5"] is None
    alone = [protocol.measure([item])[0] for item in items.values()]
    assert alone == list(rows.values()), "a batch equals its photos alone"


def test_the_table_and_its_notes(data: Path) -> None:
    result = run(Localisation(colours(), data, ["cam", "gradcam"]))
    assert [line.labels["method"] for line in result.lines] == ["cam", "gradcam"]
    assert result.lines[0].means["error_top1"].value == 0.75 and result.lines[0].means["error_top5"].value == 0.5
    assert result.lines[0].means["error_top1"].rows == 4 and result.items == 4
    notes = " ".join(result.notes)
    assert "Left out: 1 of 3 classes" in notes and "(kite), and 1 of 5 photos" in notes and "8-connectivity" in notes
    assert Localisation(colours(), data, ["cam"], share=0.3).settings()["share"] == 0.3


def test_crowds_are_left_out_of_boxes_alike() -> None:
    scene = Scene("a", Path("a"), (4, 4), (Thing("dog", (0, 0, 2, 2)), Thing("dog", (0, 0, 4, 4), crowd=True)))
    assert scene.boxes("dog").sum() == 16 and scene.boxes("dog", crowds=False).sum() == 4


def test_photos_of_another_size_and_difficult_objects(tmp_path: Path) -> None:
    """A photo that was resized after it was marked has no rows; a class whose objects are all hardly to be recognised
    is not asked for."""
    photo(tmp_path / "JPEGImages" / "a.png", ("red", (0, 0, 32, 32)))
    xml(tmp_path / "Annotations" / "a.xml", (64, 64), ("red", (1, 1, 32, 32), 0), ("green", (1, 1, 5, 5), 1))
    photo(tmp_path / "JPEGImages" / "b.png", ("red", (0, 0, 32, 32)))
    xml(tmp_path / "Annotations" / "b.xml", (128, 128), ("red", (1, 1, 64, 64), 0))
    photo(tmp_path / "JPEGImages" / "c.png")
    xml(tmp_path / "Annotations" / "c.xml", (64, 64), ("green", (1, 1, 5, 5), 1))
    protocol = Localisation(colours(), tmp_path, ["cam"])
    items = protocol.items()
    assert [item.key for item in items] == ["a", "b"]
    one, two = protocol.measure(items)
    assert [row.get("class") for row in one] == [None, "red"] and two == []


def test_refusals(data: Path) -> None:
    task = colours()
    with pytest.raises(InputError, match=r"share=1\.5"):
        Localisation(task, data, ["cam"], share=1.5)
    with pytest.raises(MethodError, match="unknown method 'camm'"):
        Localisation(task, data, ["camm"])
    with pytest.raises(InputError, match="needs a method"):
        Localisation(task, data, [])
    with pytest.raises(InputError, match="has none of the 3 classes"):
        Localisation(colours(["a", "b", "c"]), data, ["cam"])
    task.labels = None
    with pytest.raises(InputError, match="is for classifiers with class names"):
        Localisation(task, data, ["cam"])
