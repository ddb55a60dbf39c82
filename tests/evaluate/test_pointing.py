"""The pointing game: hand-worked points, and a classifier whose maps are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmexplain.errors import InputError
from mmexplain.evaluate import run
from mmexplain.evaluate.data.scene import Scene, Thing
from mmexplain.evaluate.intervals import mean
from mmexplain.evaluate.masks import near
from mmexplain.evaluate.metrics.pointing import TOLERANCE, hit, is_difficult, point_or_reject
from mmexplain.evaluate.on_objects import Looked
from mmexplain.evaluate.pointing import CENTRE, Pointing
from tests.evaluate.objects import colours, lines, photo

NAN = math.nan


def torchray(mask: np.ndarray, point: tuple[int, int], tolerance: float) -> bool:
    """The acceptance circle, pixel by pixel."""
    return any(
        (x - point[0]) ** 2 + (y - point[1]) ** 2 < tolerance**2 and mask[y, x]
        for y in range(mask.shape[0])
        for x in range(mask.shape[1])
    )


def test_tolerance_is_a_circle() -> None:
    mask = np.zeros((60, 60), dtype=bool)
    mask[30, 30] = True  # an object of one pixel
    wide = near(mask, TOLERANCE)
    assert hit((30, 30), wide) and hit((44, 30), wide) and hit((30, 16), wide)
    assert not hit((45, 30), wide), "15 px away: nearer than 15 is asked for"
    assert not hit((41, 41), wide), "15.6 px away over the corner"
    assert hit((40, 40), wide) and hit((31, 30), near(mask, 1.5)) and not hit((31, 30), near(mask, 1))
    assert np.array_equal(near(mask, 0), mask)
    nothing = np.zeros((60, 60), dtype=bool)
    assert not hit(None, wide) and not near(nothing, 15).any()


def test_distances_of_a_photo_that_was_made_smaller() -> None:
    """A pixel here is 2 high and 3 wide there: 15 are 7.5 down and 5 across."""
    mask = np.zeros((60, 60), dtype=bool)
    mask[30, 30] = True
    wide = near(mask, 15, (2, 3))
    assert hit((30, 37), wide) and not hit((30, 38), wide)
    assert hit((34, 30), wide) and not hit((35, 30), wide), "15 exactly is not nearer"
    assert hit((33, 35), wide) and not hit((33, 36), wide), "9² + 10² and 9² + 12²"


def test_hits_equal_a_loop_over_all_pixels() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        mask = random.random((24, 31)) > 0.995
        point = (int(random.integers(31)), int(random.integers(24)))
        for tolerance in (1, 4, 7.5, 15):
            assert hit(point, near(mask, tolerance)) == torchray(mask, point, tolerance)


def test_the_difficult_subset() -> None:
    def scene(*things: Thing) -> Scene:
        return Scene("a", Path("a"), (10, 20), things)

    dog, cat = Thing("dog", (0, 0, 7, 7)), Thing("cat", (0, 0, 20, 10))
    assert not is_difficult(scene(dog), "dog"), "no other class"
    assert not is_difficult(scene(dog, dog), "dog")
    assert is_difficult(scene(dog, cat), "dog") and not is_difficult(scene(dog, cat), "cat")
    assert not is_difficult(scene(dog, dog, cat), "dog"), "boxes sum to 98 of 200"
    assert not is_difficult(scene(Thing("dog", (0, 0, 10, 5)), cat), "dog"), "exactly a quarter is not less"


@pytest.mark.parametrize(
    ("present", "hits", "strength", "share", "right"),
    [
        (True, True, 1.0, 0.5, True),
        (True, False, 1.0, 0.5, False),
        (True, True, 0.4, 0.5, False),
        (True, True, 0.5, 0.5, True),
        (False, False, 0.4, 0.5, True),
        (False, False, 0.6, 0.5, False),
        (False, False, 0.0, 0.0, False),
        (False, False, 0.0, 0.5, True),
        (True, False, NAN, 0.5, False),
        (False, False, NAN, 0.5, False),
    ],
)
def test_rejection(present: bool, hits: bool, strength: float, share: float, right: bool) -> None:
    assert point_or_reject(present, hits, strength, 1.0, share) is right


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """In 200 × 100 pixels: the map of a colour is 1 on its block and 0 elsewhere."""
    size = (200, 100)
    photo(tmp_path / "images" / "both.png", ("red", (0, 0, 40, 40)), ("green", (150, 50, 200, 100)), size=size)
    photo(tmp_path / "images" / "wrong.png", ("red", (0, 0, 40, 40)), size=size)
    photo(tmp_path / "images" / "flat.png", size=size)
    return lines(
        tmp_path,
        ("both.png", [("red", (0, 0, 40, 40)), ("green", (150, 50, 50, 50))]),
        ("wrong.png", [("red", (100, 0, 100, 100))]),
        ("flat.png", [("red", (0, 0, 200, 100)), ("empty", (3, 3, 0, 0))]),
        size=size,
    )


def test_the_protocol_on_maps_that_are_known(data: Path) -> None:
    protocol = Pointing(colours(), data, ["cam"], reject=[0, 0.5])
    items = protocol.items()
    rows = dict(zip([item.key for item in items], protocol.measure(items), strict=True))

    def of(key: str, subset: str, method: str = "cam") -> dict[str, float]:
        return {row["class"]: row["hit"] for row in rows[key] if (row["subset"], row["method"]) == (subset, method)}

    assert of("both.png", "all") == {"red": 1, "green": 1} == of("both.png", "difficult")
    assert of("wrong.png", "all") == {"red": 0} and of("wrong.png", "difficult") == {}
    assert of("flat.png", "all") == {"red": 0}, "a flat map is no hit, though all of the photo is red's"
    assert of("both.png", "all", CENTRE) == {"red": 0, "green": 0} and of("wrong.png", "all", CENTRE) == {"red": 1}
    assert [row["energy"] for row in rows["flat.png"] if "energy" in row] == [None], "positive nowhere: undefined"
    energy = {row["class"]: row["energy"] for row in rows["both.png"] if "energy" in row}
    assert energy == {"red": pytest.approx(0.93, abs=0.06), "green": pytest.approx(0.93, abs=0.06)}
    # Of "both" red and green are there and blue's map is zero; the others are right only where they are rejected.
    assert of("both.png", "top 5, reject none") == {"red": 1, "green": 1}, "blue is no class of the data"
    assert of("wrong.png", "top 5, reject below 50%") == {"red": 0, "green": 1}
    assert of("wrong.png", "top 5, reject none") == {"red": 0, "green": 0}
    assert of("flat.png", "top 5, reject below 50%") == {"red": 0, "green": 1}
    assert [protocol.measure([item])[0] for item in items] == list(rows.values()), "a batch equals its photos alone"


def test_the_table(data: Path) -> None:
    result = run(Pointing(colours(), data, ["cam"]))
    lines = {(line.labels["subset"], line.labels["method"]): line.means for line in result.lines}
    found = lines["all", "cam"]
    assert found["hit"].value == 0.5 and found["hit"].rows == 4
    assert found["class_hit"].value == pytest.approx((1 / 3 + 1) / 2), "red 1 of 3, green 1 of 1"
    assert "energy" not in lines["all", CENTRE] and "class_hit" not in lines["top 5, reject none", "cam"]
    assert any("(empty)" in note for note in result.notes)


def test_maps_that_are_not_finite_are_undefined(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Green's map is NaN: it is no strongest one for the others, whatever its place in the list."""
    own = Looked.values

    def values(self: Looked, label: int, method: str) -> torch.Tensor:
        return torch.full((2, 2), NAN) if label == 1 else own(self, label, method)

    monkeypatch.setattr(Looked, "values", values)
    protocol = Pointing(colours(), data, ["cam"], reject=[0.5])
    (rows,) = protocol.measure(protocol.items()[:1])
    found = {(row["subset"], row["class"]): row["hit"] for row in rows if row["method"] == "cam"}
    assert found["all", "red"] == 1 == found["top 5, reject below 50%", "red"]
    assert found["all", "green"] is None is found["top 5, reject below 50%", "green"]


def test_a_class_is_explained_by_its_likeliest_label(tmp_path: Path) -> None:
    """Two labels bear the name; in each photo the one with the higher score is explained."""
    photo(tmp_path / "images" / "a.png", ("red", (0, 0, 32, 32)))
    photo(tmp_path / "images" / "b.png", ("green", (32, 32, 64, 64)))
    lines(tmp_path, ("a.png", [("dog", (0, 0, 32, 32))]), ("b.png", [("dog", (32, 32, 32, 32))]))
    protocol = Pointing(colours(["dog", "dog", "cat"]), tmp_path, ["cam"], tolerance=0)
    rows = protocol.measure(protocol.items())
    assert [[row["hit"] for row in found if (row["subset"], row["method"]) == ("all", "cam")] for found in rows] == [
        [1],
        [1],
    ]


def test_refusals(data: Path) -> None:
    with pytest.raises(InputError, match="tolerance=-1"):
        Pointing(colours(), data, ["cam"], tolerance=-1)
    with pytest.raises(InputError, match="reject="):
        Pointing(colours(), data, ["cam"], reject=[2])


def test_real_photos(data_dir: Path) -> None:
    from mmexplain.tasks.registry import load

    task = load("efficientnet-lite0")
    result = run(Pointing(task, data_dir / "coco_mini", ["gradcam"]), limit=16)
    lines = {(line.labels["subset"], line.labels["method"]): line.means for line in result.lines}
    assert lines["all", "gradcam"]["hit"].value > lines["all", CENTRE]["hit"].value
    assert lines["all", "gradcam"]["hit"].rows > 30


def test_means_of_classes_and_their_intervals() -> None:
    """Against a loop that draws photos with replacement and takes the mean of the means of the classes drawn."""
    random = np.random.default_rng(3)
    items = [f"{number // 3}" for number in range(90)]
    classes = random.choice(["dog", "cat", "bird"], 90, p=[0.8, 0.15, 0.05]).tolist()
    values = (random.random(90) < [{"dog": 0.9, "cat": 0.4, "bird": 0.1}[name] for name in classes]).astype(float)
    found = mean(values.tolist(), items, within=classes)
    table = {name: values[np.array(classes) == name] for name in set(classes)}
    assert found.value == pytest.approx(np.mean([part.mean() for part in table.values()]))
    drawn = []
    for _ in range(2000):
        rows = [3 * photo + place for photo in random.integers(0, 30, 30) for place in range(3)]
        held = {name: [values[row] for row in rows if classes[row] == name] for name in table}
        drawn.append(np.mean([np.mean(part) for part in held.values() if part]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.03) and found.high == pytest.approx(high, abs=0.03)
    assert mean([1.0, None, 0.0], ["a", "a", "b"], within=["x", "y", "z"]).value == 0.5
    assert math.isnan(mean([1.0], ["a"], within=["x"]).low) and math.isnan(mean([None], ["a"], within=["x"]).value)
