"""How important each frame of a clip was, along its time, as SVG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmexplain.explanation import Explanation, MapKey

BINS = 480
"""Columns of the curve at most: as many as can be told apart on a screen."""


def shares(explanation: Explanation, target: int, key: MapKey) -> NDArray[np.float64]:
    """The importance of every frame of the file as a share of the largest, ``[n_frames]``; NaN where unseen."""
    importance = explanation.importance(target, key.layer, key.method).cpu().double().numpy()
    importance = np.where(np.isinf(importance), 0, importance)
    largest = float(np.nanmax(importance, initial=0.0))
    return importance / largest if largest > 0 else importance


def curve(values: NDArray[np.float64], tallest: int = 92) -> str:
    """Values from 0 to 1 along all frames of a file (NaN: unseen) as the SVG path of their bars, in a box of
    :data:`BINS` (or fewer) by 100, of which 1 takes ``tallest``; where frames share a bin, their largest counts."""
    bins = min(len(values), BINS)
    largest = np.full(bins, np.nan)
    np.fmax.at(largest, np.arange(len(values)) * bins // len(values), values)
    path, open_run = [], False
    for place, value in enumerate(largest):
        if np.isnan(value):
            path.append("V100z" if open_run else "")
        else:
            path.append(f"{'' if open_run else f'M{place} 100'}V{100 - round(tallest * float(value))}h1")
        open_run = not np.isnan(value)
    return "".join(path) + ("V100z" if open_run else "")


def along(number: int, n_frames: int) -> float:
    """The middle of a frame's column, in per cent of the curve's width."""
    return round(100 * (number + 0.5) / n_frames, 3)


def clip_bars(explanation: Explanation, target: int, key: MapKey, frame: int) -> str:
    """The importance of all frames as a small SVG picture, with a mark at one of them."""
    values = shares(explanation, target, key)
    bins = min(len(values), BINS)
    at = bins * (frame + 0.5) / len(values)
    style = 'vector-effect="non-scaling-stroke"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {bins} 100" preserveAspectRatio="none" '
        f'width="264" height="60"><rect width="{bins}" height="100" fill="#888" fill-opacity=".22"/>'
        f'<path d="{curve(values)}" fill="#3f7fc4" stroke="#3f7fc4" {style}/>'
        f'<path d="M{at:.2f} 0V100" stroke="#e0761b" stroke-width="2" {style}/></svg>'
    )
