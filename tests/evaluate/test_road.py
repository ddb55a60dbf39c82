"""ROAD: its imputation by hand, against a dense solve and against pytorch-grad-cam's copy of the authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmexplain.evaluate.metrics.insertion_deletion import order
from mmexplain.evaluate.metrics.road import PERCENTILES, combined, imputed, removed


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_single_pixel_is_the_mean_of_its_neighbours() -> None:
    image = torch.arange(9.0).view(1, 3, 3) ** 2
    gone = torch.zeros(3, 3, dtype=torch.bool)
    gone[1, 1] = True
    found = imputed(image, gone, noise=0)
    assert found[0, 1, 1] == pytest.approx((1 + 9 + 25 + 49) / 6 + (0 + 4 + 36 + 64) / 12)
    assert torch.equal(found[0][~gone], image[0][~gone])
    corner = torch.zeros(3, 3, dtype=torch.bool)
    corner[0, 0] = True
    # Two direct neighbours and a diagonal one, with 2/5, 2/5 and 1/5 of the weight.
    assert imputed(image, corner, noise=0)[0, 0, 0] == pytest.approx((2 * 1 + 2 * 9 + 16) / 5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_against_a_dense_solve(share: float) -> None:
    """Each missing pixel in a loop, in float64."""
    image, gone = noise(3, 7, 6), noise(7, 6, seed=1) < share
    places = [(y, x) for y in range(7) for x in range(6)]
    system, right = np.eye(42), image.flatten(1).T.numpy().copy()
    for row, (y, x) in enumerate(places):
        if gone[y, x]:
            near = [p for p in places if p != (y, x) and abs(p[0] - y) <= 1 and abs(p[1] - x) <= 1]
            weights = [2.0 if p[0] == y or p[1] == x else 1.0 for p in near]
            right[row] = 0
            for (v, u), weight in zip(near, weights, strict=True):
                system[row, places.index((v, u))] = -weight / sum(weights)
    expected = np.linalg.solve(system, right).T.reshape(3, 7, 6)
    np.testing.assert_allclose(imputed(image, gone, noise=0), expected, atol=1e-10)


def test_nothing_and_everything_removed() -> None:
    image = noise(3, 4, 4)
    assert torch.equal(imputed(image, torch.zeros(4, 4, dtype=torch.bool)), image)
    with pytest.raises(ValueError, match="nothing remains"):
        imputed(image, torch.ones(4, 4, dtype=torch.bool))
    flat = imputed(torch.full((3, 4, 4), 0.7), noise(4, 4) < 0.8, noise=0)
    torch.testing.assert_close(flat, torch.full((3, 4, 4), 0.7))


def test_noise_is_drawn_for_what_is_guessed_only() -> None:
    image, gone = torch.zeros(3, 100, 100), noise(100, 100) < 0.5
    found = imputed(image, gone, torch.Generator().manual_seed(3), noise=0.1)
    assert torch.equal(found, imputed(image, gone, torch.Generator().manual_seed(3), noise=0.1))
    assert found[:, ~gone].abs().max() == 0 and found[:, gone].std() == pytest.approx(0.1, rel=0.05)


def test_the_most_and_the_least_relevant_are_removed() -> None:
    ordered = order(torch.tensor([0.1, 0.5, 0.5, 0.9, 0.2]), torch.arange(5))
    assert removed(ordered, 60).tolist() == [False, True, False, True, False]
    assert removed(ordered, 60, least=True).tolist() == [True, False, False, False, True]
    assert [int(removed(ordered, percentile).sum()) for percentile in (0, 20, 75, 100)] == [5, 4, 2, 1]
    values = noise(1000)
    for percentile in PERCENTILES:
        assert torch.equal(
            removed(order(values, torch.arange(1000)), percentile), values >= np.percentile(values, percentile)
        )


def test_both_orders_combined() -> None:
    assert combined([0.2, 0.0], [0.8, 0.6]) == pytest.approx(0.3)
    assert combined([0.5, 0.5], [0.5, 0.5]) == 0


@pytest.mark.peers
def test_imputation_as_the_authors() -> None:
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    image, gone = noise(3, 16, 16).float(), noise(16, 16, seed=1) < 0.6
    expected = NoisyLinearImputer(noise=0)(image, (~gone).float())
    torch.testing.assert_close(imputed(image, gone, noise=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.peers
def test_combined_as_pytorch_grad_cam(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole metric on a model of one linear layer, without noise."""
    from pytorch_grad_cam.metrics import road
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def exact(self: Any, *_: Any) -> None:
        self.noise = 0.0

    monkeypatch.setattr(road.NoisyLinearImputer, "__init__", exact)
    image, values = noise(1, 3, 16, 16).float(), noise(16, 16, seed=1).float()
    weights = noise(3, 16, 16, seed=2).float()

    class Linear(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images * weights).mean((2, 3))[:, :1]

    peer = road.ROADCombined(list(PERCENTILES))
    (expected,) = peer(image, values[None].numpy(), [ClassifierOutputTarget(0)], Linear())
    scores = [
        [
            float(Linear()(imputed(image[0], removed(order(values, torch.arange(256)), p, least), noise=0)[None]))
            for p in PERCENTILES
        ]
        for least in (False, True)
    ]
    assert combined(*scores) == pytest.approx(float(expected), abs=1e-6)
    assert abs(float(expected)) > 1e-4
