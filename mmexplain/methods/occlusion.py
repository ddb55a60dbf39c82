"""Occlusion sensitivity: what the score loses when a patch of the photo is covered."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmexplain.errors import MethodError
from mmexplain.taps import INPUT

if TYPE_CHECKING:
    from mmexplain.probe import Probe

SIZES = (10, 15, 25, 35, 45, 90)
"""Sides of the patches of the Grad-CAM paper's appendix, in pixels of an input of 224; 35 was its pick."""


def occlusion(
    probe: Probe, *, patch: int = 35, stride: int = 0, frames: int = 8, fill: str = "grey"
) -> dict[str, Tensor]:
    """Occlusion sensitivity: M = S(x) − S(x with a patch covered), at each pixel the mean over the patches on it.

    Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2; sizes as in the
    appendix of Selvaraju et al., ICCV 2017 (:data:`SIZES`). Positive: evidence, the score falls without it. Negative:
    confusion, the score rises. It assumes nothing of the model, not even a gradient.

    Cost: one forward pass for each position of the patch: ``⌈(side − patch) / stride + 1⌉²``, 144 for 224 pixels, a
    patch of 35 and its default stride; none for further targets.

    Args:
        probe: the model.
        patch: side of the square, pixels of the model's input; as much of a side as there is, where it is larger.
        stride: between positions, pixels; 0 stands for half a patch. Pixels that a stride larger than the patch leaves
            uncovered have the value of the nearest one that is covered.
        frames: of a clip, how many it covers, half as many apart.
        fill: "grey", zero in the model's input, which preprocessing makes the mean colour; or "black".

    Returns:
        ``"input"`` → ``[B, K, *P]`` float32.

    Raises:
        MethodError: a size below 1, a negative stride, or another fill.
    """
    if patch < 1 or frames < 1:
        raise MethodError(f"occlusion covers 1 pixel and 1 frame or more, not patch={patch}, frames={frames}")
    if stride < 0:
        raise MethodError(f"occlusion moves on by 1 pixel or more, or by half a patch for 0, not by stride={stride}")
    if fill not in ("grey", "black"):
        raise MethodError(f"occlusion fills with 'grey' or 'black', not {fill!r}")
    inputs = probe.inputs
    sides = list(inputs.shape[2:])
    sizes = [min(size, side) for size, side in zip([frames, patch, patch][-len(sides) :], sides, strict=True)]
    steps = [stride or -(-patch // 2)] * 2
    steps = steps if len(sides) == 2 else [-(-frames // 2), *steps]
    starts = [_starts(*axis) for axis in zip(sides, sizes, steps, strict=True)]
    places = list(itertools.product(*starts))
    cover = probe.black if fill == "black" else torch.zeros_like(probe.black)

    total = torch.zeros(probe.batch, probe.count, *sides, device=inputs.device)
    times = torch.zeros(sides, device=inputs.device)
    for part in probe.parts(probe.batch * len(places)):
        owner, numbers = probe.rows(len(places), part)
        images = inputs[owner]
        windows = [_window(places[number], sizes) for number in numbers.tolist()]
        for image, window in zip(images, windows, strict=True):
            image[(slice(None), *window)] = cover
        drops = probe.scores[owner] - probe.score(images, owner)
        for row, drop, window in zip(owner.tolist(), drops, windows, strict=True):
            total[(row, slice(None), *window)] += drop.reshape(-1, *[1] * len(sides))
            if row == 0:
                times[window] += 1
    for axis, (side, firsts, size) in enumerate(zip(sides, starts, sizes, strict=True)):
        nearest = _nearest(side, firsts, size).to(total.device)
        total, times = total.index_select(axis + 2, nearest), times.index_select(axis, nearest)
    return {INPUT: total / times}


def _nearest(side: int, starts: list[int], size: int) -> Tensor:
    """For each pixel of a side the nearest one that a patch covers: itself, mostly."""
    covered = torch.tensor(sorted({pixel for start in starts for pixel in range(start, start + size)}))
    return covered[(torch.arange(side)[:, None] - covered).abs().argmin(1)]


def _starts(side: int, size: int, step: int) -> list[int]:
    """First pixels of the patches; the last patch ends where the photo does."""
    return [*range(0, side - size, step), side - size]


def _window(start: tuple[int, ...], sizes: list[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(start, sizes, strict=True))
