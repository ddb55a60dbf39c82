"""The maps of one explanation as a matplotlib figure, each word under its map: for screens and for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.render.colors import rgb_table
from mmexplain.render.filmstrip import filmstrip
from mmexplain.render.on_device import ALPHA
from mmexplain.render.page import Look, save_page
from mmexplain.render.photos import Photos
from mmexplain.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = {"column": 3.25, "page": 6.875}
"""Inches: one of two columns and the whole page of CVPR's and most conferences' papers."""

NARROWEST, WIDEST = 1.0, 100.0  # inches


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
    legend: bool = True,
) -> Figure:
    """The photo and a map for every target, one row for each (layer, method); of a clip a film strip: the decisive
    frames of every target, one row for each target, layer and method. As wide as it takes, for screens.

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
        legend: say at the bottom what the colours mean.

    Returns:
        A figure of its own, in no list of pyplot's; notebooks show it, ``savefig`` writes it. Its one pair of axes
        measures inches.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: nothing is left to show.
    """
    look = Look(columns=columns, tile=tile, colormap=colormap, alpha=alpha, peaks=peaks, legend=legend)
    return _drawn(explanation, targets, layers, methods, look)


def paper_figure(
    explanation: Explanation,
    targets: Sequence[int | str | Target] | None = None,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    *,
    width: float | str = "column",
    columns: int | None = None,
    colormap: str | None = None,
    alpha: float = ALPHA,
    peaks: bool = False,
    legend: bool = True,
    labels: bool | Mapping[str, str] = True,
    photo: bool = True,
    font_size: float = 8,
    dpi: float = 300,
) -> Figure:
    """The maps as a figure of exactly the width that a paper gives it, text as text.

    The photo and every word under its map, with its probability; of one target the photo and every (layer, method)
    under its map; of several targets, layers and methods a row for each (layer, method) and a column for each target;
    of a clip the decisive frames as in :func:`figure`. Rows are wrapped and texts broken or cut to fit; fonts are
    matplotlib's (``rcParams["font.family"]`` when the figure is made), none smaller than 0.8 times ``font_size``.

    Args:
        explanation: what is shown.
        targets: numbers, labels or targets; all where left out.
        layers: layers to show; all where left out.
        methods: methods to show; all where left out.
        width: "column" (3.25 inches), "page" (6.875 inches) or inches.
        columns: at most so many tiles (of a clip frames) in a row; by default as many as are legible.
        colormap: see :func:`~mmexplain.render.overlay`.
        alpha: opacity of the strongest value.
        peaks: mark each map's maximum.
        legend: say at the bottom what the colours mean.
        labels: write what each map is of; a mapping says what to write for a target, a layer or a method, as
            ``{"gradcam": "Grad-CAM"}``.
        photo: show the photo without a map first.
        font_size: of the words, points.
        dpi: pixels per inch of the photos; text is vectors in PDF and SVG.

    Returns:
        A figure in no list of pyplot's. Its ``savefig`` writes PDF with TrueType fonts and SVG with text as text,
        whatever ``rcParams`` say.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: nothing is left to show, or a width, a size or a colour map that cannot be.
    """
    if not 1 <= font_size <= 100 or not 10 <= dpi <= 2400:
        raise InputError(f"fonts have 1 to 100 points and photos 10 to 2400 dpi, not {font_size!r} and {dpi!r}")
    look = Look(
        width=_inches(width),
        columns=columns,
        colormap=colormap,
        alpha=alpha,
        peaks=peaks,
        legend=legend,
        labels=labels,
        photo=photo,
        font_size=font_size,
        dpi=dpi,
    )
    return _drawn(explanation, targets, layers, methods, look)


def save_figure(explanation: Explanation, path: str | Path, **options: Any) -> Path:
    """Write a figure to a file.

    Args:
        explanation: what is shown.
        path: where to; the suffix chooses the format: ``.pdf`` and ``.svg`` get :func:`paper_figure`, ``.png`` and
            others :func:`figure`.
        options: of that function.

    Raises:
        InputError: a format that matplotlib does not write, or a path that cannot be written.
    """
    path = Path(path)
    make = paper_figure if path.suffix.lower() in (".pdf", ".svg") else figure
    return save_page(make(explanation, **options), path)


def _inches(width: float | str) -> float:
    inches = WIDTHS.get(width) if isinstance(width, str) else width
    if isinstance(inches, bool) or not isinstance(inches, int | float) or not NARROWEST <= inches <= WIDEST:
        raise InputError(
            f"cannot make a figure of width {width!r}: give 'column', 'page' or inches, {NARROWEST:.0f} to {WIDEST:.0f}"
        )
    return float(inches)


def _drawn(
    explanation: Explanation,
    targets: Sequence[int | str | Target] | None,
    layers: Sequence[str] | None,
    methods: Sequence[str] | None,
    look: Look,
) -> Figure:
    keys = _keys(explanation, layers, methods)
    numbers = [explanation.find(target) for target in (range(len(explanation)) if targets is None else targets)]
    if not keys or not numbers:
        raise InputError("nothing to show: the explanation has no maps or no targets")
    if look.columns is not None and look.columns < 1:
        raise InputError(f"a figure has at least one column, not {look.columns}")
    if look.colormap is not None:
        rgb_table(look.colormap)
    if explanation.geometry.frames is not None:
        return filmstrip(explanation, [(key, number) for number in numbers for key in keys], look)
    return Photos(explanation, keys, numbers, look).draw()


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
