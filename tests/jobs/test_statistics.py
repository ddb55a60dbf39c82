"""What is said of maps in numbers, against values worked by hand and a slow reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmexplain.geometry import Geometry
from mmexplain.jobs.statistics import statistics

PLAIN = Geometry.identity(40, 80).resize(4, 8)  # a cell of a 4×8 map is 10×10 pixels


def of(values, geometry=PLAIN):
    return statistics(torch.as_tensor(values, dtype=torch.float32)[None], geometry)


def one_cell(row, column, height=4, width=8):
    values = torch.full((height, width), -1.0)
    values[row, column] = 2.0
    return values


def test_one_cell():
    found = of(one_cell(1, 6))
    assert found.peak == [(65, 15)]
    assert found.centroid.tolist() == [[65.0, 15.0]]
    assert found.entropy.tolist() == [0.0]
    assert found.area.tolist() == [1 / 32]
    assert (found.minimum.tolist(), found.maximum.tolist()) == ([-1.0], [2.0])


def test_all_alike():
    found = of(torch.ones(4, 8))
    assert found.peak == [None]
    assert found.centroid.tolist() == [[40.0, 20.0]]
    assert found.entropy[0] == pytest.approx(1.0)
    assert found.area.tolist() == [1.0]


def test_nothing_positive():
    found = of(torch.arange(32.0).view(4, 8) - 40)
    assert found.peak == [(75, 35)]  # less against it than anywhere else
    assert found.centroid.isnan().all() and found.entropy.isnan().all() and found.area.isnan().all()


def test_two_cells_of_different_weight():
    values = torch.zeros(4, 8)
    values[0, 0], values[3, 7] = 3.0, 1.0
    found = of(values)
    np.testing.assert_allclose(found.centroid, [[(3 * 5 + 75) / 4, (3 * 5 + 35) / 4]])
    assert found.entropy[0] == pytest.approx((0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(32))
    assert found.area.tolist() == [1 / 32]


def test_in_the_pixels_of_the_original_where_the_model_saw_a_part_of_it():
    # 200×100 pixels, halved, of which the middle 40×40 are seen: the part from (60, 10) to (140, 90) of the original.
    geometry = Geometry.identity(100, 200).resize(50, 100).crop(5, 30, 40, 40)
    assert geometry.box == (60, 10, 140, 90)
    found = of(one_cell(0, 3, 4, 4), geometry)
    assert found.centroid.tolist() == [[60 + 3.5 * 20, 10 + 0.5 * 20]]
    # From its centre to the photo's edge the map is as large as in the cell: the middle of those ten by ten pixels.
    ((x, y),) = found.peak
    assert 130 <= x < 140 and 10 <= y < 20


def test_a_clip_has_a_frame():
    geometry = Geometry.identity(40, 80).resize(4, 8).sample((0, 5, 10, 15), 20)
    values = torch.zeros(4, 4, 8)
    values[2, 1, 6] = 1.0
    found = of(values, geometry)
    assert found.peak == [(65, 15, 10)]
    assert found.centroid.tolist() == [[65.0, 15.0]]
    assert found.area.tolist() == [1 / 128]


def slow(values, geometry):
    """The same with loops over numbers of 64 bits."""
    height, width = values.shape
    left, top, right, bottom = geometry.box
    total = sum(max(float(v), 0.0) for row in values for v in row)
    x = y = entropy = 0.0
    for i in range(height):
        for j in range(width):
            share = max(float(values[i, j]), 0.0) / total
            x += share * (left + (j + 0.5) / width * (right - left))
            y += share * (top + (i + 0.5) / height * (bottom - top))
            entropy -= share * math.log(share) if share > 0 else 0.0
    area = sum(float(v) >= float(values.max()) / 2 for row in values for v in row) / (height * width)
    return x, y, entropy / math.log(height * width), area


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 6))
def test_against_loops(seed, height, width):
    values = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
    values[:, 0, 0] = values[:, 0, 0].abs() + 0.1
    geometry = Geometry.identity(31, 47).resize(24, 24).crop(2, -3, 20, 20)
    found = statistics(values, geometry)
    for number, one in enumerate(values):
        told = (*found.centroid[number].tolist(), float(found.entropy[number]), float(found.area[number]))
        np.testing.assert_allclose(told, slow(one.double(), geometry), rtol=1e-9, atol=1e-12)
        assert found.peak[number] == geometry.peak(one)
        assert statistics(one[None], geometry).peak == [found.peak[number]]
