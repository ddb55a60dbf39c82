"""A matplotlib page measured in inches, and what is put on it: headings, pictures, short texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmexplain.explanation import Explanation, MapKey
from mmexplain.methods import find
from mmexplain.render.colors import RED_BLUE
from mmexplain.render.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1c1e22", "#666b73", "#c9ccd1"
HEADING, MARGIN = 0.58, 0.1  # inches

Box = tuple[float, float, float, float]
"""x, y, width, height in inches from the page's upper left corner."""


def page(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure in no list of pyplot's; its one pair of axes measures inches from the upper left corner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(drawn)
    axes = drawn.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    return drawn, axes


def heading(axes: Axes, explanation: Explanation, keys: list[MapKey], width: float) -> None:
    """What was said or shown, by which model, explained by which methods."""
    said = explanation.text or Path(explanation.picture.source or "").name or explanation.task
    blue = any((known := find(key.method)) and known.colormap == RED_BLUE for key in keys)
    colours = " · blue: evidence for, red: against" if blue else ""
    made = f"{explanation.model}{colours} · {', '.join(dict.fromkeys(key.method for key in keys))}"
    if explanation.geometry.frames is not None:
        made += " · curves: importance of each frame, the highest in bold"
    write(axes, MARGIN, 0.1, short(said, int(width * 9)), 11, weight="bold")
    write(axes, MARGIN, 0.33, short(made, int(width * 15)), 7.5, color=SOFT)


def put(axes: Axes, picture: Image.Image, box: Box) -> None:
    """A picture stretched over a box."""
    x, y, wide, tall = box
    axes.imshow(np.asarray(picture), extent=(x, x + wide, y + tall, y), aspect="auto")


def plate(axes: Axes, box: Box, note: str) -> None:
    """A note on a dark plate at the bottom of a box."""
    x, y, wide, tall = box
    ground = {"facecolor": "#222222", "alpha": 0.8, "linewidth": 0, "pad": 2}
    place = (x + wide / 2, y + tall - 0.06)
    write(axes, *place, short(note, int(wide * 20)), 6, color="white", ha="center", va="bottom", bbox=ground)


def ring(axes: Axes, x: float, y: float) -> None:
    """The mark of a map's maximum."""
    for color, breadth in (("black", 2.2), ("white", 1.1)):
        axes.plot(x, y, "o", ms=6, markerfacecolor="none", markeredgecolor=color, markeredgewidth=breadth)


def write(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Text whose upper left corner, unless ``style`` says otherwise, is (x, y)."""
    # Captions are foreign: a dollar sign in one must not start a formula.
    axes.text(x, y, text, fontsize=size, parse_math=False, **{"va": "top", "color": INK, **style})


def short(text: str, room: int) -> str:
    """``text`` cut to ``room`` characters."""
    shown = clean(text)
    return shown if len(shown) <= room else shown[: max(1, room - 1)].rstrip() + "…"
