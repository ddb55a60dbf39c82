"""What the colours of a figure mean: a ramp for each kind of map that appears, and the marks that do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mmexplain.render.heat import Heat
from mmexplain.render.lettering import breadth, leading
from mmexplain.render.overlay import table_of, unseen_image
from mmexplain.render.page import SOFT, Box, Look, put, ring, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDS = {"evidence": ("none", "strongest"), "signed": ("against", "for"), "pixels": ("lowers it", "raises it")}
"""The words at the ends of each ramp, as the HTML report has them."""

UNSEEN, PEAK = "not seen by the model", "peak"
GROUND = (139, 139, 136)
"""The grey that stands for the photo under a ramp; the report's."""

_RAMP, _SWATCH, _SPACE, _BETWEEN, _ABOVE = 0.55, 0.2, 0.05, 0.2, 0.07  # inches


@dataclass(frozen=True)
class Entry:
    """One thing that is explained: words, a sign of some inches' width, words."""

    before: str
    sign: Callable[[Axes, Box], None]
    wide: float
    after: str

    def breadth(self, size: float) -> float:
        """Width in inches."""
        words = [breadth(word, size) + _SPACE for word in (self.before, self.after) if word]
        return sum(words) + self.wide


class Legend:
    """Gathers what a figure shows while it is drawn.

    Args:
        look: colours and sizes.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._ramps: dict[tuple[str, str | None], Heat] = {}
        self._unseen = self._ringed = False

    def saw(self, shown: Heat, ringed: bool = False) -> None:
        """A map was drawn, and its peak marked or not."""
        if shown.values.any():
            self._ramps.setdefault((shown.kind, shown.colormap), shown)
        self._unseen |= not shown.seen.all()
        self._ringed |= ringed

    def draw(self, axes: Axes, left: float, y: float, right: float) -> float:
        """Write it from ``left`` to ``right`` and from ``y`` on, in as many lines as it takes; returns where it
        ends.

        Raises:
            InputError: it does not fit.
        """
        entries = self._entries() if self._look.legend else []
        if not entries:
            return y
        size = self._look.small
        high, x, y = leading(size), left, y + _ABOVE
        if max(entry.breadth(size) for entry in entries) > right - left:
            raise self._look.too_narrow()
        for entry in entries:
            if x > left and x + entry.breadth(size) > right:
                x, y = left, y + high
            for word in (entry.before, None, entry.after):
                if word is None:
                    entry.sign(axes, (x, y + 0.22 * high, entry.wide, 0.56 * high))
                    x += entry.wide + _SPACE
                elif word:
                    write(axes, x, y + 0.7 * high, word, size, color=SOFT, va="baseline")
                    x += breadth(word, size) + _SPACE
            x += _BETWEEN - _SPACE
        return y + high

    def _entries(self) -> list[Entry]:
        listed = []
        for (kind, _), shown in self._ramps.items():
            low, high = ENDS[kind]
            ramp = _ramp(shown, self._look)
            listed.append(Entry(low, lambda axes, box, ramp=ramp: put(axes, ramp, box), _RAMP, high))  # type: ignore[misc]
        if self._unseen:
            listed.append(Entry("", self._hatch, _SWATCH, UNSEEN))
        if self._ringed:
            listed.append(Entry("", _ring, 0.1, PEAK))
        return listed

    def _hatch(self, axes: Axes, box: Box) -> None:
        height, width = self._look.pixels(box[2:])
        grey = Image.new("RGBA", (width, height), GROUND)
        veil = unseen_image(height, width)
        put(axes, Image.alpha_composite(grey, veil).convert("RGB"), box)


def _ramp(shown: Heat, look: Look) -> Image.Image:
    """The colours as they lie over a grey photo, one row of 256."""
    if shown.kind == "pixels":
        return Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))
    table = table_of(shown, look.colormap)
    share = look.alpha * table[:, 3:].astype(np.float64) / 255
    return Image.fromarray(np.round(table[:, :3] * share + np.array(GROUND) * (1 - share)).astype(np.uint8)[None])


def _ring(axes: Axes, box: Box) -> None:
    x, y, wide, tall = box
    ring(axes, x + wide / 2, y + tall / 2, 5)
