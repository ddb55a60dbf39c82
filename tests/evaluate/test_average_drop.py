"""Average drop, increase and wins: worked by hand, and the photo itself masked."""

from __future__ import annotations

import math

import pytest
import torch

from mmexplain.evaluate.metrics.average_drop import drop, explanation_map, fall, increase, share_shown, win
from mmexplain.preprocess import Preprocess

PHOTO = torch.tensor([[[0.4, 0.3], [0.2, 0.1]]])
NONE = torch.zeros(1, 1, 1)


def test_a_map_of_one_pixel_by_hand() -> None:
    """A model that adds up the pixels says 1 of the photo and .4 of its first pixel."""
    values = torch.tensor([[5.0, 0.0], [0.0, -2.0]])
    kept = explanation_map(PHOTO, share_shown(values), NONE)
    assert kept.tolist() == [[[pytest.approx(0.4), 0.0], [0.0, 0.0]]]
    assert drop(float(PHOTO.sum()), float(kept.sum())) == pytest.approx(0.6)


def test_the_map_is_rectified_and_divided_by_its_maximum() -> None:
    values = torch.tensor([[-3.0, 1.0], [2.0, 4.0]])
    assert share_shown(values).tolist() == [[0, 0.25], [0.5, 1]]
    torch.testing.assert_close(share_shown(1e-30 * values), share_shown(values))
    assert share_shown(values.half()).dtype == torch.float32


@pytest.mark.parametrize(("value", "shown"), [(0.3, 1.0), (0.0, 0.0), (-2.0, 0.0)])
def test_flat_maps_show_all_or_nothing(value: float, shown: float) -> None:
    assert share_shown(torch.full((2, 2), value)).tolist() == [[shown] * 2] * 2


def test_what_a_map_says_nothing_of_is_not_shown() -> None:
    assert share_shown(torch.tensor([math.nan, 2.0, 1.0])).tolist() == [0, 1, 0.5]
    assert share_shown(torch.full((3,), math.nan)).tolist() == [0, 0, 0]


def test_the_photo_is_masked_and_not_what_the_model_sees() -> None:
    """Half a share of a pixel of .8 is one of .4, whatever the preprocessing takes off; the normalised tensor halved
    would be another colour."""
    preprocess = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), scale=3.0)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (preprocess.mean, preprocess.std))
    pixels = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(0))
    share = torch.tensor([[0.0, 0.5], [0.25, 1.0]])
    black = torch.tensor(preprocess.black).view(3, 1, 1)
    found = explanation_map((pixels - mean) / std * 3, share, black)
    torch.testing.assert_close(found, (share * pixels - mean) / std * 3)
    assert (found - share * (pixels - mean) / std * 3).abs().max() > 1


def test_drop_is_a_share_of_the_score() -> None:
    assert drop(0.5, 0.2) == pytest.approx(0.6) and increase(0.5, 0.2) == 0
    assert drop(0.5, 0.7) == 0 and fall(0.5, 0.7) == pytest.approx(-0.4) and increase(0.5, 0.7) == 1
    assert drop(0.5, 0.5) == 0 and increase(0.5, 0.5) == 0
    assert math.isnan(drop(0.0, 0.2)) and math.isnan(fall(0.0, 0.0)) and math.isnan(increase(0.0, 0.2))


def test_wins() -> None:
    assert (win(0.1, 0.2), win(0.2, 0.1), win(0.1, 0.1)) == (1, 0, 0.5)
    # Both scores rise: the one that rises more falls less.
    assert win(fall(0.5, 0.9), fall(0.5, 0.7)) == 1
    assert math.isnan(win(math.nan, 0.1)) and math.isnan(win(0.1, math.nan))
