"""Reading what a layer puts out as feature maps ``[B, C, *S]``: told by the task, or found out by the shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from mmexplain.errors import LayerError

Layout = Literal["channels_first", "channels_last", "tokens"]

MAX_PREFIX_TOKENS = 8


@dataclass(frozen=True)
class Reader:
    """How to read one layer's output as maps; the same linear reading serves activations and gradients.

    Attributes:
        layout: where the channels stand.
        prefix: leading tokens that are no place in the photo (class and register tokens).
        grid: height and width of the token grid; of a clip's, steps in time before them.
        frames: where a layer over clips has no axis of time, how many of its rows are one clip: all frames of it,
            which the model sees one by one, or 1, if it has merged them.
        rows: how many rows of the layer are one input, where the model has cut it into tiles (``[R · rows, T, C]``, or
            maps) or has no axis for inputs at all (``[R · rows, C]``, a row for each token). Their tokens are numbered
            one row after the other.
        order: int64, of the shape of ``grid``: the number of the token that stands at each place, those of ``prefix``
            counted too; -1 where none stands. None: they stand in reading order.
    """

    layout: Layout
    prefix: int = 0
    grid: tuple[int, ...] | None = None
    frames: int | None = None
    rows: int | None = None
    order: Tensor | None = field(default=None, compare=False)

    def __call__(self, value: Tensor) -> Tensor:
        """``[R, ...]`` (``[R · frames, ...]``, ``[R · rows, ...]``) as the layer puts it out → ``[R, C, *S]``."""
        if self.rows is not None or self.order is not None:
            return self._folded(self._tokens(value))
        maps = self._maps(value)
        return maps if self.frames is None else maps.unflatten(0, (-1, self.frames)).movedim(1, 2)

    @property
    def rows_per_input(self) -> int:
        """Rows of the layer that are one input."""
        return self.rows or self.frames or 1

    def _maps(self, value: Tensor) -> Tensor:
        if self.layout == "channels_first":
            return value
        if self.layout == "channels_last":
            return value.movedim(-1, 1)
        return self._folded(value)

    def _tokens(self, value: Tensor) -> Tensor:
        """All tokens of each input, ``[R, N, C]``."""
        if self.layout == "channels_first":
            value = value.movedim(1, -1)
        if self.rows is not None:
            value = value.unflatten(0, (-1, self.rows))
        return value.flatten(1, -2)

    def _folded(self, tokens: Tensor) -> Tensor:
        assert self.grid is not None
        if self.order is None:
            placed: Tensor = tokens[:, self.prefix :]
        else:
            order = self.order.flatten().to(tokens.device)
            there = (order >= 0).to(tokens.dtype).unsqueeze(-1)
            placed = tokens.index_select(1, order.clamp(min=0)) * there
        folded: Tensor = placed.unflatten(1, self.grid).movedim(-1, 1)
        return folded


ReaderOf = Callable[[str, Sequence[int]], Reader | None]
"""What a task tells of a layer by its name and the shape ``[R, ...]`` of its output; see ``Task.reader``."""


def told_or_guessed(
    told: ReaderOf | None,
    layer: str,
    shape: Sequence[int],
    image: Sequence[int] | None,
    prefix: int | None = None,
    inputs: int | None = None,
) -> Reader | None:
    """How a layer is read: as the task tells, else by :func:`reader_for`. None if its output is no map."""
    try:
        known = None if told is None else told(layer, shape)
    except LayerError:
        return None
    if known is None:
        return reader_for(shape, image, prefix, inputs) if len(shape) else None
    return known if inputs in (None, shape[0] / known.rows_per_input) else None


def reader_for(
    shape: Sequence[int], image: Sequence[int] | None, prefix: int | None = None, inputs: int | None = None
) -> Reader | None:
    """Find out how an output of ``shape`` lies over an image of ``(height, width)`` or a clip of ``(frames, h, w)``.

    Four and five dimensions are maps with the channels first or last, whichever leaves a grid of the image's shape;
    three are tokens if, without a few leading ones, they fold to such a grid. None if the output is no map. A CNN that
    sees each frame of a clip apart has them as rows, one clip after the other.

    Args:
        shape: ``[R, ...]`` as the layer puts it out.
        image: the model's input size; a square is assumed if None.
        prefix: how many leading tokens the model says it has; others are tried after that.
        inputs: how many photos or clips the R rows are made of; R if None.
    """
    clip = image is not None and len(image) == 3
    if image is not None and inputs not in (None, shape[0]):
        if not clip or shape[0] != inputs * image[0] or len(shape) > 4:
            return None
        reader = _reader(shape, image[1:], prefix)
        return reader and replace(reader, frames=image[0])
    reader = _reader(shape, image, prefix)
    return replace(reader, frames=1) if reader and clip and len(shape) == 4 else reader


def _reader(shape: Sequence[int], image: Sequence[int] | None, prefix: int | None) -> Reader | None:
    match len(shape):
        case 4 | 5:
            first, last = shape[2:], shape[1:-1]
            first_fits, last_fits = _one_stride(first, image), _one_stride(last, image)
            first_error, last_error = _aspect_error(first, image), _aspect_error(last, image)
            # Where both fit, on small grids, the channels stand first unless the other fits clearly better.
            if first_fits and not (last_fits and last_error + 0.05 < first_error):
                return Reader("channels_first")
            if last_fits:
                return Reader("channels_last")
            # Networks that read text lines shrink one axis more than the other. Of a clip, four are heads and tokens.
            heads = image is not None and len(image) == 3 and len(shape) == 4
            return Reader("channels_first") if first_error < last_error and not heads else None
        case 3 if image is None or len(image) < 3 or shape[1] != image[0]:  # as many as frames: what an LSTM says
            guesses = [*([] if prefix is None else [prefix]), *range(MAX_PREFIX_TOKENS + 1)]
            grids = [(skip, grid) for skip in guesses if (grid := _fold(shape[1] - skip, image)) is not None]
            if grids:
                skip, grid = min(grids, key=lambda found: (found[0] != prefix, _aspect_error(found[1], image)))
                return Reader("tokens", skip, grid)
    return None


def _sides(image: Sequence[int] | None) -> tuple[int, int]:
    return (image[-2], image[-1]) if image is not None else (1, 1)


def _aspect_error(grid: Sequence[int], image: Sequence[int] | None) -> float:
    """How far a grid's aspect is from the image's; for clips the last two axes count."""
    height, width = _sides(image)
    return abs(math.log((grid[-2] / grid[-1]) / (height / width)))


def _one_stride(grid: Sequence[int], image: Sequence[int] | None) -> bool:
    """Whether one stride gives both sides of the grid, but for what padding adds or takes away."""
    sides = list(zip(_sides(image), grid[-2:], strict=True))
    smallest = [side / (cells + 1.5) for side, cells in sides]
    largest = [side / (cells - 1.5) if cells > 1.5 else math.inf for side, cells in sides]
    return max(smallest) <= min(largest)


def _fold(tokens: int, image: Sequence[int] | None) -> tuple[int, ...] | None:
    """Grid of ``tokens`` places with the aspect of the image; of those for a clip the one with most steps in time."""
    if image is not None and len(image) == 3:
        steps = [n for n in range(image[0], 0, -1) if image[0] % n == 0 and tokens % n == 0]
        grids = [(n, *grid) for n in steps if (grid := _fold(tokens // n, image[1:])) is not None]
        return min(grids, key=lambda grid: _aspect_error(grid, image), default=None)
    if tokens < 4:
        return None
    height, width = _sides(image)
    rows = round(math.sqrt(tokens * height / width))
    if rows < 1 or tokens % rows:
        return None
    grid = (rows, tokens // rows)
    return grid if _aspect_error(grid, image) < 0.15 else None
