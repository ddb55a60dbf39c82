"""The decisive frames of a clip in a row for every target, over the curve that they were chosen from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from mmexplain.explanation import Explanation, MapKey
from mmexplain.render.clip_heat import ClipHeat
from mmexplain.render.footage import Footage
from mmexplain.render.legend import Legend
from mmexplain.render.lettering import breadth, cut, leading
from mmexplain.render.overlay import blend
from mmexplain.render.page import (
    FAINT,
    INK,
    SCREEN,
    SOFT,
    Box,
    Look,
    heading,
    page,
    plate,
    point,
    put,
    put_lines,
    ring,
    trim,
    write,
)
from mmexplain.render.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRAMES = 6
"""Decisive frames of each target."""

_CURVE, _GAP, _BETWEEN = 0.36, 0.06, 0.12  # inches
_NARROWEST = 0.55  # inches that a frame takes of a paper's column
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


def filmstrip(explanation: Explanation, rows: Sequence[tuple[MapKey, int]], look: Look) -> Figure:
    """The decisive frames of every row's target with its heat, and its importance over time below them.

    Args:
        explanation: of a clip.
        rows: what each row shows: layer and method, and the target's number.
        look: colours and sizes.

    Returns:
        A figure whose one pair of axes measures inches. Each row has a colour scale of its own, shared by its frames.
    """
    footage = Footage(explanation)
    high, wide = explanation.geometry.original
    columns = look.columns or FRAMES
    room = columns * ((look.tile or 1.6) + _GAP) - _GAP
    if look.width is not None:
        room = look.width
        stamp = breadth(footage.stamp(footage.numbers[-1]), look.small, "bold")
        columns = min(columns, int((room + _GAP) / (max(_NARROWEST, stamp) + _GAP)))
        if columns == 0:
            raise look.too_narrow()
    tile = math.floor(((room + _GAP) / columns - _GAP) * look.dpi + 1e-6) / look.dpi
    tall = min(tile * high / wide, 2.5 * tile)
    size = look.pixels((tall * wide / high, tall))
    legend = Legend(look)
    drawn, axes = page((look.width or max(room, SCREEN)) + 2 * look.margin, 1.0, look.dpi)
    keys = list(dict.fromkeys(key for key, _ in rows))
    y = heading(axes, explanation, keys, look, room) if look.width is None else 0.02
    for key, number in rows:
        if look.named:
            y = _title(axes, explanation, key, number, len(keys) > 1, look, y, room)
        importance = explanation.importance(number, key.layer, key.method).cpu()
        chosen = decisive_frames(importance, columns, footage.numbers)
        broad = size[1] / look.dpi
        boxes = {
            frame: (look.margin + place * (tile + _GAP) + (tile - broad) / 2, y, broad, size[0] / look.dpi)
            for place, frame in enumerate(chosen)
        }
        _pictures(axes, explanation, key, number, footage, boxes, size, look, legend)
        y += size[0] / look.dpi
        stamped = leading(look.small) + 0.2
        curve = (look.margin, y + stamped, room, _CURVE * look.font_size / 8.5)
        _stamps(axes, footage, importance, boxes, curve, look)
        _curve(axes, importance, chosen, curve)
        y = _ends(axes, footage, curve, look) + _BETWEEN
    y = legend.draw(axes, look.margin, y - _BETWEEN, drawn.get_size_inches()[0] - look.margin)
    return trim(drawn, y + (0.02 if look.width else look.margin))


def _title(
    axes: Axes, explanation: Explanation, key: MapKey, number: int, several: bool, look: Look, y: float, room: float
) -> float:
    """A target, its probability, and at the right how the map was made; returns where the title ends."""
    target, size = explanation.targets[number], look.font_size
    known = explanation.probabilities
    probability = percent(None if known is None else float(known[number]))
    made = f"{look.name(key.method)} · {look.name(key.layer)}" if several else ""
    base = y + size / 72
    made = cut(made, look.small, room / 2)
    if made:
        write(axes, look.margin + room, base, made, look.small, color=SOFT, ha="right", va="baseline")
    left = room - breadth(made, look.small) - breadth(probability, look.small) - 2 * _GAP
    label = cut(look.name(target.label), size, left)
    write(axes, look.margin, base, label, size, va="baseline", color=INK if target.content else SOFT)
    x = look.margin + breadth(label, size) + _GAP
    write(axes, x, base, probability, look.small, color=SOFT, va="baseline")
    return y + leading(size) + 0.03


def _pictures(
    axes: Axes,
    explanation: Explanation,
    key: MapKey,
    number: int,
    footage: Footage,
    boxes: dict[int, Box],
    size: tuple[int, int],
    look: Look,
    legend: Legend,
) -> None:
    heat = ClipHeat(explanation, number, key.layer, key.method, size=size)
    peak = explanation.peak(number, key.layer, key.method) if look.peaks and not heat.scale.note else None
    pictures = zip(footage.frames(boxes, size), heat.frames(boxes), boxes.items(), strict=True)
    for (_, picture), (_, shown), (frame, box) in pictures:
        put(axes, blend(picture, shown, colormap=look.colormap, alpha=look.alpha), box)
        ringed = peak is not None and peak[2] == frame
        legend.saw(shown, ringed)
        if peak is not None and ringed:
            ring(axes, *point(peak, explanation.geometry.original, box), min(7.0, 3 + 3 * box[2]))
    if heat.scale.note:
        plate(axes, next(iter(boxes.values())), heat.scale.note, 0.75 * look.font_size)


def _stamps(axes: Axes, footage: Footage, importance: Tensor, boxes: dict[int, Box], curve: Box, look: Look) -> None:
    """When each frame is shown, the most important one's in bold, and a thin line to its place on the curve."""
    best = max(boxes, key=lambda frame: float(importance[frame].nan_to_num(-1.0)))
    for frame, (x, y, wide, tall) in boxes.items():
        middle, below = x + wide / 2, y + tall
        place, top = _point(importance, frame, curve)
        axes.plot([middle, place], [below + 0.06 + leading(look.small), top], color=FAINT, lw=0.6, zorder=1)
        style = {"color": INK, "weight": "bold"} if frame == best else {"color": SOFT}
        put_lines(axes, [footage.stamp(frame)], look.small, middle, below + 0.04, **style)


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
    axes.plot(points[:, 0], points[:, 1], color=_WARM, lw=1.0, solid_joinstyle="round", zorder=2)
    for frame in chosen:
        axes.plot(*_point(importance, frame, box), "o", ms=3.2, color=_WARM, mec="white", mew=0.6, zorder=4)


def _ends(axes: Axes, footage: Footage, box: Box, look: Look) -> float:
    """When the clip begins and ends; returns where that is written."""
    x, y, wide, tall = box
    first, last = footage.numbers[0], footage.numbers[-1]
    end = put_lines(axes, [footage.stamp(first)], look.small, x, y + tall + 0.02, color=SOFT, ha="left")
    put_lines(axes, [footage.stamp(last)], look.small, x + wide, y + tall + 0.02, color=SOFT, ha="right")
    return end


def _point(importance: Tensor, frame: int, box: Box) -> tuple[float, float]:
    """Where a frame stands on the curve drawn in ``box``."""
    x, y, wide, tall = box
    values = importance.nan_to_num(0.0)
    highest = float(values.max())
    share = float(values[frame]) / highest if highest > 0 else 0.0
    return x + (frame + 0.5) / len(importance) * wide, y + tall * (1 - share)
