"""Insertion and deletion: worked by hand, ties and flat maps, and the blur against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmexplain.evaluate.metrics.insertion_deletion import area, blurred, counts, exchanged, order, orders

PHOTO = torch.tensor([[[0.4, 0.3], [0.2, 0.1]]], dtype=torch.float64)
BLACK = torch.zeros(1, 1, 1, dtype=torch.float64)


def test_a_map_of_one_pixel_by_hand() -> None:
    """Two pixels a step; the model adds up the pixels."""
    ordered = order(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.arange(4))
    numbers = counts(4, 2)
    assert numbers == [0, 2, 4]
    shares = [number / 4 for number in numbers]
    deletion = exchanged(PHOTO, BLACK, ordered, numbers).sum((1, 2, 3)).tolist()
    assert deletion == pytest.approx([1, 0.3, 0]) and area(deletion, shares) == pytest.approx(0.4)
    insertion = exchanged(BLACK.expand_as(PHOTO), PHOTO, ordered, numbers).sum((1, 2, 3)).tolist()
    assert insertion == pytest.approx([0, 0.7, 1]) and area(insertion, shares) == pytest.approx(0.6)


def test_the_order_is_the_maps_and_ties_are_shuffled() -> None:
    assert order(torch.tensor([[1.0, 3.0], [-2.0, 3.0]]), torch.arange(4)).tolist() == [1, 3, 0, 2]
    assert order(torch.tensor([[1.0, 3.0], [-2.0, 3.0]]), torch.tensor([3, 0, 1, 2])).tolist() == [3, 1, 0, 2]
    shuffle = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(order(torch.zeros(40, 50), shuffle), shuffle), "a flat map"
    values = torch.tensor([math.nan, -5.0, math.inf, math.nan, 0.0])
    assert order(values, torch.tensor([4, 3, 2, 1, 0])).tolist() == [2, 4, 1, 3, 0]


def test_places_that_tie_are_not_told_apart() -> None:
    """The mean place in the order of pixels that a ReLU made zero is the same at the top and at the bottom."""
    values = torch.zeros(60, 60)
    values[25:35, 25:35] = 1
    ordered = order(values, torch.randperm(3600, generator=torch.Generator().manual_seed(0)))
    place = torch.empty(3600)
    place[ordered] = torch.arange(3600.0)
    place = place.view(60, 60)
    assert place[25:35, 25:35].max() == 99
    assert place[:20].mean() == pytest.approx(100 + 3499 / 2, rel=0.05) == place[40:].mean()


def test_maps_without_an_order() -> None:
    assert orders(torch.tensor([0.0, 1.0])) and orders(torch.tensor([math.nan, -2.0, -1.0]))
    nothing = ([0.0, 0.0], [3.0, math.nan, 3.0], [math.nan], [1.0, math.inf])
    assert not any(orders(torch.tensor(values)) for values in nothing)


def test_a_good_order_beats_its_reverse() -> None:
    shares = [number / 4 for number in counts(4, 4)]

    def areas(values: torch.Tensor) -> tuple[float, float]:
        gone = exchanged(PHOTO, BLACK, order(values, torch.arange(4)), counts(4, 4)).sum((1, 2, 3)).tolist()
        come = (
            exchanged(BLACK.expand_as(PHOTO), PHOTO, order(values, torch.arange(4)), counts(4, 4))
            .sum((1, 2, 3))
            .tolist()
        )
        return area(gone, shares), area(come, shares)

    deletion, insertion = areas(PHOTO[0])
    reverse_deletion, reverse_insertion = areas(-PHOTO[0])
    # 1, .6, .3, .1, 0 and its mirror image.
    assert deletion == pytest.approx(0.375) and insertion == pytest.approx(0.625)
    assert (reverse_deletion, reverse_insertion) == (pytest.approx(0.625), pytest.approx(0.375))


def test_steps_that_do_not_divide_the_pixels() -> None:
    assert counts(10, 3) == [0, 3, 7, 10] and counts(2, 4) == [0, 0, 1, 2, 2]
    assert area([1.0, 1.0, 1.0, 1.0], [0, 0.3, 0.7, 1]) == pytest.approx(1)
    assert area([0.0, 0.3, 0.7, 1.0], [0, 0.3, 0.7, 1]) == pytest.approx(0.5)


def test_a_clip_loses_pixels_of_its_frames() -> None:
    clip = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    found = exchanged(clip, torch.zeros(1, 1, 1, 1), order(clip[0], torch.arange(8)), [0, 3])
    assert found.sum((1, 2, 3, 4)).tolist() == [36, 15] and found[1, 0, 1].tolist() == [[5, 0], [0, 0]]


@pytest.mark.parametrize("shape", [(3, 20, 30), (2, 3, 20, 17), (1, 4, 4)])
def test_the_blur_against_scipy(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = image.numpy()
    for axis in (-1, -2):
        expected = ndimage.gaussian_filter1d(expected, 5, axis=axis, mode="nearest", radius=5)
    np.testing.assert_allclose(blurred(image), expected, atol=1e-12)
    assert blurred(image.half()).dtype == torch.float16
    torch.testing.assert_close(blurred(torch.ones(shape)), torch.ones(shape))
