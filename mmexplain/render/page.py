"""A matplotlib page measured in inches, and what is put on it: headings, pictures, short texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.render.lettering import cut, leading, wrapped
from mmexplain.render.on_device import ALPHA
from mmexplain.render.text import clean, percent
from mmexplain.render.whole import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1c1e22", "#666b73", "#c9ccd1"
MARGIN = 0.1  # inches
SCREEN = 3.0  # inches that the heading and the legend of a figure for screens take at least

Box = tuple[float, float, float, float]
"""x, y, width, height in inches from the page's upper left corner."""


@dataclass(frozen=True)
class Look:
    """What is said of a figure beside what it shows.

    Attributes:
        width: of the page, inches; None for a page as wide as its tiles, under a heading of its own.
        columns: at most so many tiles in a row; None for what suits the page.
        tile: width of a tile where the page has none, inches.
        colormap: see :func:`~mmexplain.render.overlay`.
        alpha: opacity of the strongest value.
        peaks: mark each map's maximum.
        legend: say at the bottom what the colours mean.
        labels: write what each map is of; a mapping says what to write for a target, a layer or a method.
        photo: show the photo too.
        font_size: points.
        dpi: pixels per inch of the photos.
    """

    width: float | None = None
    columns: int | None = None
    tile: float | None = None
    colormap: str | None = None
    alpha: float = ALPHA
    peaks: bool = True
    legend: bool = True
    labels: bool | Mapping[str, str] = True
    photo: bool = True
    font_size: float = 8.5
    dpi: float = 150

    @property
    def named(self) -> bool:
        """There are labels."""
        return self.labels is not False

    @property
    def margin(self) -> float:
        """Beside the tiles, inches; on paper there is one already."""
        return MARGIN if self.width is None else 0.0

    @property
    def small(self) -> float:
        """Size of what is said by the way, points."""
        return 0.82 * self.font_size

    def name(self, name: str) -> str:
        """What is written for a target's label, a layer or a method."""
        return clean(self.labels.get(name, name) if isinstance(self.labels, Mapping) else name)

    def too_narrow(self) -> InputError:
        """That the texts have no room."""
        return InputError(
            f"a figure of {self.width} inches has no room for its texts at {self.font_size} points: make it wider, "
            "the font smaller, or leave out labels or legend"
        )

    def snap(self, inches: float) -> float:
        """The nearest whole number of pixels, inches."""
        return round(inches * self.dpi) / self.dpi

    def pixels(self, box: tuple[float, float]) -> tuple[int, int]:
        """``(h, w)`` of a picture that is (width, height) inches large."""
        return max(1, round(box[1] * self.dpi)), max(1, round(box[0] * self.dpi))


def page(width: float, height: float, dpi: float = 150) -> tuple[Figure, Axes]:
    """A figure in no list of pyplot's, which notebooks show all the same; its one pair of axes measures inches from the
    upper left corner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from mmexplain.render.printed import Printed

    drawn = Printed(figsize=(width, height), dpi=dpi, facecolor="white")
    drawn.set_layout_engine("none")
    drawn.suppressComposite = True  # or PDF and SVG would hold all pictures as one
    FigureCanvasAgg(drawn)
    axes = drawn.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    return drawn, axes


def trim(drawn: Figure, height: float) -> Figure:
    """Give a page the height that it turned out to need, in whole pixels."""
    tall = math.ceil(height * drawn.dpi - 1e-6) / drawn.dpi
    drawn.set_size_inches(drawn.get_size_inches()[0], tall)
    drawn.axes[0].set_ylim(tall, 0)
    return drawn


def save_page(drawn: Figure, path: Path) -> Path:
    """Write a figure; the suffix chooses the format. The same figure gives the same bytes, and says that it is
    mmexplain's.

    Raises:
        InputError: a format that matplotlib does not write, or a path that cannot be written.
    """
    known = drawn.canvas.get_supported_filetypes()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in known:
        raise InputError(f"cannot write a figure as {path.suffix!r}; known: {', '.join(sorted(known))}")
    # PNG's default effort costs half of the time and saves a few per cent.
    told: dict[str, dict[str, Any]] = {
        "png": {"pil_kwargs": {"compress_level": 3}},
        "pdf": {"metadata": {"Creator": "mmexplain", "CreationDate": None}},
        "svg": {"metadata": {"Creator": "mmexplain", "Date": None}},
    }
    with whole(path) as partial:
        drawn.savefig(partial, format=kind, **told.get(kind, {}))
    return path


def heading(axes: Axes, explanation: Explanation, keys: list[MapKey], look: Look, width: float) -> float:
    """What was said or shown, by which model, explained by which methods; returns where that ends."""
    said = explanation.text or Path(explanation.picture.source or "").name or explanation.task
    made = f"{explanation.model} · {', '.join(dict.fromkeys(look.name(key.method) for key in keys))}"
    if len({key.layer for key in keys}) == 1 and keys[0].layer != keys[0].method:
        made += f" at {look.name(keys[0].layer)}"
    if explanation.geometry.frames is not None:
        made += " · curves: importance of each frame, the highest in bold"
    large, room = 1.3 * look.font_size, width - 2 * look.margin
    write(axes, look.margin, 0.1, cut(said, large, room, "bold"), large, weight="bold")
    write(axes, look.margin, 0.1 + leading(large), cut(made, look.small, room), look.small, color=SOFT)
    return 0.1 + leading(large) + leading(look.small) + 0.1


def question(axes: Axes, explanation: Explanation, numbers: list[int], look: Look, width: float) -> float:
    """The text, unless its words are written under their maps; returns where it ends."""
    shown = [explanation.targets[number].label.casefold() for number in numbers]
    if not look.named or not explanation.text or shown == [word.casefold() for word in explanation.words]:
        return 0.02
    lines = wrapped(explanation.text, look.font_size, width)
    return put_lines(axes, lines, look.font_size, width / 2, 0.02) + 0.04


def caption(axes: Axes, explanation: Explanation, number: int, look: Look, x: float, y: float, room: float) -> float:
    """A target and its probability, centred in two or more lines; returns where they end."""
    target = explanation.targets[number]
    most = 2 if target.kind == "word" else 3
    ink = INK if target.content else SOFT
    y = put_lines(axes, wrapped(look.name(target.label), look.font_size, room, most), look.font_size, x, y, color=ink)
    known = explanation.probabilities
    told = percent(None if known is None else float(known[number]))
    return put_lines(axes, [told] if told else [], look.small, x, y, color=SOFT)


def put_lines(axes: Axes, lines: list[str], size: float, x: float, y: float, **style: Any) -> float:
    """Lines of text, centred at x from y on; returns where they end."""
    for line in lines:
        # On the baseline, so that lines with and without descenders stand at one height.
        write(axes, x, y + 0.95 * size / 72, line, size, **{"ha": "center", "va": "baseline", **style})
        y += leading(size)
    return y


def put(axes: Axes, picture: Image.Image, box: Box) -> None:
    """A picture stretched over a box, as many pixels as the page has there."""
    dpi = axes.figure.dpi
    left, top, wide, tall = (round(inches * dpi) for inches in box)
    size = (max(1, wide), max(1, tall))
    shown = picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
    extent = (left / dpi, (left + size[0]) / dpi, (top + size[1]) / dpi, top / dpi)
    # One pixel for each of the page: PDF and SVG get these very ones. (With "none" browsers would not smooth them.)
    axes.imshow(np.asarray(shown), extent=extent, aspect="auto", origin="upper", interpolation="nearest")


def plate(axes: Axes, box: Box, note: str, size: float = 6) -> None:
    """A note on a dark plate at the bottom of a box."""
    x, y, wide, tall = box
    ground = {"facecolor": "#222222", "alpha": 0.8, "linewidth": 0, "pad": 2}
    lines = wrapped(note, size, wide - 0.12, max(1, int((tall - 0.1) / leading(size))))
    place = (x + wide / 2, y + tall - 0.06)
    write(axes, *place, "\n".join(lines), size, color="white", ha="center", va="bottom", bbox=ground)


def point(peak: tuple[int, ...], original: tuple[int, int], box: Box) -> tuple[float, float]:
    """Where a pixel (x, y) of an original (h, w) lies in its picture."""
    x, y, wide, tall = box
    return x + (peak[0] + 0.5) / original[1] * wide, y + (peak[1] + 0.5) / original[0] * tall


def ring(axes: Axes, x: float, y: float, size: float = 6) -> None:
    """The mark of a map's maximum; ``size`` in points."""
    for color, breadth in (("black", 2.2), ("white", 1.1)):
        axes.plot(x, y, "o", ms=size, markerfacecolor="none", markeredgecolor=color, markeredgewidth=breadth)


def write(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Text whose upper left corner, unless ``style`` says otherwise, is (x, y)."""
    # Captions are foreign: a dollar sign in one must not start a formula.
    axes.text(x, y, text, fontsize=size, parse_math=False, usetex=False, **{"va": "top", "color": INK, **style})


def short(text: str, room: int) -> str:
    """``text`` cut to ``room`` characters."""
    shown = clean(text)
    return shown if len(shown) <= room else shown[: max(1, room - 1)].rstrip() + "…"
