"""Two stores side by side: joined as they should be, measured as an independent program measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mmexplain.explanation import MapKey
from mmexplain.gallery import compare, summary, unpaired
from mmexplain.gallery.compare import key_pairs
from tests.gallery.stores import CROPPED, HEIGHT, SQUASHED, WIDTH, Told, spot, write


def noise(count: int, seed: int, size: int = 6) -> torch.Tensor:
    return torch.randn(count, size, size, generator=torch.Generator().manual_seed(seed))


def several(seed: int, geometry=SQUASHED) -> list[Told]:
    return [
        Told(f"i{n}", "a dog and a cat", noise(5, seed + n), [0.1, 0.3, 0.5, 0.7, 0.9], geometry) for n in range(12)
    ]


def test_a_store_against_itself(tmp_path) -> None:
    store = write(tmp_path / "store", several(0))
    found = compare(store, store)
    assert found.num_rows == 60
    assert found.column("position").to_pylist() == found.column("other_position").to_pylist()
    assert set(found.column("change").to_pylist()) == {0.0} == set(found.column("distance").to_pylist())
    assert found.column("correlation").to_pylist() == pytest.approx([1.0] * 60)
    left = unpaired(store, store, found)
    assert (left.inputs, left.other_inputs, left.targets, left.other_targets) == ([], [], 0, 0)
    means = summary(found)
    assert (means["change"].value, means["distance"].value) == (0, 0)
    assert means["correlation"].value == pytest.approx(1)


def test_swapped(tmp_path) -> None:
    one, two = write(tmp_path / "one", several(0)), write(tmp_path / "two", several(100, CROPPED), shard=5)
    there, back = compare(one, two), compare(two, one)
    assert there.num_rows == back.num_rows == 60
    for name in ("correlation", "distance"):
        assert there.column(name).to_pylist() == pytest.approx(back.column(name).to_pylist())
    assert there.column("change").to_pylist() == pytest.approx([-value for value in back.column("change").to_pylist()])


def test_the_numbers(tmp_path) -> None:
    """One of both maps sees the middle two thirds alone: what is compared is what both saw."""
    mine, others = spot((1, 1)) + 0.01 * noise(1, 1), spot((4, 3)) + 0.01 * noise(1, 2)
    one = write(tmp_path / "one", [Told("x", "dog", mine, [0.75])])
    two = write(tmp_path / "two", [Told("x", "dog", others, [0.5], CROPPED)])
    (row,) = compare(one, two).to_pylist()
    assert row["change"] == 0.25
    # both maps at the centres of 32 × 32 cells, by numpy
    values = []
    for told, geometry in ((mine, SQUASHED), (others, CROPPED)):
        grid = told[0].half().float().double().numpy()
        left, top, right, bottom = geometry.box
        rows = (np.arange(32) + 0.5) / 32 * HEIGHT
        columns = (np.arange(32) + 0.5) / 32 * WIDTH
        at = np.arange(6)
        across = np.stack([np.interp((columns - left) / (right - left) * 6 - 0.5, at, line) for line in grid])
        full = np.stack([np.interp((rows - top) / (bottom - top) * 6 - 0.5, at, line) for line in across.T]).T
        values.append(full[:, (columns >= CROPPED.box[0]) & (columns < CROPPED.box[2])])
    expected = stats.spearmanr(values[0].ravel(), values[1].ravel()).statistic
    assert row["correlation"] == pytest.approx(expected, abs=0.01)  # 16-bit maps have a few ties more or less
    peaks = [store.sql("select peak_x, peak_y from rows").fetchall()[0] for store in (one, two)]
    assert row["distance"] == pytest.approx(math.dist(*peaks) / math.hypot(WIDTH, HEIGHT))


def test_words_are_joined_by_place_where_the_sentence_is_the_same(tmp_path) -> None:
    """Of the first run only the second "a" is asked for: in the same sentence it meets the second, and in another
    sentence the second too, wherever that stands."""
    mine = [Told("same", "a dog and a cat", noise(5, 0)), Told("other", "a dog and a cat", noise(5, 1))]
    others = [Told("other", "there is a cat on a mat", noise(7, 3)), Told("same", "a dog and a cat", noise(5, 2))]
    one, two = write(tmp_path / "one", mine), write(tmp_path / "two", others)
    found = compare(one, two, "label = 'a' and position = 3").to_pylist()
    assert [(row["id"], row["position"], row["other_position"]) for row in found] == [("same", 3, 3), ("other", 3, 5)]
    everything = compare(one, two).to_pylist()
    pairs = [(row["label"], row["position"], row["other_position"]) for row in everything if row["id"] == "other"]
    assert pairs == [("a", 0, 2), ("a", 3, 5), ("cat", 4, 3)]


def test_a_word_that_only_one_explains_at_that_place_has_no_partner(tmp_path) -> None:
    words = "a dog and a dog"
    one = write(tmp_path / "one", [Told("x", words, noise(5, 0))])
    two = write(tmp_path / "two", [Told("x", words, noise(5, 0))])
    # all but the first "dog" are asked for: the second must not slip into its place
    found = compare(one, two, "not (label = 'dog' and position = 1)").to_pylist()
    assert [(row["position"], row["other_position"]) for row in found] == [(0, 0), (2, 2), (3, 3), (4, 4)]


def test_answers_and_kinds(tmp_path) -> None:
    ask = {"kind": "answer", "labels": ["cup", "jug"]}
    one = write(tmp_path / "one", [Told("x", "what is it", noise(2, 0), **ask)], task="vqa")
    jug = Told("x", "what is it", noise(1, 0), kind="answer", labels=["jug"])
    two = write(tmp_path / "two", [jug], task="vqa")
    assert compare(one, two).column("label").to_pylist() == ["jug"]
    three = write(tmp_path / "three", [Told("x", "cup jug", noise(2, 0))])
    assert compare(one, three).num_rows == 0  # words are no answers


def test_what_one_alone_has(tmp_path) -> None:
    failed = Told("bad", "", spot(), error=OSError("gone"))
    one = write(
        tmp_path / "one", [Told("x", "a dog", noise(2, 0)), Told("only", "a dog", noise(2, 0)), failed], shard=4
    )
    two = write(tmp_path / "two", [Told("bad", "a dog", noise(2, 1)), Told("x", "a cat", noise(2, 1))])
    found = compare(one, two)
    left = unpaired(one, two, found)
    assert found.num_rows == 1
    assert (left.inputs, left.other_inputs, left.targets, left.other_targets) == (["only"], ["bad"], 3, 3)


def test_flat_maps_have_no_number(tmp_path) -> None:
    one = write(tmp_path / "one", [Told("x", "dog", torch.ones(1, 6, 6), [math.nan])])
    (row,) = compare(one, one).to_pylist()
    assert (row["change"], row["correlation"], row["distance"]) == (None, None, None)


def test_maps_of_other_layers_and_sizes(tmp_path) -> None:
    fine = torch.nn.functional.interpolate(noise(1, 0)[None], size=12, mode="bilinear")[0]
    one = write(tmp_path / "one", [Told("x", "dog", noise(1, 0))])
    two = write(tmp_path / "two", [Told("x", "dog", {MapKey("blocks.3", "gradcam"): fine})], model="other")
    (row,) = compare(one, two).to_pylist()
    assert (row["layer"], row["other_layer"]) == ("conv", "blocks.3")
    assert row["correlation"] > 0.97


def test_which_maps_are_held_against_which() -> None:
    a, b, c = ("l1", "gradcam"), ("l2", "gradcam"), ("l1", "cam")
    assert key_pairs([a, c], [c, a]) == [(a, a), (c, c)]
    assert key_pairs([a, c], [c, b]) == [(c, c)]
    assert key_pairs([a, b], [("z", "gradcam"), ("y", "gradcam")]) == [(a, ("z", "gradcam"))]
    assert key_pairs([a, c], [("l1", "layercam")]) == [(a, ("l1", "layercam"))]
    assert key_pairs([], [a]) == []


def test_clips(tmp_path) -> None:
    geometry = SQUASHED.sample((0, 4), 8)
    maps = torch.stack([noise(2, 0), noise(2, 1)], dim=1)
    told = Told("x", "", maps, geometry=geometry, kind="action", labels=["jump", "fall"])
    store = write(tmp_path / "store", [told], task="action")
    found = compare(store, store)
    assert found.column("correlation").to_pylist() == pytest.approx([1, 1])
