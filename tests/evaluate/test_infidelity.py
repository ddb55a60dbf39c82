"""Infidelity and max-sensitivity: worked by hand and against captum; rank correlation with NaN and constants."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmexplain.evaluate.metrics.infidelity import foretold, infidelity, max_sensitivity, squares
from mmexplain.evaluate.metrics.rank_correlation import on_grid, rank_correlation
from tests.models import PlainCNN, noise, seeded


def test_infidelity_by_hand() -> None:
    # β = (1·2 + 2·2) / (1 + 4) = 1.2, what remains is 1.2 − 2 and 2.4 − 2.
    assert infidelity(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0])) == pytest.approx((0.64 + 0.16) / 2)
    lost = torch.tensor([3.0, -1.0, 2.0])
    assert infidelity(5 * lost, lost) == pytest.approx(0)
    assert infidelity(torch.zeros(3), lost) == pytest.approx(14 / 3), "a flat map of zeros foretells nothing"


def test_a_map_that_says_what_each_pixel_adds_is_right() -> None:
    weights, image = noise(16, 12), noise(16, 12, seed=1)
    masks = squares((16, 12), 30, torch.Generator().manual_seed(0))
    lost = (image * weights).sum() - (image * weights * ~masks).sum((1, 2))
    assert infidelity(foretold(image * weights, masks), lost) == pytest.approx(0, abs=1e-12)
    assert infidelity(foretold(weights, masks), lost) > 0.01


def test_squares_lie_everywhere_and_are_whole() -> None:
    masks = squares((3, 16, 12), 3000, torch.Generator().manual_seed(0))
    assert masks.flatten(1).sum(1).tolist() == [3 * 9] * 3000
    assert masks.any(0).all() and torch.equal(masks[:, 0], masks[:, 2])
    assert squares((1, 1), 2, torch.Generator()).all(), "a photo of one pixel"


def test_what_a_map_does_not_say_foretells_nothing() -> None:
    values = torch.tensor([[1.0, math.nan], [2.0, 4.0]])
    masks = torch.tensor([[[1, 1], [0, 0]], [[0, 1], [1, 1]]]).bool()
    assert foretold(values, masks).tolist() == [1, 6]


def test_max_sensitivity_by_hand() -> None:
    values = torch.tensor([3.0, 4.0])
    assert max_sensitivity(values, torch.tensor([[3.0, 4.0], [3.0, 5.0], [0.0, 4.0]])) == pytest.approx(3 / 5)
    assert max_sensitivity(10 * values, torch.tensor([[30.0, 40.0], [0.0, 40.0]])) == pytest.approx(3 / 5)
    assert max_sensitivity(torch.tensor([3.0, 4.0, math.nan]), torch.tensor([[3.0, 3.0, 9.0]])) == pytest.approx(1 / 5)
    assert max_sensitivity(torch.zeros(2), torch.zeros(3, 2)) == 0
    assert math.isnan(max_sensitivity(torch.zeros(2), torch.ones(3, 2)))


@pytest.mark.peers
def test_infidelity_as_captum() -> None:
    """The same squares; I is 1 where a pixel is removed, for maps that say what each pixel adds."""
    from captum.metrics import infidelity as peer

    model, image = seeded(PlainCNN), noise(1, 3, 16, 16)
    values = noise(16, 16, seed=3)
    masks = squares((16, 16), 40, torch.Generator().manual_seed(0))

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        # captum's attributions have the photo's channels: a third of the map in each.
        return masks[:, None].expand(-1, 3, -1, -1).double(), inputs * ~masks[:, None]

    attributions = (values / 3).expand(1, 3, 16, 16)
    expected = peer(model, perturb, image, attributions, target=2, n_perturb_samples=40, normalize=True)
    with torch.no_grad():
        lost = model(image)[0, 2] - model(image * ~masks[:, None])[:, 2]
    assert infidelity(foretold(values, masks), lost) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.peers
def test_max_sensitivity_as_captum() -> None:
    from captum.attr import Saliency
    from captum.metrics import sensitivity_max

    model, image = seeded(PlainCNN), noise(1, 3, 16, 16)
    others = image + 0.02 * (2 * noise(10, 3, 16, 16, seed=1).sigmoid() - 1)
    explain = Saliency(model).attribute
    expected = sensitivity_max(explain, image, lambda inputs: others, target=2, n_perturb_samples=10)
    found = max_sensitivity(explain(image, target=2)[0].detach(), explain(others, target=2).detach())
    assert found == pytest.approx(float(expected), rel=1e-6) and found > 0


def test_rank_correlation_of_flat_maps_and_of_what_is_not_seen() -> None:
    rising = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert rank_correlation(rising, rising.exp()) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert math.isnan(rank_correlation(rising, torch.ones(2, 2)))
    hidden = torch.tensor([[math.nan, 7.0], [6.0, 5.0]])
    assert rank_correlation(rising, hidden) == pytest.approx(-1)
    assert math.isnan(rank_correlation(rising, torch.full((2, 2), math.nan)))
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = torch.tensor([[0.0, 5.0], [5.0, 9.0]])
    assert rank_correlation(rising, tied) == pytest.approx(4.5 / math.sqrt(5 * 4.5))


def test_maps_on_a_smaller_grid() -> None:
    values = torch.arange(16.0).view(4, 4)
    assert on_grid(values, (2, 2)).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert torch.equal(on_grid(values, (4, 4)), values)
    assert on_grid(torch.ones(4, 6, 6), (2, 3, 3)).shape == (2, 3, 3)
