"""What the report's player needs to know about an explained clip, as plain values of bounded size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import fit
from mmexplain.methods import find
from mmexplain.render.curve import BINS, along, curve, shares
from mmexplain.render.encode import heat_uri, photo_uri
from mmexplain.render.footage import kept_numbers, kept_picture
from mmexplain.render.heat import Heat, Scale, colormap_of, kind_of, scale_between, unit_values

FRAMES = 64
"""Frames of a clip that a report pictures at most."""

FRAME_SIDE = 400
QUALITY = 76
HEAT_SIDE = 96
SHEETS = 12
"""Maps of a clip that are drawn at full :data:`HEAT_SIDE`; more are drawn smaller, so that they take no more room."""

BORDER = 1
"""Pixels repeated around each frame of a sheet: what smooths a picture may look beyond the edge it was cut at."""


@dataclass(frozen=True)
class Reel:
    """The frames of a clip that are pictured, all sheets of heat in the same order.

    Attributes:
        places: which of the kept frames, increasing.
        numbers: their numbers in the file.
        seen: those numbers that the model saw, in the order of the sheets.
        size: ``(h, w)`` at which heat is drawn over the whole frame.
        peaks: ``(x, y, frame)`` of each map and target; None where it is flat.
        foremost: the frame of the file that is most important to each; None where none is.
    """

    places: list[int]
    numbers: list[int]
    seen: list[int]
    size: tuple[int, int]
    peaks: dict[tuple[MapKey, int], tuple[int, ...] | None]
    foremost: dict[tuple[MapKey, int], int | None]

    @property
    def columns(self) -> int:
        """Frames in a row of a sheet."""
        return math.ceil(math.sqrt(len(self.seen)))


def reel(explanation: Explanation) -> Reel:
    """Choose at most :data:`FRAMES` of the kept frames: the most important ones and those with a peak, those that the
    model saw, then others, each thinned evenly."""
    kept = kept_numbers(explanation)
    taken = set(explanation.geometry.frames or ())
    seen = [place for place, number in enumerate(kept) if number in taken]
    peaks = {
        (key, target): explanation.peak(target, key.layer, key.method)
        for key in explanation.maps
        for target in range(len(explanation))
    }
    foremost = {(key, target): _foremost(explanation, target, key) for key, target in peaks}
    wanted = [
        place for one in peaks for place in (nearest(explanation, foremost[one]), decisive(explanation, peaks[one]))
    ]
    chosen = set(list(dict.fromkeys(wanted))[: FRAMES // 4])
    for listed in (seen, range(len(kept))):
        rest = [place for place in listed if place not in chosen]
        chosen.update(_thinned(rest, FRAMES - len(chosen)))
    places = sorted(chosen)
    side = HEAT_SIDE / math.sqrt(max(1, len(explanation) * len(explanation.maps) / SHEETS))
    return Reel(
        places,
        [kept[place] for place in places],
        [kept[place] for place in places if kept[place] in taken],
        fit(explanation.geometry.original, max(24, round(side))),
        peaks,
        foremost,
    )


def decisive(explanation: Explanation, peak: tuple[int, ...] | None) -> int:
    """Which of the kept frames has the peak of a map, or is nearest to it; for a flat map the middle one that the model
    saw."""
    return nearest(explanation, None if peak is None else peak[2])


def nearest(explanation: Explanation, frame: int | None) -> int:
    """Which of the kept frames is a frame of the file, or nearest to it; for None to the middle one that the model
    saw."""
    taken = sorted(explanation.geometry.frames or (0,))
    frame = taken[len(taken) // 2] if frame is None else frame
    return int(np.abs(np.array(kept_numbers(explanation)) - frame).argmin())


def _foremost(explanation: Explanation, target: int, key: MapKey) -> int | None:
    values = shares(explanation, target, key)
    return int(np.nanargmax(values)) if np.nanmax(values, initial=0.0) > 0 else None


def clip_view(explanation: Explanation, shown: Reel, first: int) -> dict[str, Any]:
    """The player's record: its frames, where heat lies over them, what the model saw, and the frame it starts with:
    the most important one to target ``first``, which a single strong place elsewhere does not make."""
    geometry, times = explanation.geometry, explanation.picture.times
    n_frames = geometry.n_frames or 0
    start = 0
    if shown.peaks:
        place = nearest(explanation, shown.foremost[explanation.key(), first])
        start = int(np.abs(np.array(shown.places) - place).argmin())
    cells = {number: cell for cell, number in enumerate(shown.seen)}
    frames = [
        {
            "number": number,
            "seconds": None if times is None else round(times[place], 3),
            "at": along(number, n_frames),
            "cell": cells.get(number),
        }
        for place, number in zip(shown.places, shown.numbers, strict=True)
    ]
    rows, columns = box_of(explanation, shown)
    height, width = geometry.original
    y, x = height / shown.size[0], width / shown.size[1]
    return {
        "frames": frames,
        "start": start,
        "n_frames": n_frames,
        "n_seen": len(set(geometry.frames or ())),
        "window": [round(v, 3) for v in (columns.start * x, rows.start * y, _length(columns) * x, _length(rows) * y)],
        "columns": shown.columns,
        "rows": math.ceil(len(shown.seen) / shown.columns) if shown.seen else 0,
        "cell": [_length(columns), _length(rows)],
        "border": BORDER,
        "bins": min(n_frames, BINS),
        "floor": curve(np.where(geometry.seen_frames().numpy(), 1.0, np.nan), tallest=100),
    }


def pictures(explanation: Explanation, shown: Reel) -> list[str]:
    """The chosen frames as data URIs."""
    return [photo_uri(kept_picture(explanation.picture, place), FRAME_SIDE, QUALITY) for place in shown.places]


def clip_cell(explanation: Explanation, target: int, key: MapKey, shown: Reel) -> dict[str, Any]:
    """One target's map of a clip: a sheet with its heat over every pictured frame that the model saw, its importance
    along time, and its peak."""
    peak = shown.peaks[key, target]
    scale, painted = _painted(explanation, target, key, shown, None if peak is None else peak[2])
    height, width = explanation.geometry.original
    values = shares(explanation, target, key)
    return {
        "kind": scale.kind,
        "note": scale.note,
        "image": {"uri": _sheet(painted, explanation, shown)} if any(np.any(one.values) for one in painted) else None,
        "peak": None if peak is None or scale.note else list(peak),
        "peak_at": None
        if peak is None
        else [round(100 * (peak[0] + 0.5) / width, 3), round(100 * (peak[1] + 0.5) / height, 3)],
        "peak_along": None if peak is None else along(peak[2], len(values)),
        "curve": curve(values),
        "shares": [
            None if np.isnan(values[number]) else round(100 * float(values[number])) for number in shown.numbers
        ],
    }


def box_of(explanation: Explanation, shown: Reel) -> tuple[slice, slice]:
    """Rows and columns of the drawn heat that hold what the model saw of a frame."""
    seen = explanation.geometry.seen(shown.size).numpy()
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(0, 1), slice(0, 1)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _painted(
    explanation: Explanation, target: int, key: MapKey, shown: Reel, strongest: int | None
) -> tuple[Scale, list[Heat]]:
    """The heat over each pictured frame that the model saw, and its scale.

    The scale is that of these frames and of the ``strongest`` one: what a long video has besides is not looked at."""
    method = find(key.method)
    signed = method is not None and method.signed
    kind = kind_of(explanation, key, signed)
    values, note = unit_values(explanation, key, target, kind)
    numbers = shown.seen if strongest is None or strongest in shown.seen else [*shown.seen, strongest]
    laid = [frame for _, frame in explanation.geometry.each_frame(values, shown.size, numbers=numbers)]
    known = torch.cat([frame[~frame.isnan()] for frame in laid]) if laid else torch.empty(0)
    low, high = (float(known.min()), float(known.max())) if known.numel() else (0.0, 0.0)
    scale = replace(scale_between(kind, low, high, note), colormap=colormap_of(key, kind))
    return scale, [scale.draw(frame) for frame in laid[: len(shown.seen)]]


def _sheet(painted: list[Heat], explanation: Explanation, shown: Reel) -> str:
    """The heat of all frames as one picture, row by row, each inside its border."""
    rows, columns = box_of(explanation, shown)
    tiles = [np.pad(one.values[rows, columns], BORDER, mode="edge") for one in painted]
    missing = -len(tiles) % shown.columns
    tiles += [np.zeros_like(tiles[0])] * missing
    lines = [np.concatenate(tiles[at : at + shown.columns], axis=1) for at in range(0, len(tiles), shown.columns)]
    values = np.concatenate(lines, axis=0)
    sheet = replace(painted[0], values=values, seen=np.ones(values.shape, np.bool_))
    return heat_uri(sheet, (0, 0, values.shape[1], values.shape[0]))


def _thinned(listed: list[int], most: int) -> list[int]:
    """At most ``most`` of a list, evenly, the first and the last among them."""
    if len(listed) <= most:
        return listed
    return [listed[round(place)] for place in np.linspace(0, len(listed) - 1, most)] if most > 0 else []


def _length(part: slice) -> int:
    return int(part.stop - part.start)
