"""The decisive frames of a clip in a row for every target, over the curve that they were chosen from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import fit
from mmexplain.render.clip_heat import ClipHeat
from mmexplain.render.footage import Footage
from mmexplain.render.overlay import ALPHA, blend
from mmexplain.render.page import FAINT, HEADING, INK, MARGIN, SOFT, Box, heading, page, plate, put, ring, short, write
from mmexplain.render.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRAMES = 6
"""Decisive frames of each target."""

TILE_SIDE = 400
"""Longer side of each frame, pixels."""

_TITLE, _STAMP, _CURVE, _AXIS, _GAP, _BETWEEN = 0.24, 0.34, 0.36, 0.2, 0.06, 0.16  # inches
_WARM = "#d9480f"


def decisive_frames(importance: Tensor, count: int = FRAMES, among: Iterable[int] | None = None) -> list[int]:
    """The frames that the importance curve is highest at, but none close to a higher one.

    Greedy non-maximum suppression in time: the highest frame is taken, those less than 1 / (2 count) of the curve's
    length away from it are dropped, and so on. A flat curve gives frames that are spread evenly.

    Args:
        importance: ``[n_frames]``, NaN for frames that were not seen; these are taken only where there are no others.
        count: how many; fewer where the curve is shorter.
        among: only frames with these numbers.

    Returns:
        Frame numbers, increasing.
    """
    candidates = importance.isfinite().nonzero()[:, 0].tolist() or list(range(len(importance)))
    if among is not None:
        allowed = set(among)
        candidates = [number for number in candidates if number in allowed] or sorted(allowed)
    values = importance.nan_to_num(0.0).tolist()
    heights = [values[number] for number in candidates]
    if max(heights) - min(heights) <= 1e-6 * max(heights):
        places = np.linspace(0, len(candidates) - 1, min(count, len(candidates)))
        return sorted({candidates[round(place)] for place in places.tolist()})
    apart = (candidates[-1] - candidates[0] + 1) / (2 * count)
    chosen: list[int] = []
    for number in sorted(candidates, key=lambda candidate: -values[candidate]):
        if len(chosen) < count and all(abs(number - other) >= apart for other in chosen):
            chosen.append(number)
    return sorted(chosen)


def filmstrip(
    explanation: Explanation,
    rows: Sequence[tuple[MapKey, int]],
    *,
    columns: int = FRAMES,
    tile: float = 1.6,
    colormap: str | None = None,
    alpha: float = ALPHA,
    peaks: bool = True,
) -> Figure:
    """The decisive frames of every row's target with its heat, and its importance over time below them.

    Args:
        explanation: of a clip.
        rows: what each row shows: layer and method, and the target's number.
        columns: frames in a row.
        tile: width of a frame, inches.
        colormap: see :func:`~mmexplain.render.overlay`.
        alpha: opacity of the strongest value.
        peaks: mark each map's maximum.

    Returns:
        A figure whose one pair of axes measures inches. Each row has a colour scale of its own, shared by its frames.
    """
    footage = Footage(explanation)
    high, wide = explanation.geometry.original
    tall = tile * min(max(high / wide, 0.4), 2.5)
    across = columns * (tile + _GAP) - _GAP
    step = _TITLE + tall + _STAMP + _CURVE + _AXIS + _BETWEEN
    drawn, axes = page(across + 2 * MARGIN, HEADING + len(rows) * step - _BETWEEN + MARGIN)
    keys = list(dict.fromkeys(key for key, _ in rows))
    heading(axes, explanation, keys, across)
    for down, (key, number) in enumerate(rows):
        y = HEADING + down * step
        _title(axes, explanation, number, f"{key.method} · {key.layer}" if len(keys) > 1 else "", y, across)
        importance = explanation.importance(number, key.layer, key.method).cpu()
        chosen = decisive_frames(importance, columns, footage.numbers)
        boxes = [(MARGIN + place * (tile + _GAP), y + _TITLE, tile, tall) for place in range(len(chosen))]
        _pictures(
            axes, explanation, key, number, footage, dict(zip(chosen, boxes, strict=True)), colormap, alpha, peaks
        )
        curve = (MARGIN, y + _TITLE + tall + _STAMP, across, _CURVE)
        _stamps(axes, footage, importance, dict(zip(chosen, boxes, strict=True)), curve)
        _curve(axes, importance, chosen, curve)
        _ends(axes, footage, curve)
    return drawn


def _title(axes: Axes, explanation: Explanation, number: int, made: str, y: float, across: float) -> None:
    target = explanation.targets[number]
    known = explanation.probabilities
    probability = percent(None if known is None else float(known[number]))
    room = int(across * 11) - len(made)
    weight, color = ("bold", INK) if target.content else ("normal", SOFT)
    name = axes.annotate(
        short(target.label, max(6, room)), (MARGIN, y + 0.03), fontsize=9.5, weight=weight, color=color, va="top",
        parse_math=False,
    )  # fmt: skip
    beside: dict[str, Any] = {"xycoords": name, "textcoords": "offset points", "va": "top", "parse_math": False}
    axes.annotate(probability, (1, 1), (6, -1), fontsize=8, color=SOFT, **beside)
    write(axes, MARGIN + across, y + 0.05, made, 7.5, color=SOFT, ha="right")


def _pictures(
    axes: Axes,
    explanation: Explanation,
    key: MapKey,
    number: int,
    footage: Footage,
    boxes: dict[int, Box],
    colormap: str | None,
    alpha: float,
    peaks: bool,
) -> None:
    high, wide = explanation.geometry.original
    size = fit((high, wide), TILE_SIDE)
    heat = ClipHeat(explanation, number, key.layer, key.method, size=size)
    pictures = zip(footage.frames(boxes, size), heat.frames(boxes), boxes.values(), strict=True)
    for (_, picture), (_, shown), box in pictures:
        put(axes, blend(picture, shown, colormap=colormap, alpha=alpha), box)
    if heat.scale.note:
        plate(axes, next(iter(boxes.values())), heat.scale.note)
        return
    peak = explanation.peak(number, key.layer, key.method) if peaks else None
    if peak is not None and peak[2] in boxes:
        x, y, broad, tall = boxes[peak[2]]
        ring(axes, x + (peak[0] + 0.5) / wide * broad, y + (peak[1] + 0.5) / high * tall)


def _stamps(axes: Axes, footage: Footage, importance: Tensor, boxes: dict[int, Box], curve: Box) -> None:
    """When each frame is shown, the most important one's in bold, and a thin line to its place on the curve."""
    best = max(boxes, key=lambda frame: float(importance[frame].nan_to_num(-1.0)))
    for frame, (x, y, wide, tall) in boxes.items():
        middle, below = x + wide / 2, y + tall
        place, top = _point(importance, frame, curve)
        axes.plot([middle, place], [below + 0.2, top], color=FAINT, lw=0.6, zorder=1)
        style = {"color": INK, "weight": "bold"} if frame == best else {"color": SOFT}
        ground = {"facecolor": "white", "linewidth": 0, "pad": 1.5}
        write(axes, middle, below + 0.045, footage.stamp(frame), 7.5, ha="center", bbox=ground, zorder=3, **style)


def _curve(axes: Axes, importance: Tensor, chosen: Sequence[int], box: Box) -> None:
    """The importance of the frames that were seen, and what of the clip they cover."""
    x, y, wide, tall = box
    base = y + tall
    axes.plot([x, x + wide], [base, base], color=FAINT, lw=0.6, zorder=1)
    seen = importance.isfinite().nonzero()[:, 0].tolist()
    if not seen:
        return
    points = np.array([_point(importance, frame, box) for frame in seen])
    axes.plot([points[0, 0], points[-1, 0]], [base, base], color=SOFT, lw=1.0, solid_capstyle="butt", zorder=2)
    axes.fill_between(points[:, 0], points[:, 1], base, color=_WARM, alpha=0.13, lw=0, zorder=1)
    axes.plot(points[:, 0], points[:, 1], color=_WARM, lw=1.2, solid_joinstyle="round", zorder=2)
    for frame in chosen:
        axes.plot(*_point(importance, frame, box), "o", ms=3.4, color=_WARM, mec="white", mew=0.6, zorder=4)


def _ends(axes: Axes, footage: Footage, box: Box) -> None:
    x, y, wide, tall = box
    first, last = footage.numbers[0], footage.numbers[-1]
    write(axes, x, y + tall + 0.03, footage.stamp(first), 6.5, color=SOFT)
    write(axes, x + wide, y + tall + 0.03, footage.stamp(last), 6.5, color=SOFT, ha="right")


def _point(importance: Tensor, frame: int, box: Box) -> tuple[float, float]:
    """Where a frame stands on the curve drawn in ``box``."""
    x, y, wide, tall = box
    values = importance.nan_to_num(0.0)
    highest = float(values.max())
    share = float(values[frame]) / highest if highest > 0 else 0.0
    return x + (frame + 0.5) / len(importance) * wide, y + tall * (1 - share)
