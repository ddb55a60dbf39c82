"""The band below each picture of a written clip: what is explained, when, and its importance over time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmexplain.render.text import clean

GROUND = (22, 24, 28)
_TEXT, _SOFT, _FAINT = (240, 240, 240), (158, 162, 170), (74, 78, 86)
_WARM, _GLOW = (255, 146, 43), (84, 54, 33)
_FINE = 4  # Pillow's lines have stairs: they are drawn so many times as large, and reduced
_WIDEST_STAMP = "00:00.00"


def band_height(picture: int) -> int:
    """Height of the band below a picture that is so many pixels high."""
    return min(max(round(0.2 * picture), 48), 120)


class Band:
    """A caption with a curve and a playhead.

    Args:
        size: ``(width, height)``, pixels.
        label: what the curve is about.
        detail: follows the label, softer.
        curve: ``[n_frames]`` importance, NaN where a frame was not seen; None draws no curve.
        note: stands in place of the curve.
    """

    def __init__(
        self,
        size: tuple[int, int],
        label: str,
        detail: str = "",
        curve: NDArray[np.float32] | None = None,
        note: str | None = None,
    ) -> None:
        width, height = size
        self._edge = max(4, height // 8)
        self._small = _font(round(height * 0.26))
        self._box = (self._edge, round(height * 0.5), width - self._edge, height - self._edge)
        self._curve = None if note else curve
        seen = np.zeros(0, int) if self._curve is None else np.flatnonzero(np.isfinite(self._curve))
        self._heights = None if self._curve is None or not len(seen) else _filled(self._curve, seen)
        self._ground = self._drawn(size, seen)
        draw = ImageDraw.Draw(self._ground)
        bold = _font(round(height * 0.3), bold=True)
        room = width - 3 * self._edge - self._small.getlength(_WIDEST_STAMP)
        shown = _fitting(label, bold, room)
        draw.text((self._edge, self._edge * 0.7), shown, _TEXT, bold)
        after = bold.getlength(shown + " ")
        if self._small.getlength(detail) <= room - after:
            draw.text((self._edge + after, self._edge * 0.7 + height * 0.03), clean(detail), _SOFT, self._small)
        if note:
            told = _fitting(note, self._small, width - 2 * self._edge)
            draw.text((self._edge, height - self._edge), told, _SOFT, self._small, anchor="ld")

    def at(self, number: int, stamp: str) -> Image.Image:
        """The band of one frame, by its number in the file."""
        shown = self._ground.copy()
        draw = ImageDraw.Draw(shown)
        draw.text((shown.width - self._edge, self._edge * 0.9), stamp, _SOFT, self._small, anchor="ra")
        if self._curve is None or self._heights is None:
            return shown
        x, y = self._point(number)
        draw.line((round(x), self._box[1], round(x), self._box[3]), _SOFT)
        if np.isfinite(self._heights[number]):
            mark = _dot(max(7, shown.height // 6) | 1, hollow=bool(np.isnan(self._curve[number])))
            shown.paste(mark, (round(x) - mark.width // 2, round(y) - mark.height // 2), mark)
        return shown

    def _point(self, number: int) -> tuple[float, float]:
        assert self._heights is not None
        left, top, right, bottom = self._box
        height = float(np.nan_to_num(self._heights[number]))
        return left + (number + 0.5) / len(self._heights) * (right - left), bottom - height * (bottom - top)

    def _drawn(self, size: tuple[int, int], seen: NDArray[np.int_]) -> Image.Image:
        """The curve; on its ground line, where it is bright, are the frames that the model saw."""
        large = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), GROUND)
        if self._heights is not None:
            draw = ImageDraw.Draw(large)
            left, _, right, bottom = (edge * _FINE for edge in self._box)
            shown = _highest(seen, self._heights, size[0])
            points = [tuple(_FINE * value for value in self._point(number)) for number in shown]
            draw.polygon([(points[0][0], bottom), *points, (points[-1][0], bottom)], _GLOW)
            draw.line(points, _WARM, round(1.5 * _FINE), joint="curve")
            draw.rectangle((left, bottom, right, bottom + _FINE), _FAINT)
            wide = (right - left) / len(self._heights)
            for number in seen.tolist():
                draw.rectangle((left + number * wide, bottom, left + (number + 1) * wide, bottom + 2 * _FINE), _SOFT)
        return large.resize(size, Image.Resampling.BOX)


def _filled(curve: NDArray[np.float32], seen: NDArray[np.int_]) -> NDArray[np.float64]:
    """The curve from 0 to 1, frames between two that were seen filled in."""
    highest = float(curve[seen].max())
    shares = curve[seen] / highest if highest > 0 else np.zeros(len(seen))
    return np.interp(np.arange(len(curve)), seen, shares, left=np.nan, right=np.nan)


def _highest(seen: NDArray[np.int_], heights: NDArray[np.float64], most: int) -> list[int]:
    """Of the frames that were seen, the highest in each of ``most`` columns, so that no spike is lost."""
    columns = seen * most // len(heights)
    order = np.lexsort((-heights[seen], columns))
    _, firsts = np.unique(columns[order], return_index=True)
    found: list[int] = seen[order[firsts]].tolist()
    return found


def _fitting(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """``text`` cut to ``room`` pixels."""
    shown = clean(text)
    if font.getlength(shown) <= room:
        return shown
    while shown and font.getlength(shown + "…") > room:
        shown = shown[:-1].rstrip()
    return shown + "…" if shown else ""


@lru_cache(maxsize=16)
def _font(pixels: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), max(8, pixels))


@lru_cache(maxsize=4)
def _dot(side: int, hollow: bool) -> Image.Image:
    """The playhead's mark: full on a frame that the model saw, hollow on one between two such."""
    large = Image.new("RGBA", (side * _FINE, side * _FINE), (*_WARM, 0))
    draw = ImageDraw.Draw(large)
    inside = (*GROUND, 255) if hollow else (*_WARM, 255)
    draw.ellipse((0, 0, side * _FINE - 1, side * _FINE - 1), inside, (*_TEXT, 255), round(1.2 * _FINE))
    return large.resize((side, side), Image.Resampling.BOX)
