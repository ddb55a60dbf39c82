"""RISE against a loop over single masks, and on models whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.taps import INPUT
from tests.models import ModelTask, PlainCNN, VideoNet, classes, noise, seeded


class Dark(ModelTask):
    """The test's task with a preprocessing that makes black another number in each channel."""

    def black(self) -> list[float]:
        return [-1.5, -0.5, 0.25]


def slow_masks(count: int, cells: tuple[int, ...], sides: tuple[int, ...], keep: float, seed: int) -> list[Tensor]:
    """Section 3.2 of the paper, one mask at a time: upsampled as a whole, then cut out."""
    generator = torch.Generator().manual_seed(seed)
    grids = (torch.rand(count, *cells, generator=generator) < keep).double()
    cell = [math.ceil(side / n) for side, n in zip(sides, cells, strict=True)]
    shifts = torch.rand(count, len(sides), generator=generator)
    masks = []
    for grid, shift in zip(grids, shifts, strict=True):
        size = [(n + 1) * c for n, c in zip(cells, cell, strict=True)]
        mode = "bilinear" if len(sides) == 2 else "trilinear"
        up = F.interpolate(grid[None, None], size, mode=mode, align_corners=False)[0, 0]
        starts = [int(share * c) for share, c in zip(shift.tolist(), cell, strict=True)]
        window = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        masks.append(up[window])
    return masks


def slow(task: ModelTask, image: Tensor, masks: list[Tensor], number: int, keep: float, centre: bool) -> Tensor:
    """Eq. 6 of the paper in float64."""
    black = torch.tensor(task.black(), dtype=torch.float64).view(-1, *[1] * (image.ndim - 1))
    with torch.no_grad():
        scores = [task.model(((image - black) * mask + black)[None])[0, number] for mask in masks]
    mean = sum(scores) / len(scores) if centre else 0.0
    total = sum((score - mean) * mask for score, mask in zip(scores, masks, strict=True))
    assert isinstance(total, Tensor)
    return total / ((len(masks) - centre) * keep)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize(("grid", "keep"), [(3, 0.5), (7, 0.25), (20, 0.9)])
def test_against_a_loop_over_masks(grid: int, keep: float, centre: bool) -> None:
    task = Dark(seeded(PlainCNN))
    images = noise(2, 3, 16, 12)
    name = f"rise(masks=30, grid={grid}, keep={keep}, centre={centre})"
    found = explain(task, task.prepare(images), [classes(1, 3), classes(0, 4)], methods=[name], seed=5)
    masks = slow_masks(30, (grid, grid), (16, 12), keep, 5)
    assert len({str(mask.tolist()) for mask in masks}) > 5
    for b, numbers in enumerate([(1, 3), (0, 4)]):
        (value,) = found[b].maps.values()
        assert value.dtype == torch.float32
        for k, number in enumerate(numbers):
            expected = slow(task, images[b], masks, number, keep, centre).float()
            torch.testing.assert_close(value[k], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_clip_is_masked_over_time_too() -> None:
    task = ModelTask(seeded(VideoNet))
    clip = noise(1, 3, 6, 12, 12)
    name = "rise(masks=20, grid=4, steps=3)"
    (found,) = explain(task, task.prepare(clip), [classes(2)], methods=[name])
    masks = slow_masks(20, (3, 4, 4), (6, 12, 12), 0.5, 0)
    assert any((mask[0] - mask[-1]).abs().max() > 0.5 for mask in masks)
    expected = slow(task, clip[0], masks, 2, 0.5, True).float()
    torch.testing.assert_close(found.maps[MapKey(INPUT, name)][0], expected, rtol=1e-4, atol=1e-6)


class OnePixel(nn.Module):
    """Class 0 is one pixel, class 1 the same with another sign and an offset."""

    def forward(self, images: Tensor) -> Tensor:
        value = images[:, 0, 5, 9]
        return torch.stack([value, 40 - value], 1)


def test_a_pixel_that_decides_is_found_and_its_sign_told() -> None:
    task = ModelTask(OnePixel())
    (found,) = explain(task, task.prepare(torch.ones(1, 1, 14, 14)), [classes(0, 1)], methods=["rise(masks=2000)"])
    (value,) = found.maps.values()
    peak = int(value[0].argmax())
    assert abs(peak // 14 - 5) <= 1 and abs(peak % 14 - 9) <= 1
    torch.testing.assert_close(value[1], -value[0], rtol=1e-3, atol=1e-4)
    # Far from the pixel nothing is known of it: the cells are drawn independently.
    assert value[0, 11:, :4].abs().max() < 0.15 * value[0].max()


def test_the_sums_are_unbiased() -> None:
    """Many small estimates agree, in the mean, with the exact sum over all masks of a 2 × 2 grid and all shifts."""
    task = ModelTask(OnePixel())
    image = torch.ones(1, 1, 14, 14)
    exact = {True: torch.zeros(14, 14), False: torch.zeros(14, 14)}
    ups, weights = [], []
    for number in range(16):
        bits = torch.tensor([number >> n & 1 for n in range(4)], dtype=torch.float64)
        chance = float(torch.where(bits > 0, 0.3, 0.7).prod())
        up = F.interpolate(bits.view(1, 1, 2, 2), (21, 21), mode="bilinear", align_corners=False)[0, 0]
        for top in range(7):
            for left in range(7):
                ups.append(up[top : top + 14, left : left + 14])
                weights.append(chance / 49)
    masks, chances = torch.stack(ups), torch.tensor(weights, dtype=torch.float64)
    torch.testing.assert_close(torch.einsum("n,nyx->yx", chances, masks), torch.full((14, 14), 0.3).double())
    scores = masks[:, 5, 9]
    exact[False] = torch.einsum("n,nyx->yx", chances * scores, masks) / 0.3
    exact[True] = torch.einsum("n,nyx->yx", chances * (scores - (chances * scores).sum()), masks) / 0.3
    for centre, expected in exact.items():
        total = torch.zeros(14, 14)
        for seed in range(400):
            name = f"rise(masks=5, grid=2, keep=0.3, centre={centre})"
            (found,) = explain(task, task.prepare(image), [classes(0)], methods=[name], seed=seed)
            (value,) = found.maps.values()
            total += value[0]
        # Dividing by N in place of N - 1 would be off by a fifth.
        assert (total / 400 - expected).abs().max() < 0.1 * expected.max()


def test_an_offset_of_the_score_changes_nothing() -> None:
    class Offset(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.model, self.by = seeded(PlainCNN), by

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images) + self.by

    maps = []
    for by in (0.0, 100.0):
        task = ModelTask(Offset(by))
        images = noise(1, 3, 16, 16)
        (found,) = explain(task, task.prepare(images), [classes(1)], methods=["rise(masks=100)"])
        maps += found.maps.values()
    assert (maps[0] - maps[1]).abs().max() < 1e-3 * maps[0].abs().max()


def test_batches_targets_and_chunks_do_not_matter() -> None:
    task = ModelTask(seeded(PlainCNN))
    images = noise(2, 3, 16, 16)
    options: dict[str, Any] = {"methods": ["rise(masks=40)"], "seed": 3}
    whole = explain(task, task.prepare(images), [classes(0, 1, 2)] * 2, **options)
    told: list[tuple[int, int]] = []
    small = explain(
        task,
        task.prepare(images),
        [classes(0, 1, 2)] * 2,
        memory=1,
        progress=lambda *steps: told.append(steps),
        **options,
    )
    assert told == [(n, 80) for n in range(1, 81)]
    for b in range(2):
        for key, value in whole[b].maps.items():
            near = {"rtol": 1e-4, "atol": 1e-5 * float(value.abs().max())}
            torch.testing.assert_close(small[b].maps[key], value, **near)
            for k in range(3):
                alone = explain(task, task.prepare(images[b : b + 1]), [classes(k)], **options)
                torch.testing.assert_close(alone[0].maps[key][0], value[k], **near)
    other = explain(task, task.prepare(images), [classes(0)] * 2, methods=["rise(masks=40)"], seed=4)
    assert not torch.allclose(next(iter(other[0].maps.values()))[0], next(iter(whole[0].maps.values()))[0], rtol=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near(dtype: torch.dtype) -> None:
    exact, half = ModelTask(seeded(PlainCNN)), ModelTask(seeded(PlainCNN).to(dtype))
    images = noise(1, 3, 16, 16)
    (expected,) = explain(exact, exact.prepare(images), [classes(1)], methods=["rise(masks=50)"])[0].maps.values()
    (found,) = explain(half, half.prepare(images.to(dtype)), [classes(1)], methods=["rise(masks=50)"])[0].maps.values()
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("name", ["rise(masks=1)", "rise(grid=0)", "rise(keep=1.0)", "rise(keep=0)", "rise(steps=0)"])
def test_wrong_parameters_are_told(name: str) -> None:
    task = ModelTask(OnePixel())
    with pytest.raises(MethodError, match="RISE takes 2 masks or more"):
        explain(task, task.prepare(torch.ones(1, 1, 14, 14)), [classes(0)], methods=[name])
