"""Mean maps against values worked by hand, and against a slow float64 mean of loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmexplain.explanation import MapKey
from mmexplain.gallery import aggregate
from mmexplain.gallery.maps import by_input, laid, on_grid, read
from mmexplain.geometry import Geometry
from tests.gallery.stores import CROPPED, HEIGHT, KEY, SQUASHED, WIDTH, Told, spot, write


def tent(place: float, cells: int, at: int) -> float:
    """Weight of cell ``at`` of a row of ``cells`` at a share of the row, linear between their centres."""
    where = min(max(place * cells - 0.5, 0), cells - 1)
    return max(0.0, 1 - abs(where - at))


def slow(told: Told, number: int, cells: int) -> list[list[float]]:
    """One map on the grid, cell by cell: NaN where the cell's centre was cropped away."""
    left, top, right, bottom = told.geometry.box
    maps = told.maps[number].double()
    height, width = maps.shape
    rows = []
    for row in range(cells):
        line = []
        for column in range(cells):
            x, y = (column + 0.5) / cells * WIDTH, (row + 0.5) / cells * HEIGHT
            if not (left <= x < right and top <= y < bottom):
                line.append(math.nan)
                continue
            value = 0.0
            for i in range(height):
                for j in range(width):
                    weight = tent((y - top) / (bottom - top), height, i) * tent((x - left) / (right - left), width, j)
                    value += weight * max(0.0, float(maps[i, j]))
            line.append(value)
        rows.append(line)
    return rows


def slow_mean(inputs: list[tuple[Told, int]], cells: int) -> tuple[np.ndarray, np.ndarray]:
    total, seen = np.zeros((cells, cells)), np.zeros((cells, cells), int)
    for told, number in inputs:
        values = slow(told, number, cells)
        known = [value for line in values for value in line if not math.isnan(value)]
        if sum(known) <= 0:
            continue
        for row, line in enumerate(values):
            for column, value in enumerate(line):
                if not math.isnan(value):
                    total[row, column] += value / (sum(known) / len(known))
                    seen[row, column] += 1
    with np.errstate(invalid="ignore"):
        return total / seen, seen


def test_against_loops(tmp_path) -> None:
    """Coarse maps with negative values, squashed and cropped ones together, over three files."""
    torch.manual_seed(0)
    shapes = [(SQUASHED, 6), (CROPPED, 5), (SQUASHED, 8), (CROPPED, 4), (SQUASHED, 6)]
    inputs = [
        Told(str(n), "nurse dog", torch.randn(2, size, size), [0.5, 0.5], geometry)
        for n, (geometry, size) in enumerate(shapes)
    ]
    store = write(tmp_path / "store", inputs)
    found = {mean.label: mean for mean in aggregate(store, cells=8)}
    assert list(found) == ["dog", "nurse"]
    for number, label in enumerate(["nurse", "dog"]):
        mean, seen = slow_mean([(told, number) for told in inputs], 8)
        assert found[label].n == 5 and found[label].empty == 0
        np.testing.assert_array_equal(found[label].seen, seen)
        # maps of a store have 16 bits
        np.testing.assert_allclose(found[label].mean, mean, rtol=3e-3, atol=3e-3)


def test_one_cell_by_hand(tmp_path) -> None:
    """Two maps of 6 × 6 on a grid of 6 × 6: each is 36 in its one cell, and the mean is half of that, whatever the
    maps' strength."""
    inputs = [
        Told("one", "nurse", spot((1, 1), value=1e-9)),
        Told("two", "nurse", spot((4, 2), value=1e6)),
    ]
    (mean,) = aggregate(write(tmp_path / "store", inputs), cells=6)
    expected = np.zeros((6, 6))
    expected[1, 1] = expected[4, 2] = 18.0
    np.testing.assert_allclose(mean.mean, expected, atol=1e-6)
    assert mean.entropy == pytest.approx(math.log(2) / math.log(36))
    # the cells' centres, but for a pixel of the model's input of 48 × 48
    assert mean.peak == pytest.approx(((1.5 + 2.5) / 12, (1.5 + 4.5) / 12), abs=1 / 48)
    assert mean.thirds.tolist() == [[0.5, 0, 0], [0, 0, 0], [0, 0.5, 0]]


def test_what_was_cropped_is_counted_as_unseen(tmp_path) -> None:
    """Of six columns the cropped map sees the middle four: there an even map is 1, and the outer ones are the other
    map's alone."""
    inputs = [
        Told("cropped", "nurse", torch.ones(1, 4, 4), geometry=CROPPED),
        Told("whole", "nurse", spot((0, 0))),
    ]
    (mean,) = aggregate(write(tmp_path / "store", inputs), cells=6)
    assert mean.seen.tolist() == [[1, 2, 2, 2, 2, 1]] * 6
    expected = np.full((6, 6), 0.5)
    expected[:, [0, 5]] = 0.0
    expected[0, 0] = 36.0
    np.testing.assert_allclose(mean.mean, expected, atol=1e-5)


def test_columns_that_no_map_saw_are_unknown(tmp_path) -> None:
    (mean,) = aggregate(write(tmp_path / "s", [Told("c", "nurse", torch.ones(1, 4, 4), geometry=CROPPED)]), cells=6)
    assert np.isnan(mean.mean[:, [0, 5]]).all()
    np.testing.assert_allclose(mean.mean[:, 1:5], 1.0)
    assert mean.entropy == pytest.approx(1.0)
    assert mean.peak is None and np.isnan(mean.thirds).all()  # an even map has no peak


def test_maps_without_evidence_are_counted_apart(tmp_path) -> None:
    inputs = [Told("one", "nurse", -spot((0, 0))), Told("two", "nurse", spot((1, 1)))]
    (mean,) = aggregate(write(tmp_path / "store", inputs), cells=6)
    assert (mean.n, mean.empty) == (1, 1)
    (none,) = aggregate(write(tmp_path / "none", [Told("one", "nurse", -torch.ones(1, 3, 3))]))
    assert (none.n, none.empty) == (0, 1) and math.isnan(none.entropy) and np.isnan(none.mean).all()


def test_a_fine_map_is_averaged_not_sampled() -> None:
    """One hot pixel of 96 × 96 is found on a grid of 8 wherever it lies."""
    for place in [(0, 0), (5, 5), (50, 7), (95, 95)]:
        found = on_grid(spot(place, size=96), Geometry.identity(96, 96), 8)[0]
        assert divmod(int(found.argmax()), 8) == (place[0] // 12, place[1] // 12)
        assert found.sum() == pytest.approx(1 / 144, rel=1e-5)


def test_colours_and_time_are_taken_together(tmp_path) -> None:
    colour = torch.zeros(1, 3, 4, 4)
    colour[0, 0, 1, 1], colour[0, 2, 1, 1] = 0.5, -1.0
    told = Told("p", "nurse", {MapKey("input", "vanilla"): colour}, pixel_methods=frozenset({"vanilla"}))
    store = write(tmp_path / "pixels", [told])
    (rows,) = by_input(read(store, 0))
    assert laid(rows, True, 4)[0, 1, 1] == -1.0
    moving = torch.zeros(1, 2, 4, 4)
    moving[0, 0, 0, 0] = moving[0, 1, 3, 3] = 1.0
    clip = Told("c", "", moving, geometry=SQUASHED.sample((0, 4), 8), kind="action", labels=["jump"])
    (mean,) = aggregate(write(tmp_path / "clips", [clip], task="action"), cells=4)
    assert mean.mean[0, 0] == mean.mean[3, 3] == pytest.approx(8.0)


def test_layers_and_methods_stay_apart_and_the_top_is_of_labels(tmp_path) -> None:
    keys = [KEY, MapKey("conv", "attention")]
    inputs = [
        Told("one", "dog cat", {key: spot((n, n), (5, 5)) for n, key in enumerate(keys)}),
        Told("two", "dog", {key: spot((n, n)) for n, key in enumerate(keys)}),
    ]
    store = write(tmp_path / "store", inputs)
    found = aggregate(store, top=1, cells=6)
    assert [(mean.label, mean.method, mean.n) for mean in found] == [("dog", "attention", 2), ("dog", "gradcam", 2)]
    assert found[0].mean[1, 1] == found[1].mean[0, 0] == pytest.approx(36.0)
    assert {mean.label for mean in aggregate(store, "label = 'cat'")} == {"cat"}
    assert aggregate(store, "label = 'cow'") == []
