"""The maps of a photo laid out on a page: words under their maps, or methods by targets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mmexplain.explanation import Explanation, MapKey
from mmexplain.render.heat import heat
from mmexplain.render.legend import Legend
from mmexplain.render.lettering import breadth, leading, pieces, wrapped
from mmexplain.render.overlay import blend, photo_image
from mmexplain.render.page import (
    SCREEN,
    Look,
    caption,
    heading,
    page,
    plate,
    point,
    put,
    put_lines,
    question,
    ring,
    trim,
    write,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP, _LABEL = 0.06, 0.04  # inches between tiles, and from a tile to what is written under it
_PAPER_TILE = 0.68  # inches, of a square photo, where there are enough to fill a row
_SMALLEST, _LARGEST = 0.8, 2.4  # times that width
_BROADEST = 1.3  # times that width, a word that cannot be broken makes room for itself
_TALLEST = 2.5  # times as tall as wide
_PANORAMA = 4.0  # times as wide as tall, a row is a tile


class Photos:
    """Lays out and draws the maps of a photo.

    With one (layer, method), or one target, tiles follow each other like words, the photo first. With several of both,
    blocks: a row for each (layer, method) with its name at the left, a column for each target with its name below, the
    photo beside them.
    """

    def __init__(self, explanation: Explanation, keys: list[MapKey], numbers: list[int], look: Look) -> None:
        self.explanation, self.keys, self.numbers, self.look = explanation, keys, numbers, look
        self.legend = Legend(look)
        self.flows = len(keys) == 1 or len(numbers) == 1
        self.one = len(keys) > 1 and self.flows
        high, wide = explanation.geometry.original
        aspect = wide / high
        # How many lines the names of rows take depends on how tall the tiles are.
        self.side = 0.0
        self._fit(aspect)
        if not self.flows and look.named:
            for _ in range(2):
                lines = max(len(self._beside(key)) for key in keys)
                self.side = look.snap(lines * leading(look.small) + _GAP)
                self._fit(aspect)
        self.photo = photo_image(explanation, self.size)

    def _fit(self, aspect: float) -> None:
        """How large the tiles are, how many go into a row, and where the first one stands."""
        look, first = self.look, int(self.look.photo)
        count = len(self.keys) * len(self.numbers) if self.flows else len(self.numbers)
        if look.width is None:
            tile, most = look.tile or 2.0, max(2, look.columns or 7)
        else:
            tile = look.width if aspect > _PANORAMA else _PAPER_TILE * min(max(math.sqrt(aspect), 0.85), 2.0)
            room = look.width - self.side
            least = breadth("<0.1%", look.small) if look.named else 0.1
            if room < least:
                raise look.too_narrow()
            word = max(least, min(self._broadest(), _BROADEST * tile))
            # Smaller tiles, if then one row is enough.
            limit, closest, most = (
                int((room + _GAP) / (wide + _GAP)) for wide in (least, max(word, _SMALLEST * tile), max(word, tile))
            )
            most = closest if count + first <= closest else most
            most = min(look.columns, limit) if look.columns else most
        self.across = _evenly(count, most, first, self.flows)
        if look.width is not None:
            tile = min((room + _GAP) / self.across - _GAP, _LARGEST * tile)
        self.tile = math.floor(tile * look.dpi + 1e-6) / look.dpi
        tall = min(self.tile / aspect, _TALLEST * self.tile)
        self.size = look.pixels((tall * aspect, tall))
        self.wide, self.tall = self.size[1] / look.dpi, self.size[0] / look.dpi
        self.row = max(self.tall, 2 * leading(look.small))  # even a line of pixels has room for a note
        taken = self.across * (self.tile + _GAP) - _GAP + self.side
        self.width = look.width or max(taken, SCREEN) + 2 * look.margin
        self.left = (self.width - taken) / 2

    def _broadest(self) -> float:
        """Width of the longest word that is written under a tile, inches."""
        if not self.look.named:
            return 0.0
        labels = [self.look.name(self.explanation.targets[number].label) for number in self.numbers]
        names = [name for key in self.keys for name in self._name(key)] if self.one else []
        words = [piece.strip() for text in (*labels, *names) for piece in pieces(text)]
        return max((breadth(word, self.look.font_size) for word in words), default=0.0)

    def draw(self) -> Figure:
        """The figure."""
        drawn, self.axes = page(self.width, 1.0, self.look.dpi)
        y = self._heading()
        y = self._flow(y) if self.flows else self._blocks(y)
        y = self.legend.draw(self.axes, self.left, y, self.width - self.left)
        return trim(drawn, y + (0.02 if self.look.width else self.look.margin))

    def _heading(self) -> float:
        if self.look.width is None:
            y = heading(self.axes, self.explanation, self.keys, self.look, self.width)
        else:
            y = question(self.axes, self.explanation, self.numbers, self.look, self.width)
        if self.one and not self.look.photo and self.look.named:
            y = _LABEL + caption(self.axes, self.explanation, self.numbers[0], self.look, self.width / 2, y, self.width)
        return y

    def _flow(self, y: float) -> float:
        tiles: list[tuple[MapKey, int] | None] = [None] if self.look.photo else []
        tiles += [(key, number) for key in self.keys for number in self.numbers]
        for start in range(0, len(tiles), self.across):
            ends = [y]
            for column, tile in enumerate(tiles[start : start + self.across]):
                ends.append(self._tile(tile, column, y))
                if self.look.named:
                    ends.append(self._below(tile, column, y + self.row + _LABEL))
            y = max(ends) + (_GAP if start + self.across < len(tiles) else 0)
        return y

    def _blocks(self, y: float) -> float:
        first = int(self.look.photo)
        per = self.across - first
        for start in range(0, len(self.numbers), per):
            block = self.numbers[start : start + per]
            top, ends = y, []
            for key in self.keys:
                self._write_beside(key, y)
                for column, number in enumerate(block):
                    self._tile((key, number), column + first, y)
                y += self.row + _GAP
            y -= _GAP
            if first:
                self._tile(None, 0, (top + y - self.row) / 2)
            if self.look.named:
                ends = [
                    caption(self.axes, self.explanation, number, self.look, self._middle(column), y + _LABEL, self.tile)
                    for column, number in enumerate(block, first)
                ]
            y = max([y, *ends]) + (_GAP if start + per < len(self.numbers) else 0)
        return y

    def _middle(self, column: int) -> float:
        """Where the middle of a column is; the names of rows stand between the photo and the maps."""
        side = 0.0 if column < int(self.look.photo) else self.side
        return self.left + side + column * (self.tile + _GAP) + self.tile / 2

    def _tile(self, tile: tuple[MapKey, int] | None, column: int, y: float) -> float:
        """Draw the photo, or a map over it; returns where it ends."""
        box = (self._middle(column) - self.wide / 2, y + (self.row - self.tall) / 2, self.wide, self.tall)
        if tile is None:
            put(self.axes, self.photo, box)
            return y + self.row
        key, number = tile
        shown = heat(self.explanation, number, key.layer, key.method, size=self.size)
        put(self.axes, blend(self.photo, shown, colormap=self.look.colormap, alpha=self.look.alpha), box)
        peak = None
        if shown.note is not None:
            slot = (self._middle(column) - self.tile / 2, y, self.tile, self.row)
            plate(self.axes, slot, shown.note, 0.75 * self.look.font_size)
        elif self.look.peaks:
            peak = self.explanation.peak(number, key.layer, key.method)
        if peak is not None:
            place = point(peak, self.explanation.geometry.original, box)
            ring(self.axes, *place, min(7.0, 3 + 3 * self.tile))
        self.legend.saw(shown, ringed=peak is not None)
        return y + self.row

    def _below(self, tile: tuple[MapKey, int] | None, column: int, y: float) -> float:
        x = self._middle(column)
        if self.one and tile is not None:
            lines = [line for name in self._name(tile[0]) for line in wrapped(name, self.look.font_size, self.tile)]
            return put_lines(self.axes, lines, self.look.font_size, x, y)
        if tile is None and not self.one:
            return y
        number = self.numbers[0] if tile is None else tile[1]
        return caption(self.axes, self.explanation, number, self.look, x, y, self.tile)

    def _beside(self, key: MapKey) -> list[str]:
        """The name of a row in lines that are no longer than it is tall."""
        return [line for name in self._name(key) for line in wrapped(name, self.look.small, self.row)]

    def _write_beside(self, key: MapKey, y: float) -> None:
        """The name of a row, reading upwards."""
        lines = self._beside(key) if self.look.named else []
        x = self._middle(int(self.look.photo)) - self.tile / 2 - _GAP - (len(lines) - 1) * leading(self.look.small)
        for line in lines:
            style = {"rotation": 90, "ha": "right", "va": "center"}
            write(self.axes, x, y + self.row / 2, line, self.look.small, **style)
            x += leading(self.look.small)

    def _name(self, key: MapKey) -> list[str]:
        """What tells a (layer, method) from the others that are shown."""
        methods = {other.method for other in self.keys}
        if len(methods) > 1 and len(self.keys) == len(methods):
            return [self.look.name(key.method)]
        if len(methods) == 1:
            return [self.look.name(key.layer)]
        return [self.look.name(name) for name in dict.fromkeys((key.method, key.layer))]


def _evenly(count: int, most: int, first: int, flows: bool) -> int:
    """Tiles in a row where at most so many fit, rows filled alike; ``first``: the photo takes a tile, once where tiles
    flow, else in each block."""
    once, each = (first, 0) if flows else (0, first)
    most = max(1, most - each)
    return math.ceil((count + once) / math.ceil((count + once) / most)) + each
