"""Maps against fixations and human maps: values worked by hand, and slow versions written from the benchmark's code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from mmexplain.evaluate.metrics.saliency import (
    auc_judd,
    cc,
    centre_gaussian,
    fixated_pixels,
    grid_spearman,
    kl,
    nss,
    strongest_pixels,
)

FLAT = torch.full((6, 8), 0.1)


@pytest.fixture
def maps() -> tuple[Tensor, Tensor, Tensor]:
    """A map without ties, a human map and fixated pixels."""
    random = np.random.default_rng(0)
    fixated = torch.from_numpy(random.random((12, 16)) < 0.1)
    return torch.from_numpy(random.normal(size=(12, 16))), torch.from_numpy(random.random((12, 16))), fixated


def slow_auc_judd(values: Tensor, fixated: Tensor) -> float:
    """AUC_Judd.m, line by line, without its jitter."""
    numbers, hit = values.flatten().tolist(), fixated.flatten().tolist()
    thresholds = sorted((v for v, f in zip(numbers, hit, strict=True) if f), reverse=True)
    true, false = [0.0], [0.0]
    for number, threshold in enumerate(thresholds, 1):
        above = sum(v >= threshold for v in numbers)
        true.append(number / len(thresholds))
        false.append((above - number) / (len(numbers) - len(thresholds)))
    true.append(1.0)
    false.append(1.0)
    return sum((false[i] - false[i - 1]) * (true[i] + true[i - 1]) / 2 for i in range(1, len(true)))


def test_all_numbers_against_slow_ones(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    values, human, fixated = maps
    assert auc_judd(values, fixated) == pytest.approx(slow_auc_judd(values, fixated), abs=1e-12)
    flat, other = values.flatten().tolist(), human.flatten().tolist()
    mean = sum(flat) / len(flat)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in flat) / (len(flat) - 1))
    chosen = [(v - mean) / deviation for v, f in zip(flat, fixated.flatten().tolist(), strict=True) if f]
    assert nss(values, fixated) == pytest.approx(sum(chosen) / len(chosen))
    assert cc(values, human) == pytest.approx(np.corrcoef(flat, other)[0, 1])
    p = [max(v, 0) for v in flat]
    p = [v / sum(p) for v in p]
    q = [v / sum(other) for v in other]
    eps = np.finfo(float).eps
    assert kl(values, human) == pytest.approx(sum(b * math.log(eps + b / (a + eps)) for a, b in zip(p, q, strict=True)))


def test_auc_by_hand() -> None:
    values = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    # One fixation, at the greatest value: the curve goes (0, 0), (0, 1), (1, 1).
    assert auc_judd(values, torch.tensor([[True, False], [False, False]])) == 1
    # At the least: (0, 0), (1, 1), (1, 1); the trapezoids' half.
    assert auc_judd(values, torch.tensor([[False, False], [False, True]])) == 0.5
    # At 4 and 2: (0, 0), (0, ½), (½, 1), (1, 1) has ½ · ¾ + ½ · 1.
    assert auc_judd(values, torch.tensor([[True, False], [True, False]])) == 0.875


def test_auc_of_ties_is_the_same_in_every_order() -> None:
    values = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    # Tied at 1: one fixated, one not: (0, 0), (½, 1), (1, 1).
    assert auc_judd(values, torch.tensor([[False, True, False, False]])) == pytest.approx(2 / 3 / 2 + 1 / 3)
    assert auc_judd(values, torch.tensor([[False, False, True, False]])) == pytest.approx(2 / 3 / 2 + 1 / 3)


def test_nss_by_hand() -> None:
    # Mean 1, squared distances 1 + 1 + 1 + 9 over n - 1 = 3: deviation 2.
    values = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert nss(values, torch.tensor([[False, False], [False, True]])) == pytest.approx(1.5)
    assert nss(values, torch.tensor([[True, False], [False, True]])) == pytest.approx((1.5 - 0.5) / 2)


def test_kl_by_hand() -> None:
    uniform, half = torch.ones(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert kl(uniform, half) == pytest.approx(math.log(2))
    assert kl(half, half) == pytest.approx(0, abs=1e-12)
    # What the map excludes costs ln(½ / ε) for each half.
    assert kl(half, 1 - half) == pytest.approx(math.log(0.5 / 2**-52))
    assert kl(torch.tensor([[1.0, -5.0]]), torch.tensor([[1.0, 0.0]])) == pytest.approx(0, abs=1e-12)
    assert math.isnan(kl(-uniform, half)) and math.isnan(kl(half, torch.zeros(2, 2)))


def test_rounding_does_not_split_ties() -> None:
    """The left half is .1 and the right one .7; the means of cells of unequal sizes are these with rounding."""
    values = torch.full((37, 74), 0.1, dtype=torch.float64)
    values[:, 37:] = 0.7
    cells = functional.adaptive_avg_pool2d(values[None], 14)[0]
    assert cells.unique().numel() > 2
    other = torch.rand(14, 14, generator=torch.Generator().manual_seed(0))
    expected = stats.spearmanr((torch.arange(14) >= 7).expand(14, 14).flatten(), other.flatten()).statistic
    for factor in (1e-12, 1, 1e12):
        assert grid_spearman(factor * values, other) == pytest.approx(expected, abs=1e-12)


def test_grid_is_that_of_14_cells() -> None:
    random = np.random.default_rng(1)
    one, other = torch.from_numpy(random.random((28, 42))), torch.from_numpy(random.random((56, 28)))
    coarse = [v.reshape(14, v.shape[0] // 14, 14, v.shape[1] // 14).mean((1, 3)).flatten() for v in (one, other)]
    assert grid_spearman(one, other) == pytest.approx(stats.spearmanr(*coarse).statistic)
    assert grid_spearman(one, one) == pytest.approx(1) and grid_spearman(one, -one) == pytest.approx(-1)
    # Ties share ranks: of a map with two values only.
    halves = torch.zeros(14, 14)
    halves[:, 7:] = 1
    ramp = torch.arange(14.0).expand(14, 14)
    expected = stats.spearmanr(halves.flatten(), ramp.flatten()).statistic
    assert grid_spearman(halves, ramp) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(6, 8), (31, 45), (240, 317)])
def test_constant_maps_are_undefined(size: tuple[int, int]) -> None:
    flat, ramp = torch.full(size, 0.1), torch.arange(size[0] * size[1], dtype=torch.float64).reshape(size)
    fixated = ramp < 3
    assert math.isnan(grid_spearman(flat, ramp)) and math.isnan(grid_spearman(ramp, flat))
    assert math.isnan(auc_judd(flat, fixated)) and math.isnan(nss(flat, fixated))
    assert math.isnan(cc(flat, ramp)) and math.isnan(cc(ramp, flat))
    assert kl(flat, ramp) > 0, "a uniform map is a distribution"


def test_without_fixations_or_with_nothing_else() -> None:
    ramp = torch.arange(48.0).reshape(6, 8)
    for fixated in (torch.zeros(6, 8, dtype=torch.bool), torch.ones(6, 8, dtype=torch.bool)):
        assert math.isnan(auc_judd(ramp, fixated))
    assert math.isnan(nss(ramp, torch.zeros(6, 8, dtype=torch.bool)))


def test_what_was_not_seen_is_left_out(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    values, human, fixated = maps
    unseen = values.clone()
    unseen[:, :3] = torch.nan
    cut = (slice(None), slice(3, None))
    assert auc_judd(unseen, fixated) == pytest.approx(auc_judd(values[cut], fixated[cut]))
    assert nss(unseen, fixated) == pytest.approx(nss(values[cut], fixated[cut]))
    assert cc(unseen, human) == pytest.approx(cc(values[cut], human[cut]))
    assert kl(unseen, human) == pytest.approx(kl(values[cut], human[cut]))
    nothing = torch.full_like(values, torch.nan)
    assert math.isnan(grid_spearman(nothing, human)) and math.isnan(auc_judd(nothing, fixated))
    assert math.isnan(nss(nothing, fixated)) and math.isnan(cc(nothing, human)) and math.isnan(kl(nothing, human))
    # Of 28 columns the first 3 cover one cell and a half: the half that is left is that cell's mean.
    wide, other = torch.rand(14, 28).double(), torch.rand(14, 28).double()
    wide[:, :3] = torch.nan
    cells = wide.reshape(14, 14, 2).nanmean(2)[:, 1:].flatten()
    pooled = other.reshape(14, 14, 2).mean(2)[:, 1:].flatten()
    assert grid_spearman(wide, other) == pytest.approx(stats.spearmanr(cells, pooled).statistic)


def test_fixated_pixels() -> None:
    points = torch.tensor([[0.0, 0.0], [0.9, 0.9], [3.5, 1.0], [4.0, 0.0], [-0.1, 0.0], [0.0, 2.0]])
    found = fixated_pixels(points, 2, 4)
    assert found.nonzero().tolist() == [[0, 0], [1, 3]], "a pixel counts once; what is outside does not"
    assert not fixated_pixels(torch.zeros(0, 2), 2, 4).any()


def test_strongest_pixels() -> None:
    ramp = torch.arange(100.0).reshape(10, 10)
    assert strongest_pixels(ramp).sum() == 5 and strongest_pixels(ramp)[9, 5:].all()
    assert strongest_pixels((ramp >= 80).float()).sum() == 20, "ties with the last one count too"
    assert not strongest_pixels(FLAT).any()


def test_centre_gaussian() -> None:
    found = centre_gaussian(4, 6)
    torch.testing.assert_close(found, found.flip(0).flip(1))
    # The centres of the middle pixels are 1/8 and 1/12 of the sides away from the middle.
    assert found.max() == pytest.approx(math.exp(-(0.5**2 + (1 / 3) ** 2) / 2))
    assert centre_gaussian(3, 5)[1, 2] == 1
