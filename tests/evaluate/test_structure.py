"""SSIM and HOG similarity of maps: values worked by hand, and slow versions written from the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mmexplain.evaluate.metrics.structure import as_picture, hog_similarity, ssim

SIZE = (64, 48)
Picture = NDArray[np.float64]


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or SIZE, generator=torch.Generator().manual_seed(seed))


def slow_ssim(one: Picture, other: Picture, window: int = 5) -> float:
    """Wang et al. 2004, eq. 13, window by window, with C1 = 0.01² and C2 = 0.03² for a range of 1."""
    found = []
    for top in range(one.shape[0] - window + 1):
        for left in range(one.shape[1] - window + 1):
            x, y = (p[top : top + window, left : left + window].ravel().tolist() for p in (one, other))
            n = len(x)
            mx, my = sum(x) / n, sum(y) / n
            vx, vy = sum((v - mx) ** 2 for v in x) / (n - 1), sum((v - my) ** 2 for v in y) / (n - 1)
            both = sum((v - mx) * (w - my) for v, w in zip(x, y, strict=True)) / (n - 1)
            luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
            found.append(luminance * (2 * both + 9e-4) / (vx + vy + 9e-4))
    return sum(found) / len(found)


def slow_hog(picture: Picture, cell: int = 16, block: int = 3) -> list[float]:
    """Dalal & Triggs 2005: central differences, 9 unsigned orientations, mean votes of cells, L2-Hys over blocks."""
    height, width = picture.shape
    rows, columns = height // cell, width // cell
    votes = np.zeros((rows, columns, 9))
    for y in range(rows * cell):
        for x in range(columns * cell):
            dy = picture[y + 1, x] - picture[y - 1, x] if 0 < y < height - 1 else 0.0
            dx = picture[y, x + 1] - picture[y, x - 1] if 0 < x < width - 1 else 0.0
            angle = math.degrees(math.atan2(dy, dx)) % 180
            votes[y // cell, x // cell, min(int(angle // 20), 8)] += math.hypot(dx, dy) / cell**2
    features: list[float] = []
    for row in range(rows - block + 1):
        for column in range(columns - block + 1):
            values = votes[row : row + block, column : column + block].ravel()
            for limit in (0.2, math.inf):
                values = np.minimum(values / math.sqrt(float((values**2).sum()) + 1e-10), limit)
            features += values.tolist()
    return features


def test_a_picture_of_a_map() -> None:
    values = torch.tensor([[0.0, -2.0], [1.0, 0.5]])
    # Four cells at the corners of the quantile: 99 % lie below 1 + 0.97 · (2 − 1).
    assert as_picture(values, (2, 2)) == pytest.approx(np.array([[0, 1], [1 / 1.97, 0.5 / 1.97]]))
    spike = torch.zeros(20, 20)
    spike[3, 4] = -7
    assert as_picture(spike, (20, 20)).max() == 1 and as_picture(spike, (20, 20)).sum() == 1
    assert not as_picture(torch.zeros(4, 4), (8, 8)).any()


def test_a_picture_is_upsampled_as_for_display() -> None:
    values = noise(0, 4, 3).abs()
    wanted = functional.interpolate(values[None, None].double(), SIZE, mode="bilinear", align_corners=False)[0, 0]
    white = np.quantile(wanted.numpy(), 0.99)
    assert as_picture(values, SIZE) == pytest.approx((wanted / white).clamp(max=1).numpy(), abs=1e-6)


@pytest.mark.parametrize("shape", [SIZE, (7, 7)])
def test_against_slow_versions(shape: tuple[int, int]) -> None:
    one, other = noise(1, *shape), noise(2, *shape) + 0.5 * noise(1, *shape)
    pictures = [as_picture(values, SIZE) for values in (one, other)]
    assert ssim(one, other, SIZE) == pytest.approx(slow_ssim(*pictures), abs=1e-9)
    features = [slow_hog(picture) for picture in pictures]
    assert len(features[0]) == 2 * 81
    assert hog_similarity(one, other, SIZE) == pytest.approx(np.corrcoef(*features)[0, 1], abs=1e-6)


def test_one_window_by_hand() -> None:
    """One window of 5 × 5: a cross of ones, and the same cross with its middle row gone."""
    one = torch.zeros(5, 5)
    one[2], one[:, 2] = 1, 1
    other = one.clone()
    other[2] = 0
    # Means 9/25 and 4/25; sums of squares about them 9 − 81/25 and 4 − 16/25; of products 4 − 36/25.
    mx, my, vx, vy, both = 9 / 25, 4 / 25, (9 - 81 / 25) / 24, (4 - 16 / 25) / 24, (4 - 36 / 25) / 24
    wanted = (2 * mx * my + 1e-4) * (2 * both + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert ssim(one, other, (5, 5)) == pytest.approx(wanted)


def test_what_does_not_matter() -> None:
    """Neither sign nor scale; the order of the two."""
    one, other = noise(1), noise(2)
    for measure in (ssim, hog_similarity):
        assert measure(one, one, SIZE) == pytest.approx(1)
        assert measure(one, -3 * one, SIZE) == pytest.approx(1)
        assert measure(one, other, SIZE) == pytest.approx(measure(other, one, SIZE))
    assert abs(ssim(one, other, SIZE)) < 0.1


def test_unrelated_maps_are_not_at_zero() -> None:
    """The levels that the module tells."""
    grids = [ssim(noise(n, 7, 7).clamp(min=0), noise(n + 50, 7, 7).clamp(min=0), (224, 224)) for n in range(12)]
    assert np.mean(grids) == pytest.approx(0.3, abs=0.05)
    for side, level in ((64, 0.25), (224, 0.15)):
        pairs = [(noise(n, side, side), noise(n + 50, side, side)) for n in range(12)]
        assert np.mean([hog_similarity(*pair, (side, side)) for pair in pairs]) == pytest.approx(level, abs=0.08)


def test_stripes_that_cross() -> None:
    """Every gradient of the one lies along x, of the other along y: the histograms share no orientation."""
    x, y = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="xy")
    one, other = (x // 4 % 2).float(), (y // 4 % 2).float()
    # Of 81 numbers 9 are a and 72 are 0, in other places: r = −9·9 / (81·9 − 81) = −1/8.
    assert hog_similarity(one, other, (48, 48)) == pytest.approx(-1 / 8, abs=0.02)
    assert hog_similarity(one, one.flip(1), (48, 48)) == pytest.approx(1, abs=0.02)


def test_where_nothing_is_defined() -> None:
    flat, signs, told = torch.full((7, 7), 0.1), noise(0, 7, 7).sign(), noise(1, 7, 7)
    gone = told.clone()
    gone[0, 0] = math.nan
    for measure in (ssim, hog_similarity):
        for other in (flat, signs, gone, torch.zeros(7, 7)):
            assert math.isnan(measure(told, other, SIZE)) and math.isnan(measure(other, told, SIZE))
    assert math.isnan(hog_similarity(told, told, (47, 64))) and not math.isnan(ssim(told, told, (47, 64)))
    assert math.isnan(ssim(told, told, (4, 64)))


def test_a_clip_is_the_mean_over_frames_that_are_not_flat() -> None:
    one, other = noise(1, 3, *SIZE), noise(2, 3, *SIZE)
    one[1] = 0
    # One scale for the whole clip.
    white = [np.quantile(clip.double().abs().numpy(), 0.99) for clip in (one, other)]
    pictures = [(clip.double().abs() / w).clamp(max=1).numpy() for clip, w in zip((one, other), white, strict=True)]
    wanted = [slow_ssim(pictures[0][frame], pictures[1][frame]) for frame in (0, 2)]
    assert ssim(one, other, SIZE) == pytest.approx(sum(wanted) / 2, abs=1e-9)
    assert hog_similarity(one, one, SIZE) == pytest.approx(1)
    assert math.isnan(ssim(torch.zeros(3, *SIZE), other, SIZE))
