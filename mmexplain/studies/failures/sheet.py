"""The contact sheet of failures: photo, map of the predicted class, map of the true class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from PIL import Image

from mmexplain.geometry import Box
from mmexplain.render.heat import heat
from mmexplain.render.legend import Legend
from mmexplain.render.lettering import cut, leading, wrapped
from mmexplain.render.overlay import blend, photo_image
from mmexplain.render.page import INK, MARGIN, SOFT, Look, page, plate, point, put, put_lines, ring, trim, write
from mmexplain.render.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mmexplain.studies.failures.study import Failure

LOOK = Look(dpi=130)
"""The resolution at which studies save their figures: pictures are drawn pixel by pixel."""

_TILE, _TALL = 1.7, 1.5  # inches that a picture may take
_GAP, _BETWEEN = 0.06, 0.3  # inches between the tiles of a photo, and between photos
_ACROSS = 2


def sheet(title: str, failures: Sequence[Failure]) -> Figure:
    """The photos two in a row, most confidently wrong first, with the objects of the true class in white boxes.

    Args:
        title: what stands above.
        failures: one or more.
    """
    across = min(_ACROSS, len(failures))
    block = 3 * _TILE + 2 * _GAP
    width = across * block + (across - 1) * _BETWEEN + 2 * MARGIN
    drawn, axes = page(width, 1.0, LOOK.dpi)
    legend = Legend(LOOK)
    large, room = 1.3 * LOOK.font_size, width - 2 * MARGIN
    made = next(iter(failures[0].explanation.maps)).made
    boxed = any(failure.boxes for failure in failures)
    told = f"{made} · most confident first" + (" · white boxes: objects of the true class" if boxed else "")
    write(axes, MARGIN, 0.1, cut(title, large, room, "bold"), large, weight="bold")
    write(axes, MARGIN, 0.1 + leading(large), cut(told, LOOK.small, room), LOOK.small, color=SOFT)
    y = 0.2 + leading(large) + leading(LOOK.small)
    for start in range(0, len(failures), across):
        row = failures[start : start + across]
        high = max(_fit(failure)[1] for failure in row)
        y = max(
            _failure(axes, legend, failure, MARGIN + place * (block + _BETWEEN), y, high)
            for place, failure in enumerate(row)
        )
        y += 0.1
    y = legend.draw(axes, MARGIN, y - 0.1, width - MARGIN)
    return trim(drawn, y + MARGIN)


def _fit(failure: Failure) -> tuple[float, float]:
    """Width and height of its pictures, inches, in whole pixels."""
    height, width = failure.explanation.geometry.original
    scale = min(_TILE / width, _TALL / height)
    return LOOK.snap(width * scale), LOOK.snap(height * scale)


def _failure(axes: Axes, legend: Legend, failure: Failure, x: float, y: float, high: float) -> float:
    """Draw one photo's three pictures in a row ``high`` inches tall; returns where the words below end."""
    explanation, photo = failure.explanation, failure.photo
    wide, tall = _fit(failure)
    picture = photo_image(explanation, LOOK.pixels((wide, tall)))
    rank = f"{percent(photo.probabilities['true'])}, rank {photo.rank:,}"
    words = [
        (PurePath(photo.file).name, ""),
        (photo.labels["predicted"], f"predicted, {percent(photo.confidence)}"),
        (photo.labels["true"], f"true, {rank}"),
    ]
    ends = []
    for place, (label, below) in enumerate(words):
        middle = x + place * (_TILE + _GAP) + _TILE / 2
        box = (middle - wide / 2, y + high - tall, wide, tall)
        if place:
            _map(axes, legend, failure, place - 1, picture, box)
        else:
            put(axes, picture, box)
            for edges in failure.boxes:
                _outline(axes, edges, explanation.geometry.original, box)
        lines = wrapped(label, LOOK.font_size, _TILE)
        end = put_lines(axes, lines, LOOK.font_size, middle, y + high + 0.04, color=INK if place else SOFT)
        ends.append(put_lines(axes, [below] if below else [], LOOK.small, middle, end, color=SOFT))
    return max(ends)


def _map(axes: Axes, legend: Legend, failure: Failure, number: int, picture: Image.Image, box: Box) -> None:
    explanation = failure.explanation
    (key,) = explanation.maps
    shown = heat(explanation, number, key.layer, key.method, size=(picture.height, picture.width))
    put(axes, blend(picture, shown), box)
    peak = None if shown.note else explanation.peak(number, key.layer, key.method)
    if shown.note:
        plate(axes, box, shown.note, 0.75 * LOOK.font_size)
    if peak is not None:
        ring(axes, *point(peak, explanation.geometry.original, box))
    legend.saw(shown, ringed=peak is not None)


def _outline(axes: Axes, edges: Box, original: tuple[int, int], box: Box) -> None:
    """A box in pixels of the photo, drawn over the picture of it."""
    from matplotlib.patches import Rectangle

    x, y, wide, tall = box
    height, width = original
    left, right = (x + min(max(edge, 0), width) / width * wide for edge in edges[::2])
    top, bottom = (y + min(max(edge, 0), height) / height * tall for edge in edges[1::2])
    for color, breadth in (("black", 2.0), ("white", 1.0)):
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=breadth)
        axes.add_patch(frame)
