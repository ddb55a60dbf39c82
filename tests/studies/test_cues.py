"""Cues, GrabCut, and agreement of label maps: hand-worked values and brute force."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.evaluate import intervals
from mmexplain.evaluate.data.objects import read as read_objects
from mmexplain.evaluate.data.scene import Scene, Thing
from mmexplain.studies.annotation import cues
from mmexplain.studies.annotation.cues import IGNORE
from mmexplain.studies.annotation.seed_files import indexed, palette
from mmexplain.studies.annotation.segmentation import VOC, Agreement, better, mean_of_ratios, numbered, truth
from tests.evaluate.objects import xml
from tests.studies.marked import outline

NAN = math.nan


def test_strengths_are_shares_of_the_maximum() -> None:
    found = cues.strength(np.array([[-1.0, 2.0, NAN], [4.0, 0.0, 1.0]]))
    assert np.array_equal(found, np.array([[0, 0.5, NAN], [1, 0, 0.25]]), equal_nan=True)
    assert not cues.strength(np.full((2, 2), 3.0)).any() and not cues.strength(-np.ones((2, 2))).any()


def test_cues_by_hand() -> None:
    """Two classes on six pixels, the last unseen; the threshold belongs to the cue."""
    strengths = {
        1: np.array([[1.0, 0.5, 0.2, 0.1, 0.05, NAN]], np.float32),
        2: np.array([[0.0, 0.3, 1.0, 0.05, 0.0, NAN]], np.float32),
    }
    found = cues.foreground(strengths, np.float32(0.2))
    assert found[1].tolist() == [[True, True, True, False, False, False]]
    assert found[2].tolist() == [[False, True, True, False, False, False]]
    background = cues.background_of_maps(strengths, 0.07)
    assert background.tolist() == [[False, False, False, False, True, False]]
    assert cues.label_map(found, background, strengths, "smallest").tolist() == [[1, 2, 2, 255, 0, 255]]
    assert cues.label_map(found, background, strengths, "strongest").tolist() == [[1, 1, 2, 255, 0, 255]]
    everywhere = np.ones((1, 6), bool)
    assert cues.label_map(found, everywhere, strengths, "smallest").tolist() == [[1, 2, 2, 0, 0, 0]]


def test_the_background_of_maps_that_say_nothing() -> None:
    nothing = {1: np.zeros((2, 3), np.float32)}
    assert not cues.background_of_maps(nothing, 0.1).any() and not cues.background_of_saliency(nothing, 0.1).any()
    assert (cues.label_map(cues.foreground(nothing, 0.2), np.zeros((2, 3), bool), nothing, "strongest") == IGNORE).all()


def test_the_least_salient_share() -> None:
    values = np.random.default_rng(0).permutation(200).astype(np.float32).reshape(10, 20) / 199
    values[0] = NAN
    found = cues.background_of_saliency({3: values, 4: values / 2}, 0.1)
    assert found.sum() == 18 and not found[0].any(), "a tenth of the 180 that were seen"
    assert values[found].max() < values[~found & ~np.isnan(values)].min()


@pytest.mark.parametrize("threshold", [0.2, 0.5])
@pytest.mark.parametrize("count", [1, 7, 200, 1999])
def test_the_middle_marks_as_many_pixels(count: int, threshold: float) -> None:
    heat = np.zeros((40, 60), np.float32)
    heat[:, 50:] = NAN
    found = cues.centred(heat, count, threshold)
    marked = cues.foreground({1: found}, threshold)[1]
    assert np.isnan(found[:, 50:]).all() and count <= marked.sum() <= count + 3, "by symmetry four are alike"
    y, x = np.nonzero(marked)
    away = ((y + 0.5) / 40 - 0.5) ** 2 + ((x + 0.5) / 60 - 0.5) ** 2
    rest = np.nonzero(~marked & ~np.isnan(found))
    if len(rest[0]):
        assert away.max() <= (((rest[0] + 0.5) / 40 - 0.5) ** 2 + ((rest[1] + 0.5) / 60 - 0.5) ** 2).min()
    assert not cues.foreground({1: cues.centred(heat, 0, threshold)}, threshold)[1].any()


def test_grabcut_finds_the_edges_of_colours() -> None:
    """Two blocks of their own colours; the maps are blobs that miss their corners and spill over their sides."""
    random = np.random.default_rng(0)
    photo = random.integers(80, 100, (90, 120, 3), dtype=np.uint8)
    true = np.zeros((90, 120), np.uint8)
    true[20:60, 10:50], true[30:80, 70:110] = 1, 2
    photo[true == 1] = (220, 30, 30)
    photo[true == 2] = (30, 30, 220)
    y, x = np.mgrid[:90, :120]
    strengths = {
        number: cues.strength(np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 500))
        for number, cy, cx in ((1, 36, 32), (2, 55, 90))
    }
    seeds = cues.label_map(
        cues.foreground(strengths, 0.2), cues.background_of_maps(strengths, 0.1), strengths, "smallest"
    )
    masks = np.where(seeds == IGNORE, 0, seeds)
    assert (masks != true).mean() > 0.05, "the blobs are no blocks"
    refined = cues.grabcut(photo, seeds, strengths)
    assert (refined == true).all()
    assert (cues.grabcut(photo, seeds, strengths) == refined).all(), "the same again"
    wide = cues.grabcut(photo.repeat(8, 0).repeat(8, 1), *_enlarged(seeds, strengths, 8))
    assert wide.shape == (720, 960) and (wide != true.repeat(8, 0).repeat(8, 1)).mean() < 0.01


def _enlarged(seeds, strengths, times):
    return (
        seeds.repeat(times, 0).repeat(times, 1),
        {number: values.repeat(times, 0).repeat(times, 1) for number, values in strengths.items()},
    )


def test_grabcut_where_there_is_one_side_only() -> None:
    photo = np.zeros((8, 8, 3), np.uint8)
    strengths = {2: np.ones((8, 8), np.float32)}
    assert (cues.grabcut(photo, np.full((8, 8), 2, np.uint8), strengths) == 2).all()
    nothing = {2: np.zeros((8, 8), np.float32)}
    assert (cues.grabcut(photo, np.full((8, 8), IGNORE, np.uint8), nothing) == 0).all()


def test_without_opencv_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(InputError, match="--no-grabcut"):
        cues.opencv()


def test_the_grid_of_sec() -> None:
    labels = np.random.default_rng(0).integers(0, 255, (321, 321), dtype=np.uint8)
    assert (cues.on_grid(labels, 41) == labels[::8, ::8]).all()
    small = np.random.default_rng(1).integers(0, 255, (30, 50), dtype=np.uint8)
    found = cues.on_grid(small, 41)
    for row in range(41):
        for column in range(41):
            y, x = (8 * row + 0.5) / 321 * 30, (8 * column + 0.5) / 321 * 50
            assert found[row, column] == small[int(y), int(x)]


def test_colours_of_voc() -> None:
    """As the development kit of PASCAL VOC draws them."""
    table = np.array(palette()).reshape(256, 3).tolist()
    known = {0: [0, 0, 0], 1: [128, 0, 0], 2: [0, 128, 0], 3: [128, 128, 0], 8: [64, 0, 0], 15: [192, 128, 128]}
    assert {number: table[number] for number in known} == known and table[255] == [224, 224, 192]
    picture = indexed(np.array([[0, 15, 255]], np.uint8))
    assert picture.mode == "P" and np.array(picture).tolist() == [[0, 15, 255]]
    assert np.array(picture.convert("RGB"))[0, 1].tolist() == known[15]


# -- agreement --------------------------------------------------------------------------------------------------------


def agreement(pairs: list[tuple[list[int], list[int]]], count: int = 3) -> Agreement:
    found = Agreement(count)
    for labels, true in pairs:
        found.add(np.array([labels], np.uint8), np.array([true], np.uint8))
    return found


def test_intersection_over_union_by_hand() -> None:
    """Counts are summed over photos before they are divided; what the truth ignores does not count."""
    found = agreement([([1, 1, 0, 0, 2], [1, 0, 0, 255, 255]), ([1, 2, 255, 0], [1, 1, 1, 2])])
    assert found.iou() == {0: 1 / 3, 1: 2 / 5, 2: 0}
    assert found.mean_iou().value == pytest.approx((1 / 3 + 2 / 5) / 3)
    assert found.mean_iou(least=1).value == pytest.approx(1 / 5)
    assert found.precision(True).value == pytest.approx(2 / 4), "1, 1 and 1, 2: two are right"
    assert found.recall(True).value == pytest.approx(2 / 5)
    assert found.precision(False).value == 1 / 2 and found.recall(False).value == 1 / 2
    assert math.isnan(found.mean_iou().low), "two photos have no interval"


def test_agreement_by_brute_force() -> None:
    random = np.random.default_rng(0)
    pairs = [(random.integers(0, 4, (5, 6)), random.choice([0, 1, 2, 3, 255], (5, 6))) for _ in range(4)]
    found = Agreement(4)
    for labels, true in pairs:
        found.add(labels.astype(np.uint8), true.astype(np.uint8))
    for number in range(4):
        both = either = 0
        for labels, true in pairs:
            for one, other in zip(labels.ravel(), true.ravel(), strict=True):
                if other != 255:
                    both += one == number and other == number
                    either += one == number or other == number
        assert found.iou()[number] == both / either


def test_the_interval_of_one_ratio_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).random(40)
    found = mean_of_ratios(values[:, None], np.ones((40, 1)))
    known = intervals.mean(list(values), [str(number) for number in range(40)])
    assert found.value == pytest.approx(known.value)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=0.01)
    assert mean_of_ratios(values[:, None], np.ones((40, 1))) == found, "the same seed, the same draws"


def test_photos_of_both_are_drawn_together() -> None:
    """Photos differ much, the two kinds of masks by the same in each: the interval of the difference is narrow."""
    random = np.random.default_rng(0)
    one, other = Agreement(2), Agreement(2)
    for _ in range(30):
        right = int(random.integers(10, 80))
        true = np.ones((1, 100), np.uint8)
        for found, more in ((one, 10), (other, 0)):
            labels = np.zeros((1, 100), np.uint8)
            labels[0, : right + more] = 1
            found.add(labels, true)
    gain = better(one, other)
    assert gain.value == pytest.approx(one.mean_iou(least=1).value - other.mean_iou(least=1).value) and gain.low > 0
    assert gain.high - gain.low < (one.mean_iou(least=1).high - one.mean_iou(least=1).low) / 4
    assert better(one, one).low == better(one, one).high == 0


# -- what people drew -------------------------------------------------------------------------------------------------


def thing(name: str, block: tuple[int, int, int, int], crowd: bool = False) -> Thing:
    return Thing(name, tuple(map(float, block)), (tuple(map(float, outline(block))),), crowd=crowd)


def test_numbers_are_vocs_where_they_can_be() -> None:
    assert len(VOC) == 20 and list(VOC) == sorted(VOC)
    assert numbered(["tvmonitor", "dog"])["dog"] == 12 and numbered(["dog"])["tvmonitor"] == 20
    assert numbered(["tv", "dog"]) == {"dog": 1, "tv": 2}
    with pytest.raises(InputError, match="tells 254 apart"):
        numbered([f"class {number}" for number in range(255)])


def test_outlines_as_a_label_map() -> None:
    """The smaller object is in front, crowds are ignored, and classes without a number are background."""
    things = (
        thing("dog", (0, 0, 2, 2)),
        thing("cat", (0, 0, 4, 3)),
        thing("kite", (3, 0, 4, 1)),
        thing("dog", (4, 0, 6, 3), crowd=True),
        thing("kite", (6, 0, 7, 3), crowd=True),
    )
    found = truth(Scene("a", Path("a.jpg"), (3, 7), things), {"dog": 1, "cat": 2})
    assert found is not None
    assert found.tolist() == [[1, 1, 2, 0, 255, 255, 0], [1, 1, 2, 2, 255, 255, 0], [2, 2, 2, 2, 255, 255, 0]]
    assert truth(Scene("a", Path("a.jpg"), (3, 7), (Thing("dog", (0, 0, 2, 2)),)), {"dog": 1}) is None, "boxes only"


def test_masks_of_voc(tmp_path: Path) -> None:
    xml(tmp_path / "Annotations" / "a.xml", (4, 1), ("dog", (1, 1, 1, 1), 0))
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (4, 1)).save(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "SegmentationClass").mkdir()
    indexed(np.array([[0, 12, 15, 255]], np.uint8)).save(tmp_path / "SegmentationClass" / "a.png")
    (scene,) = read_objects(tmp_path)
    found = truth(scene, {"dog": 12})
    assert found is not None and found.tolist() == [[0, 12, 0, 255]], "no number was given for person"
    Image.new("RGB", (4, 1)).save(tmp_path / "SegmentationClass" / "a.png")
    with pytest.raises(InputError, match="no mask of class numbers"):
        truth(scene, {"dog": 12})
    (tmp_path / "SegmentationClass" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read as a mask"):
        truth(scene, {"dog": 12})
    indexed(np.zeros((2, 2), np.uint8)).save(tmp_path / "SegmentationClass" / "a.png")
    assert truth(scene, {"dog": 12}) is None, "of another size"


def test_the_real_masks(data_dir: Path) -> None:
    """All that is labelled lies in an object of that class, and where only one class is it is labelled so."""
    scenes = read_objects(data_dir / "coco_mini")[:20]
    numbers = numbered([name for scene in scenes for name in scene.names])
    assert json.dumps(numbers)
    for scene in scenes:
        found = truth(scene, numbers)
        assert found is not None and found.shape == scene.size
        masks = {name: scene.mask(name) for name in scene.names}
        several = np.sum(list(masks.values()), axis=0) > 1
        for name, mask in masks.items():
            assert mask[found == numbers[name]].all()
            crowd = any(one.crowd for one in scene.of(name))
            assert crowd or (found[mask & ~several] == numbers[name]).all()
