"""COCO's layout: the project's JSON Lines and the published JSON; outlines, run lengths, crowds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmexplain.errors import InputError
from mmexplain.evaluate.data.objects import read
from mmexplain.evaluate.data.scene import Runs, Thing
from tests.evaluate.objects import photo


def instances(folder: Path, **changes: Any) -> dict[str, Any]:
    photo(folder / "val2017" / "000000000139.jpg", size=(8, 4))
    return {
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "images": [{"id": 139, "file_name": "000000000139.jpg", "width": 8, "height": 4}],
        "annotations": [
            {"image_id": 139, "category_id": 18, "bbox": [1, 1, 4, 2], "segmentation": [[1, 1, 5, 1, 5, 3, 1, 3]]},
            {
                "image_id": 139,
                "category_id": 1,
                "bbox": [6, 0, 2, 2],
                "iscrowd": 1,
                "segmentation": {"size": [4, 8], "counts": [24, 2, 2, 2, 2]},
            },
        ],
        **changes,
    }


def write(folder: Path, record: Any, name: str = "instances_val2017.json") -> Path:
    path = folder / "annotations" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def test_the_published_layout(tmp_path: Path) -> None:
    path = write(tmp_path, instances(tmp_path))
    for source in (path, tmp_path):
        (scene,) = read(source)
        assert scene.size == (4, 8) and scene.path == tmp_path / "val2017" / "000000000139.jpg"
        dog, person = scene.things
        assert dog.box == (1, 1, 5, 3) and not dog.crowd and person.crowd
        assert scene.names == ["dog", "person"]
        expected = np.zeros((4, 8), dtype=bool)
        expected[0:2, 6:8] = True
        assert (scene.mask("person") == expected).all(), "runs go down the columns"
        assert scene.mask("dog")[1:3, 1:5].all() and not scene.mask("dog")[:, 6:].any()


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_box_that_is_nowhere_is_damaged_data(tmp_path: Path, number: str) -> None:
    record = instances(tmp_path)
    record["annotations"][0]["bbox"][2] = float(number)
    with pytest.raises(InputError, match=r"does not hold objects in COCO's layout.*a box .* that is nowhere"):
        read(write(tmp_path, record))
    objects = f'[{{"cat": "dog", "bbox": [1, {number}, 2, 2], "crowd": 0}}]'
    path = tmp_path / "annotations.jsonl"
    path.write_text(f'{{"file": "val2017/000000000139.jpg", "w": 8, "h": 4, "objects": {objects}}}\n')
    with pytest.raises(InputError, match="that is nowhere"):
        read(path)


def test_an_outline_covers_its_area() -> None:
    triangle = Thing("kite", (0, 0, 100, 100), ((0.0, 0.0, 100.0, 0.0, 0.0, 100.0),))
    assert triangle.mask((100, 100)).sum() == 99 * 100 / 2, "centres on the slanted edge are not held"
    square = Thing("box", (10, 20, 30, 40), ((10.0, 20.0, 30.0, 20.0, 30.0, 40.0, 10.0, 40.0),))
    found = square.mask((50, 50))
    assert found.sum() == 400 and found[20:40, 10:30].all()


def test_a_mask_of_another_size() -> None:
    whole = np.zeros((6, 8), dtype=bool)
    whole[2:4, 4:8] = True
    counts = [26, 2, 4, 2, 4, 2, 4, 2, 2]
    runs = Runs((6, 8), tuple(counts))
    assert (runs.mask((6, 8)) == whole).all()
    assert (runs.mask((3, 4)) == whole[1::2, 1::2]).all()
    assert runs.mask((12, 16)).sum() == 4 * whole.sum()


def test_objects_of_no_extent_cover_nothing() -> None:
    assert not Thing("dog", (3, 3, 3, 5)).mask((8, 8)).any() and Thing("dog", (3, 3, 3, 5)).area == 0
    assert not Thing("dog", (5, 5, 3, 3)).mask((8, 8)).any() and Thing("dog", (5, 5, 3, 3)).area == 0
    assert Thing("dog", (3, 3, 4, 4)).mask((8, 8)).sum() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "TypeError"),
        ({"categories": []}, "KeyError: 18"),
        ({"images": [{"id": 1, "file_name": "x.jpg", "width": 8, "height": 4}]}, "photo 'x.jpg' is in none of"),
    ],
)
def test_damaged_instances(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, instances(tmp_path, **changes))
    with pytest.raises(InputError, match=message):
        read(path)


def test_refusals(tmp_path: Path) -> None:
    record = instances(tmp_path)
    path = write(tmp_path, record)
    record["annotations"][1]["segmentation"]["counts"] = "abc"
    write(tmp_path, record)
    with pytest.raises(InputError, match="compressed masks"):
        read(path)
    record["annotations"][1]["segmentation"]["counts"] = [24, 2]
    write(tmp_path, record)
    with pytest.raises(InputError, match="a mask of 26 pixels for 4 × 8"):
        read(path)
    write(tmp_path, record, "instances_train2017.json")
    with pytest.raises(InputError, match="holds 2 files of instances; name one"):
        read(tmp_path)
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(InputError, match="is no data with boxes"):
        read(tmp_path / "other.txt")
    (tmp_path / "a.jsonl").write_text("{\n")
    with pytest.raises(InputError, match="in COCO's layout"):
        read(tmp_path / "a.jsonl")


def test_the_real_photos(data_dir: Path) -> None:
    scenes = read(data_dir / "coco_mini")
    assert len(scenes) == 159 and sum(len(scene.things) for scene in scenes) == 1363
    assert len({name for scene in scenes for name in scene.names}) == 80
    crowds = [(scene, thing) for scene in scenes for thing in scene.things if thing.crowd]
    assert len(crowds) == 13
    for scene, thing in [*crowds, *((scene, scene.things[0]) for scene in scenes[:40])]:
        mask, (left, top, right, bottom) = thing.mask(scene.size), thing.box
        rows, columns = np.nonzero(mask)
        assert mask.shape == scene.size
        if len(rows) > 4:
            assert abs(columns.min() - left) < 3 and abs(columns.max() + 1 - right) < 3, (scene.key, thing.name)
            assert abs(rows.min() - top) < 3 and abs(rows.max() + 1 - bottom) < 3, (scene.key, thing.name)
