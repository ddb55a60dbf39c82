"""Boxes and outlines as masks of the pixels whose centres they hold, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from mmexplain.evaluate.data.scene import Thing
from mmexplain.evaluate.masks import box_mask, polygon_mask, union
from mmexplain.geometry import Box

SIZE = (4, 4)


def square(left: float, top: float, side: float) -> tuple[float, ...]:
    return (left, top, left + side, top, left + side, top + side, left, top + side)


def test_boxes_hold_the_pixels_whose_centres_they_hold() -> None:
    assert box_mask((0, 0, 2, 4), SIZE).astype(int).tolist() == [[1, 1, 0, 0]] * 4
    two: list[Box] = [(0, 0, 2, 2), (1, 1, 3, 3)]
    assert int(union((box_mask(box, SIZE) for box in two), SIZE).sum()) == 7 and not union([], SIZE).any()
    assert box_mask((-5, -5, 50, 50), SIZE).all() and not box_mask((9, 9, 12, 12), SIZE).any()


def test_what_is_smaller_than_a_pixel_is_still_there() -> None:
    assert np.argwhere(box_mask((2.6, 1.1, 2.9, 1.3), SIZE)).tolist() == [[1, 2]]
    assert np.argwhere(polygon_mask(square(2.6, 1.1, 0.2), SIZE)).tolist() == [[1, 2]]
    assert Thing("speck", (2.6, 1.1, 2.9, 1.3)).mask(SIZE).sum() == 1
    for box in ((1, 1, 1, 3), (3, 3, 1, 1)):
        assert not box_mask(box, SIZE).any(), "no extent, or inside out"


def test_outlines_hold_the_pixels_whose_centres_they_hold() -> None:
    assert np.argwhere(polygon_mask(square(1, 2, 1), SIZE)).tolist() == [[2, 1]], "1 × 1"
    # 5.5 × 5.5 from the corner holds the centres .5 … 4.5 and, as they lie on its edge, not those at 5.5.
    assert int(polygon_mask(square(0, 0, 5.5), (9, 9)).sum()) == 25
    assert int(polygon_mask(square(0.5, 0.5, 5.5), (9, 9)).sum()) == 36, "a centre on the left edge is held"
    assert np.array_equal(polygon_mask(square(-3, -3, 99), SIZE), np.ones(SIZE, dtype=bool))
    triangle = polygon_mask((0, 0, 4, 0, 0, 4), SIZE)
    assert triangle.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_outlines_against_matplotlib(seed: int) -> None:
    """A star-shaped polygon with corners at random, reaching beyond the photo; no centre lies on an edge."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 15))
    corners = np.stack(
        [20 + random.uniform(3, 25, 15) * np.cos(angles), 15 + random.uniform(3, 25, 15) * np.sin(angles)]
    )
    y, x = np.mgrid[0:30, 0:40] + 0.5
    expected = Outline(corners.T).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(30, 40)
    assert np.array_equal(polygon_mask(corners.T.ravel().tolist(), (30, 40)), expected) and expected.any()
