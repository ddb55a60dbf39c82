"""A layers report as a figure, targets by layers over curves of its numbers, and as one HTML file."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.means import mean
from mmexplain.render.assets import asset, environment, policy
from mmexplain.render.clip_heat import frame_of
from mmexplain.render.heat import heat
from mmexplain.render.on_device import ALPHA
from mmexplain.render.overlay import blend, photo_image
from mmexplain.render.page import FAINT, INK, MARGIN, SOFT, page, plate, put, save_page, short, write
from mmexplain.render.text import clean, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mmexplain.layer_report import LayersReport

DROP, NEIGHBOUR, LAST, APART = "#d1491f", "#2f6fb5", "#6b4ba1", "#c98a00"
LARGE, SMALL = 1.55, 0.98  # width of a tile for a few layers and for many, inches
FEW = 8
_HEAD, _LABEL, _ABOVE, _BELOW, _GAP, _BETWEEN = 0.68, 1.0, 0.42, 0.17, 0.07, 0.16  # inches
_CURVES = 2.1


def layers_figure(
    report: LayersReport, *, columns: int | None = None, colormap: str | None = None, alpha: float = ALPHA
) -> Figure:
    """A row of maps for each target, a column for each layer; below, how maps change with depth.

    Maps are scaled one by one; borders that the model never saw are left out. Red lines stand where the resolution
    drops. Under each map stands its rank correlation with the map of the layer before. Of a clip the frame is shown
    where the map of the last layer has its maximum.

    Args:
        report: what is shown.
        columns: at most so many layers in a row before they go on in the next; 8 of few layers, 12 of many.
        colormap: see :func:`~mmexplain.render.overlay`.
        alpha: opacity of the strongest value.

    Returns:
        A figure of its own, in no list of pyplot's.
    """
    explanation, count = report.explanation, len(report.layers)
    tile = LARGE if count <= FEW else SMALL
    rows = math.ceil(count / max(1, columns or (FEW if count <= FEW else 12)))
    across = math.ceil(count / rows)
    left, top, right, bottom = explanation.geometry.visible
    high, wide = bottom - top, right - left
    tall = tile * min(max(high / wide, 0.4), 2.5)
    step = tall + _BELOW
    band = _ABOVE + len(explanation) * step + _BETWEEN
    width = max(_LABEL + across * (tile + _GAP) + MARGIN, 7.0)
    height = _HEAD + rows * band + _CURVES
    drawn, axes = page(width, height)
    _heading(axes, report, width)
    last = next((layer.name for layer in reversed(report.layers) if not all(layer.flat)), report.layers[-1].name)
    height_px, width_px = explanation.geometry.original
    scale = min(1.0, tile * 200 / max(high, wide))
    size = (max(1, round(height_px * scale)), max(1, round(width_px * scale)))
    cut = (round(left * scale), round(top * scale), max(1, round(right * scale)), max(1, round(bottom * scale)))
    for target in range(len(explanation)):
        frame = None
        if explanation.geometry.frames is not None:
            frame = frame_of(explanation, target, last, report.method, None)
        photo = photo_image(explanation, size, frame)
        for row in range(rows):
            y = _HEAD + row * band + _ABOVE + target * step
            _target(axes, report, target, y, tall)
            for column, number in enumerate(range(row * across, min(count, (row + 1) * across))):
                layer = report.layers[number]
                x = _LABEL + column * (tile + _GAP)
                shown = heat(explanation, target, layer.name, report.method, size=size, frame=frame)
                put(axes, blend(photo, shown, colormap=colormap, alpha=alpha).crop(cut), (x, y, tile, tall))
                if shown.note is not None:
                    plate(axes, (x, y, tile, tall), shown.note.partition(":")[0])
                value = layer.neighbour[target]
                if not math.isnan(value):
                    write(axes, x, y + tall + 0.03, f"ρ {two(value)}", 6.3, color=DROP if layer.downsampled else SOFT)
    for row in range(rows):
        _above(axes, report, row * across, min(count, (row + 1) * across), _HEAD + row * band, tile, band)
    _curves(drawn, report, width, height)
    return drawn


def save_layers_figure(report: LayersReport, path: str | Path, **options: Any) -> Path:
    """Write :func:`layers_figure` (with its options) to ``path``; the suffix chooses the format."""
    return save_page(layers_figure(report, **options), Path(path))


def layers_html(report: LayersReport) -> str:
    """The figure and all numbers as one HTML file that needs no network."""
    buffer = io.BytesIO()
    layers_figure(report).savefig(buffer, format="png")
    script = asset("embed.js")
    return (
        environment()
        .get_template("layers.html.j2")
        .render(
            policy=policy(script),
            script=script,
            two=two,
            title=_title(report),
            model=report.explanation.model,
            method=report.method,
            labels=[clean(target.label) for target in report.explanation.targets],
            layers=report.layers,
            summary=report.summary(),
            picture=base64.b64encode(buffer.getvalue()).decode("ascii"),
        )
    )


def _title(report: LayersReport) -> str:
    explanation = report.explanation
    name = Path(explanation.picture.source or "").name or explanation.task
    return f"{name} · {explanation.text}" if explanation.text else name


def _heading(axes: Axes, report: LayersReport, width: float) -> None:
    write(axes, MARGIN, 0.1, short(_title(report), int(width * 9)), 11, weight="bold")
    count = len(report.layers)
    made = [f"{report.explanation.model} · {report.method} at {count} layer{'' if count == 1 else 's'}"]
    if not math.isnan(report.within):
        made.append(f"neighbours within a stage ρ {two(report.within)}")
    if not math.isnan(report.across):
        made.append(f"across a drop in resolution ρ {two(report.across)}")
    write(axes, MARGIN, 0.34, short(" · ".join(made), int(width * 15)), 7.5, color=SOFT)


def _target(axes: Axes, report: LayersReport, target: int, y: float, tall: float) -> None:
    explanation = report.explanation
    label = explanation.targets[target].label
    lines = _wrapped(label, 12)
    size = 8.5 if len(lines) == 1 else 7.5
    top = y + tall / 2 - 0.07 * len(lines) - 0.06
    for number, line in enumerate(lines):
        write(axes, MARGIN, top + 0.14 * number, line, size, weight="bold")
    if explanation.probabilities is not None:
        told = percent(float(explanation.probabilities[target]))
        write(axes, MARGIN, top + 0.14 * len(lines) + 0.02, told, 7, color=SOFT)


def _above(axes: Axes, report: LayersReport, start: int, stop: int, y: float, tile: float, band: float) -> None:
    """Names of the layers of one row, what stage they are in, and the lines where the resolution drops."""
    room = int(tile * (15.5 if tile == SMALL else 14))
    stage = None
    for number in range(start, stop):
        layer = report.layers[number]
        x = _LABEL + (number - start) * (tile + _GAP)
        if layer.stage != stage:
            stage = layer.stage
            ahead = next((n for n in range(number, stop) if report.layers[n].stage != stage), stop)
            end = _LABEL + (ahead - start) * (tile + _GAP) - _GAP
            axes.plot((x, end), (y + 0.2, y + 0.2), color=FAINT, lw=1.2, solid_capstyle="butt")
            grid = "×".join(map(str, layer.grid))
            write(axes, x, y + 0.04, grid, 7.5, weight="bold", color=DROP if layer.downsampled else INK)
        name = layer.name if len(layer.name) <= room else f"…{layer.name[1 - room :]}"
        write(axes, x, y + 0.25, name, 6.3 if tile == SMALL else 7.5, color=INK)
        if layer.downsampled:
            place = x - _GAP / 2
            axes.plot((place, place), (y + 0.06, y + band - _BETWEEN), color=DROP, lw=1.3)


def _curves(drawn: Figure, report: LayersReport, width: float, height: float) -> None:
    """The numbers along the layers, means over the targets."""
    layers = report.layers
    places = range(len(layers))
    curves = [
        ("correlation with the layer before", NEIGHBOUR, [mean(layer.neighbour) for layer in layers]),
        ("correlation with the last layer", LAST, [mean(layer.last) for layer in layers]),
        ("targets told apart", APART, [layer.discrimination for layer in layers]),
    ]
    left, right, above, below = _LABEL - 0.3, MARGIN + 0.05, 0.28, 0.5
    box = (left / width, below / height, (width - left - right) / width, (_CURVES - above - below) / height)
    panel = drawn.add_axes(box)
    known = [value for _, _, values in curves for value in values if not math.isnan(value)]
    lowest, highest = min([0.0, *known]), max([1.0, *known])
    panel.set_xlim(-0.5, len(layers) - 0.5)
    panel.set_ylim(math.floor(lowest * 4 - 0.2) / 4 if lowest < 0 else 0, highest + 0.04)
    panel.axhline(0, color=FAINT, lw=0.8)
    for number, layer in enumerate(layers):
        if layer.downsampled:
            panel.axvline(number - 0.5, color=DROP, lw=1.1)
    for name, color, values in curves:
        if not all(math.isnan(value) for value in values):
            panel.plot(places, values, color=color, lw=1.5, marker="o", ms=3 if len(layers) <= 30 else 2, label=name)
    panel.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=7,
        borderaxespad=0.15,
        handlelength=1.6,
    )
    every = max(1, math.ceil(len(layers) * 0.34 / (width - left)))
    ticks = list(places)[::every]
    panel.set_xticks(ticks, [_end(layers[place].name, 11) for place in ticks], fontsize=6.5, parse_math=False)
    if every > 1 or len(layers) > FEW:
        for label in panel.get_xticklabels():
            label.set_rotation(35)
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    panel.tick_params(labelsize=6.5, length=2, color=FAINT, labelcolor=SOFT)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(FAINT)


def _end(name: str, room: int) -> str:
    return name if len(name) <= room else f"…{name[1 - room :]}"


def _wrapped(text: str, room: int) -> list[str]:
    """At most three lines."""
    lines = [""]
    for word in short(text, 3 * room).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room and len(lines) < 3:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [short(line, room + 2) for line in lines]


def two(value: float) -> str:
    """Two decimals, with a true minus sign; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")
