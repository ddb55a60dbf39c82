"""Text that fits: measured in the font that it is drawn in, broken into lines and cut where it must be."""

from __future__ import annotations

import re
import warnings
from bisect import bisect

from mmexplain.render.text import clean

LEADING = 1.22
"""Distance of two lines as a multiple of the font size."""

# Names of layers and methods break after their points and dashes, Chinese and Japanese after every character.
_BREAKS = re.compile(r"(?<=[\s\-_/,.\u2e80-\u9fff\uf900-\ufaff])(?=\S)|(?=\()")


def breadth(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text, inches; ``size`` in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        width, _, _ = text_to_path.get_text_width_height_descent(
            text, FontProperties(size=size, weight=weight), ismath=False
        )
    return float(width) / 72


def leading(size: float) -> float:
    """Height of a line, inches."""
    return LEADING * size / 72


def cut(text: str, size: float, room: float, weight: str = "normal") -> str:
    """``text`` if it is no wider than ``room`` inches, or as much of it as is, with an ellipsis."""
    shown = clean(text)
    if breadth(shown, size, weight) <= room:
        return shown
    kept = bisect(range(1, len(shown)), room, key=lambda end: breadth(shown[:end].rstrip() + "…", size, weight))
    return shown[:kept].rstrip() + "…"


def pieces(text: str) -> list[str]:
    """What stays together when ``text`` is broken into lines, with the spaces that follow."""
    return [piece for piece in _BREAKS.split(clean(text)) if piece]


def wrapped(text: str, size: float, room: float, most: int = 2, weight: str = "normal") -> list[str]:
    """``text`` in at most so many lines of ``room`` inches, the last of them cut; no lines for an empty text."""
    lines: list[str] = []
    for piece in pieces(text):
        if lines and (len(lines) == most or breadth((lines[-1] + piece).rstrip(), size, weight) <= room):
            lines[-1] += piece
        else:
            lines.append(piece)
    return [cut(line, size, room, weight) for line in lines]
