"""The maps of one explanation as a matplotlib figure: each word under its map."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import fit
from mmexplain.render.heat import heat
from mmexplain.render.overlay import ALPHA, blend, photo_image
from mmexplain.render.text import clean, percent
from mmexplain.targets import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILE_SIDE = 400
"""Longer side of each tile, pixels."""

_INK, _SOFT = "#1c1e22", "#666b73"
_HEADING, _BELOW, _GAP, _MARGIN = 0.58, 0.34, 0.08, 0.1  # inches


def figure(
    explanation: Explanation,
    *,
    targets: Sequence[int | str | Target] | None = None,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    columns: int = 7,
    tile: float = 2.0,
    colormap: str | None = None,
    alpha: float = ALPHA,
    peaks: bool = True,
) -> Figure:
    """The photo and a map for every target, one row for each (layer, method).

    Args:
        explanation: what is shown.
        targets: numbers, labels or targets; all where left out.
        layers: layers to show; all where left out.
        methods: methods to show; all where left out.
        columns: at most so many tiles in a row before the targets go on in the next.
        tile: width of a tile, inches.
        colormap: see :func:`~mmexplain.render.overlay.overlay`.
        alpha: opacity of the strongest value.
        peaks: mark each map's maximum.

    Returns:
        A figure of its own, in no list of pyplot's; notebooks show it, ``savefig`` writes it. Its one pair of axes
        measures inches.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: nothing is left to show.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    keys = _keys(explanation, layers, methods)
    numbers = [explanation.find(target) for target in (range(len(explanation)) if targets is None else targets)]
    if not keys or not numbers:
        raise InputError("nothing to show: the explanation has no maps or no targets")
    grid = _arrange(numbers, keys, max(2, columns))
    across = max(len(row) for row in grid)
    high, wide = explanation.geometry.original
    tall = tile * min(max(high / wide, 0.4), 2.5)
    width = across * (tile + _GAP) - _GAP + 2 * _MARGIN
    height = _HEADING + len(grid) * (tall + _BELOW) + _MARGIN / 2
    drawn = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(drawn)
    axes = drawn.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    _heading(axes, explanation, keys, width)
    photo = photo_image(explanation, fit((high, wide), TILE_SIDE))
    for down, row in enumerate(grid):
        for right, (key, number) in enumerate(row):
            x = _MARGIN + right * (tile + _GAP)
            y = _HEADING + down * (tall + _BELOW)
            box = (x, y, tile, tall)
            if number is None:
                _picture(axes, photo, box)
                _below(axes, box, key.method, key.layer)
            else:
                _map(axes, box, explanation, key, number, photo, colormap, alpha, peaks)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return drawn


def save_figure(explanation: Explanation, path: str | Path, **options: Any) -> Path:
    """Write :func:`figure` (with its options) to ``path``; the suffix chooses the format (``.png``, ``.pdf``, …).

    Raises:
        InputError: a format that matplotlib does not write, or a path that cannot be written.
    """
    path = Path(path)
    drawn = figure(explanation, **options)
    known = drawn.canvas.get_supported_filetypes()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in known:
        raise InputError(f"cannot write a figure as {path.suffix!r}; known: {', '.join(sorted(known))}")
    try:
        with warnings.catch_warnings():
            # A caption may hold letters that the font lacks; a box in their place is no reason for noise.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            # PNG's default effort costs half of the time and saves a few per cent.
            effort: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
            drawn.savefig(path, format=kind, **effort)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    return path


def _keys(explanation: Explanation, layers: Sequence[str] | None, methods: Sequence[str] | None) -> list[MapKey]:
    for layer in layers or ():
        explanation.key(layer=layer)
    for method in methods or ():
        explanation.key(method=method)
    return [
        key
        for key in explanation.maps
        if (layers is None or key.layer in layers) and (methods is None or key.method in methods)
    ]


def _arrange(numbers: list[int], keys: list[MapKey], columns: int) -> list[list[tuple[MapKey, int | None]]]:
    """Rows of (key, target) tiles, evenly filled; None stands for the photo.

    One key: the photo, then the targets, wrapped. Several: each row starts with the photo and the key's name.
    """
    if len(keys) == 1:
        tiles: list[tuple[MapKey, int | None]] = [(keys[0], None), *((keys[0], number) for number in numbers)]
        across = math.ceil(len(tiles) / math.ceil(len(tiles) / columns))
        return [tiles[start : start + across] for start in range(0, len(tiles), across)]
    across = math.ceil(len(numbers) / math.ceil(len(numbers) / (columns - 1)))
    blocks = [numbers[start : start + across] for start in range(0, len(numbers), across)]
    return [[(key, None), *((key, number) for number in block)] for block in blocks for key in keys]


Box = tuple[float, float, float, float]


def _heading(axes: Axes, explanation: Explanation, keys: list[MapKey], width: float) -> None:
    said = explanation.text or Path(explanation.picture.source or "").name or explanation.task
    made = f"{explanation.model} · {', '.join(dict.fromkeys(key.method for key in keys))}"
    _text(axes, _MARGIN, 0.1, _short(said, int(width * 9)), 11, weight="bold")
    _text(axes, _MARGIN, 0.33, _short(made, int(width * 15)), 7.5, color=_SOFT)


def _map(
    axes: Axes,
    box: Box,
    explanation: Explanation,
    key: MapKey,
    number: int,
    photo: Image.Image,
    colormap: str | None,
    alpha: float,
    peaks: bool,
) -> None:
    x, y, wide, tall = box
    shown = heat(explanation, number, key.layer, key.method, size=(photo.height, photo.width))
    _picture(axes, blend(photo, shown, colormap=colormap, alpha=alpha), box)
    target = explanation.targets[number]
    probability = None if explanation.probabilities is None else float(explanation.probabilities[number])
    _below(axes, box, target.label, percent(probability), strong=target.content)
    if shown.note is not None:
        plate = {"facecolor": "#222222", "alpha": 0.8, "linewidth": 0, "pad": 2}
        place = (x + wide / 2, y + tall - 0.06)
        _text(axes, *place, _short(shown.note, int(wide * 20)), 6, color="white", ha="center", va="bottom", bbox=plate)
        return
    peak = explanation.peak(number, key.layer, key.method) if peaks else None
    if peak is not None:
        high, broad = explanation.geometry.original
        place = (x + (peak[0] + 0.5) / broad * wide, y + (peak[1] + 0.5) / high * tall)
        for color, breadth in (("black", 2.2), ("white", 1.1)):
            axes.plot(*place, "o", ms=6, markerfacecolor="none", markeredgecolor=color, markeredgewidth=breadth)


def _picture(axes: Axes, picture: Image.Image, box: Box) -> None:
    x, y, wide, tall = box
    axes.imshow(np.asarray(picture), extent=(x, x + wide, y + tall, y), aspect="auto")


def _below(axes: Axes, box: Box, name: str, detail: str, strong: bool = True) -> None:
    x, y, wide, tall = box
    told = _short(detail, 16)
    room = int(wide * 11.5) - round(0.75 * len(told))
    weight, color = ("bold", _INK) if strong else ("normal", _SOFT)
    _text(axes, x, y + tall + 0.05, _short(name, max(6, room)), 8.5, weight=weight, color=color)
    _text(axes, x + wide, y + tall + 0.065, told, 7.5, color=_SOFT, ha="right")


def _text(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    # Captions are foreign: a dollar sign in one must not start a formula.
    axes.text(x, y, text, fontsize=size, parse_math=False, **{"va": "top", "color": _INK, **style})


def _short(text: str, room: int) -> str:
    shown = clean(text)
    return shown if len(shown) <= room else shown[: max(1, room - 1)].rstrip() + "…"
