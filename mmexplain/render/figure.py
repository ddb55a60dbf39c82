"""The maps of one explanation as a matplotlib figure: each word under its map."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import fit
from mmexplain.render.filmstrip import FRAMES, filmstrip
from mmexplain.render.heat import heat
from mmexplain.render.overlay import ALPHA, blend, photo_image
from mmexplain.render.page import HEADING, INK, MARGIN, SOFT, Box, heading, page, plate, put, ring, short, write
from mmexplain.render.text import percent
from mmexplain.render.whole import whole
from mmexplain.targets import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILE_SIDE = 400
"""Longer side of each tile, pixels."""

_BELOW, _GAP = 0.34, 0.08  # inches


def figure(
    explanation: Explanation,
    *,
    targets: Sequence[int | str | Target] | None = None,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    columns: int | None = None,
    tile: float | None = None,
    colormap: str | None = None,
    alpha: float = ALPHA,
    peaks: bool = True,
) -> Figure:
    """The photo and a map for every target, one row for each (layer, method); of a clip a film strip: the decisive
    frames of every target, one row for each target, layer and method.

    Args:
        explanation: what is shown.
        targets: numbers, labels or targets; all where left out.
        layers: layers to show; all where left out.
        methods: methods to show; all where left out.
        columns: at most so many tiles in a row before the targets go on in the next, 7 by default; of a clip so many
            frames, 6 by default.
        tile: width of a tile, inches; by default 2, for a clip 1.6.
        colormap: see :func:`~mmexplain.render.overlay`.
        alpha: opacity of the strongest value.
        peaks: mark each map's maximum.

    Returns:
        A figure of its own, in no list of pyplot's; notebooks show it, ``savefig`` writes it. Its one pair of axes
        measures inches.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: nothing is left to show.
    """
    keys = _keys(explanation, layers, methods)
    numbers = [explanation.find(target) for target in (range(len(explanation)) if targets is None else targets)]
    if not keys or not numbers:
        raise InputError("nothing to show: the explanation has no maps or no targets")
    if explanation.geometry.frames is not None:
        rows = [(key, number) for number in numbers for key in keys]
        look: dict[str, Any] = {"colormap": colormap, "alpha": alpha, "peaks": peaks}
        return filmstrip(explanation, rows, columns=max(1, columns or FRAMES), tile=tile or 1.6, **look)
    tile = tile or 2.0
    grid = _arrange(numbers, keys, max(2, columns or 7))
    across = max(len(row) for row in grid)
    high, wide = explanation.geometry.original
    tall = tile * min(max(high / wide, 0.4), 2.5)
    width = across * (tile + _GAP) - _GAP + 2 * MARGIN
    height = HEADING + len(grid) * (tall + _BELOW) + MARGIN / 2
    drawn, axes = page(width, height)
    heading(axes, explanation, keys, width)
    photo = photo_image(explanation, fit((high, wide), TILE_SIDE))
    for down, row in enumerate(grid):
        for right, (key, number) in enumerate(row):
            x = MARGIN + right * (tile + _GAP)
            y = HEADING + down * (tall + _BELOW)
            box = (x, y, tile, tall)
            if number is None:
                put(axes, photo, box)
                _below(axes, box, key.method, key.layer)
            else:
                _map(axes, box, explanation, key, number, photo, colormap, alpha, peaks)
    return drawn


def save_figure(explanation: Explanation, path: str | Path, **options: Any) -> Path:
    """Write :func:`figure` to a file.

    Args:
        explanation: what is shown.
        path: where to; the suffix chooses the format (``.png``, ``.pdf``, …).
        options: of :func:`figure`.

    Raises:
        InputError: a format that matplotlib does not write, or a path that cannot be written.
    """
    path = Path(path)
    drawn = figure(explanation, **options)
    known = drawn.canvas.get_supported_filetypes()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in known:
        raise InputError(f"cannot write a figure as {path.suffix!r}; known: {', '.join(sorted(known))}")
    with whole(path) as partial, warnings.catch_warnings():
        # A caption may hold letters that the font lacks; a box in their place is no reason for noise.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # PNG's default effort costs half of the time and saves a few per cent.
        effort: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
        drawn.savefig(partial, format=kind, **effort)
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
    put(axes, blend(photo, shown, colormap=colormap, alpha=alpha), box)
    target = explanation.targets[number]
    probability = None if explanation.probabilities is None else float(explanation.probabilities[number])
    _below(axes, box, target.label, percent(probability), strong=target.content)
    if shown.note is not None:
        plate(axes, box, shown.note)
        return
    peak = explanation.peak(number, key.layer, key.method) if peaks else None
    if peak is not None:
        high, broad = explanation.geometry.original
        ring(axes, x + (peak[0] + 0.5) / broad * wide, y + (peak[1] + 0.5) / high * tall)


def _below(axes: Axes, box: Box, name: str, detail: str, strong: bool = True) -> None:
    x, y, wide, tall = box
    told = short(detail, 16)
    room = int(wide * 11.5) - round(0.75 * len(told))
    weight, color = ("bold", INK) if strong else ("normal", SOFT)
    write(axes, x, y + tall + 0.05, short(name, max(6, room)), 8.5, weight=weight, color=color)
    write(axes, x + wide, y + tall + 0.065, told, 7.5, color=SOFT, ha="right")
