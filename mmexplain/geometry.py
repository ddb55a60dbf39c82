"""How the model's input lies over the original file: preprocessing as a map that can be inverted exactly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmexplain.interpolate import centres, grid, interpolate

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Number = TypeVar("Number", float, Tensor)

_PIXELS_AT_ONCE = 2**22
"""Values that a search for the peak of a clip holds at a time."""


@dataclass(frozen=True)
class Geometry:
    """Where in the original file each pixel of the model's input comes from.

    Coordinates are continuous: pixel ``i`` covers ``[i, i + 1]`` and its centre is ``i + 0.5``. Resizing, cropping
    and padding only scale and shift the axes, so however many there were, one rectangle holds them all.

    Attributes:
        original: ``(H, W)`` of the upright original, pixels.
        input: ``(h, w)`` of the model's input, pixels.
        box: ``(left, top, right, bottom)``, the rectangle that the input spans, in pixels of the original: larger
            than the photo where it was padded, smaller where it was cropped.
        shown: the part of ``box`` that holds photo. None stands for all of the photo inside ``box``; it is less
            when what was cropped away was padded again.
        frames: for a clip, the original number of each input frame, None for a photo.
        n_frames: for a clip, how many frames the file has.
    """

    original: Size
    input: Size
    box: Box
    shown: Box | None = None
    frames: tuple[int, ...] | None = None
    n_frames: int | None = None

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if min(*self.original, *self.input) < 1 or not (right > left and bottom > top):
            raise ValueError(f"a geometry needs an extent: {self.original=}, {self.input=}, {self.box=}")
        if self.frames is not None:
            if not self.frames or min(self.frames) < 0:
                raise ValueError(f"frames must be numbers counted from 0, got {self.frames}")
            if self.n_frames is None:
                object.__setattr__(self, "n_frames", max(self.frames) + 1)
            elif self.n_frames <= max(self.frames):
                raise ValueError(f"frame {max(self.frames)} does not exist in a file of {self.n_frames} frames")

    # -- building ------------------------------------------------------------------------------------------------

    @classmethod
    def identity(cls, height: int, width: int) -> Geometry:
        """The photo itself as input."""
        return cls((height, width), (height, width), (0.0, 0.0, float(width), float(height)))

    def resize(self, height: int, width: int) -> Geometry:
        """After scaling the input to ``(height, width)``, each axis on its own."""
        return replace(self, input=(height, width))

    def crop(self, top: int, left: int, height: int, width: int) -> Geometry:
        """After cutting ``[top : top + height, left : left + width]`` out of the input.

        What lies outside the input is padding: ``top`` and ``left`` may be negative, and the cut may reach beyond
        the other end.
        """
        x0, y0 = self.point_to_original(float(left), float(top))
        x1, y1 = self.point_to_original(float(left + width), float(top + height))
        cut = replace(self, input=(height, width), box=(x0, y0, x1, y1), shown=None)
        shown = _intersect(self.visible, cut.box)
        return cut if shown == cut.visible else replace(cut, shown=shown)

    def pad(self, left: int, top: int, right: int, bottom: int) -> Geometry:
        """After adding that many input pixels on each side (the order torchvision uses)."""
        height, width = self.input
        return self.crop(-top, -left, height + top + bottom, width + left + right)

    def sample(self, frames: tuple[int, ...], n_frames: int | None = None) -> Geometry:
        """After choosing ``frames`` (original numbers, in the order of the input) of a clip of ``n_frames``."""
        return replace(self, frames=tuple(frames), n_frames=n_frames)

    # -- points and boxes ----------------------------------------------------------------------------------------

    @property
    def visible(self) -> Box:
        """``(left, top, right, bottom)`` of the photo that the model saw, in pixels of the original."""
        if self.shown is not None:
            return self.shown
        height, width = self.original
        return _intersect((0.0, 0.0, float(width), float(height)), self.box)

    def point_to_original(self, x: Number, y: Number) -> tuple[Number, Number]:
        """A point of the input, in pixels of the original (continuous, unclipped). Numbers or tensors."""
        left, top, right, bottom = self.box
        height, width = self.input
        return left + x / width * (right - left), top + y / height * (bottom - top)

    def point_to_input(self, x: Number, y: Number) -> tuple[Number, Number]:
        """A point of the original, in pixels of the input; the inverse of :meth:`point_to_original`."""
        left, top, right, bottom = self.box
        height, width = self.input
        return (x - left) / (right - left) * width, (y - top) / (bottom - top) * height

    def box_to_input(self, boxes: Tensor) -> Tensor:
        """Boxes ``[..., 4]`` as ``(left, top, right, bottom)`` of the original, in pixels of the input; unclipped."""
        x0, y0, x1, y1 = boxes.unbind(-1)
        return torch.stack((*self.point_to_input(x0, y0), *self.point_to_input(x1, y1)), dim=-1)

    # -- maps ----------------------------------------------------------------------------------------------------

    def display_size(self, max_side: int = 1600) -> Size:
        """``(h, w)`` of the original reduced, where it is larger, to ``max_side`` pixels on its longer side."""
        return fit(self.original, max_side)

    def seen(self, size: Size | None = None) -> Tensor:
        """Bool ``[H, W]`` (or ``size``): which pixels of the original the model saw, judged by their centres."""
        rows, columns = self._seen_axes(size or self.original)
        return rows[:, None] & columns[None, :]

    def seen_frames(self) -> Tensor:
        """Bool ``[n_frames]``: which frames of the file the model saw."""
        frames, n_frames = self._clip()
        seen = torch.zeros(n_frames, dtype=torch.bool)
        seen[list(frames)] = True
        return seen

    def seen_part(self, size: Size | None = None) -> tuple[slice, slice]:
        """Rows and columns of the original (or of a drawing of ``size``) that are :meth:`seen`; empty slices if none
        are."""
        rows, columns = (axis.nonzero()[:, 0].tolist() for axis in self._seen_axes(size or self.original))
        if not rows or not columns:
            return slice(0, 0), slice(0, 0)
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def to_seen(self, maps: Tensor, size: Size | None = None) -> Tensor:
        """The part of :meth:`to_original` that the model saw of a photo: ``[..., n, m]`` float32, the n rows and m
        columns of :meth:`seen_part`."""
        _check_dims(maps, 2)
        rows, columns = self.seen_part(size)
        y, x = self._among(_cells(maps), size or self.original)
        return _between(maps, y[rows], x[columns])

    def to_original(self, maps: Tensor, size: Size | None = None, between: bool = False) -> Tensor:
        """Maps over the model's input, carried to the pixels (and frames) of the original.

        Bilinear between the centres of the map's cells, as ``grid_sample(align_corners=False)`` with border
        padding does.

        Args:
            maps: ``[..., h', w']`` of any resolution, spanning the whole input; ``[..., t, h', w']`` for a clip.
            size: ``(h, w)`` to render at instead of the original's own size: the same picture, coarser. Large
                photos should be rendered at :meth:`display_size`.
            between: for a clip, fill skipped frames by interpolating over time. They stay unseen otherwise.

        Returns:
            ``[..., H, W]`` (``size`` if given) or ``[..., n_frames, H, W]``, float32 on the device of ``maps``; NaN
            where the model saw nothing.

        Raises:
            ValueError: too few dimensions.
        """
        if self.frames is None:
            return self._spread(maps, size)
        return torch.stack([frame for _, frame in self.each_frame(maps, size, between)], dim=-3)

    def each_frame(
        self, maps: Tensor, size: Size | None = None, between: bool = False, numbers: Iterable[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """The frames of :meth:`to_original` one by one: ``(frame number, [..., H, W])``; in the file's order, or only
        those ``numbers`` in the order given."""
        _, n_frames = self._clip()
        _check_dims(maps, 3)
        for number in range(n_frames) if numbers is None else numbers:
            places = self._places(number, between)
            if places:
                yield number, self._spread(self._at(maps, places), size)
            else:
                shape = (*maps.shape[:-3], *(size or self.original))
                yield number, torch.full(shape, torch.nan, dtype=torch.float32, device=maps.device)

    def over_time(self, values: Tensor) -> Tensor:
        """Values ``[..., t]`` along a clip's input, spanning all of it, carried to the frames of the original:
        ``[..., n_frames]`` float32, interpolated linearly; NaN for frames that the model did not see."""
        _, n_frames = self._clip()
        found = torch.full((*values.shape[:-1], n_frames), torch.nan, device=values.device)
        found[..., self._numbers] = self._over_seen(values.float())
        return found

    def _over_seen(self, values: Tensor) -> Tensor:
        """``[..., t]`` at the frames that the model saw, in the file's order; one seen several times has the mean."""
        frames, n_frames = self._clip()
        found = interpolate(values, centres(len(frames), values.shape[-1]), -1)
        numbers = torch.tensor(frames, device=values.device)
        totals = values.new_zeros(*values.shape[:-1], n_frames).index_add(-1, numbers, found)
        seen = totals[..., self._numbers]
        return seen / torch.bincount(numbers, minlength=n_frames)[self._numbers]

    def range_in_photo(self, maps: Tensor, size: Size | None = None) -> tuple[Tensor, Tensor] | None:
        """Smallest and largest values of photos' maps ``[K, h', w']`` in the pixels that the model saw, as
        :meth:`to_original` shows them at ``size``: ``[K]`` each, on the device of ``maps``; None if it saw none. Takes
        far less time than showing them."""
        _check_dims(maps, 2)
        found = self._outermost(maps, size or self.original)
        return None if found is None else found.flatten(-2).aminmax(dim=-1)

    def range_in_clip(self, values: Tensor, size: Size | None = None) -> tuple[float, float] | None:
        """Smallest and largest value of a clip's map ``[t, h', w']`` in the pixels and frames that the model saw, as
        :meth:`to_original` shows them at ``size``; None if it saw none. Takes far less time than showing them."""
        _check_dims(values, 3)
        found = self._outermost(values, size or self.original)
        if found is None:
            return None
        shown = self.over_time(found.movedim(0, -1))
        shown = shown[~shown.isnan()]
        return float(shown.min()), float(shown.max())

    def peak(self, values: Tensor) -> tuple[int, int] | None:
        """``(x, y)``, the pixel of the original where a map is largest.

        The map ``[h', w']`` is upsampled bilinearly to the input; the largest input pixel whose centre shows photo
        (not padding) is carried over by its centre; where several that hang together are, the one nearest to their
        middle (of several such places the first in reading order). None where the map is flat
        or not finite, or the model saw no photo.

        Raises:
            ValueError: the map has another number of dimensions, as that of a clip does.
        """
        if values.ndim != 2:
            raise ValueError(
                f"the peak of a photo's map [h, w] was asked for, got {list(values.shape)}; see peak_in_clip"
            )
        return self.peaks(values[None])[0]

    def peaks(self, maps: Tensor) -> list[tuple[int, int] | None]:
        """:meth:`peak` of each of N maps ``[N, h', w']``, in far less time than one by one."""
        values = maps.detach().to("cpu", torch.float64)
        rows, columns, x, y = _candidates(self, values.shape[1], values.shape[2])
        height, width = self.input
        step = max(1, _PIXELS_AT_ONCE // max(1, len(rows) * len(columns)))
        found: list[tuple[int, int] | None] = []
        for part in values.split(step) if len(rows) and len(columns) else ():
            across = interpolate(part, centres(width, part.shape[2])[columns], 2)
            pixels = interpolate(across, centres(height, part.shape[1])[rows], 1)
            flat = pixels.flatten(1)
            best, places = flat.max(1)
            ties = (flat == best[:, None]).sum(1)
            shown = (best > flat.amin(1)) & part.flatten(1).isfinite().all(1)
            for number, (place, tied, some) in enumerate(
                zip(places.tolist(), ties.tolist(), shown.tolist(), strict=True)
            ):
                row, column = divmod(place, len(columns))
                if tied > 1 and some:
                    row, column = _middle(pixels[number] == best[number], row, column)
                found.append(self._pixel(x[columns[column]], y[rows[row]]) if some else None)
        return found or [None] * len(values)

    def peak_in_clip(self, values: Tensor) -> tuple[int, int, int] | None:
        """``(x, y, frame)`` where a clip's map ``[t, h', w']`` is largest: :meth:`peak` over space and time."""
        self._clip()
        _check_dims(values, 3)
        found = self._peak(values, self._over_seen)
        return None if found is None else (*found[:2], self._numbers[found[2]])

    # -- storing -------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` reads it back."""
        record: dict[str, Any] = {name: list(getattr(self, name)) for name in ("original", "input", "box")}
        for name in ("shown", "frames"):
            value = getattr(self, name)
            record[name] = None if value is None else list(value)
        return {**record, "n_frames": self.n_frames}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Geometry:
        """Inverse of :meth:`to_dict`."""

        def read(name: str) -> Any:
            return None if record[name] is None else tuple(record[name])

        names = ("original", "input", "box", "shown", "frames")
        return cls(**{name: read(name) for name in names}, n_frames=record["n_frames"])

    # -- inside --------------------------------------------------------------------------------------------------

    def _clip(self) -> tuple[tuple[int, ...], int]:
        if self.frames is None or self.n_frames is None:
            raise ValueError("this geometry is a photo's: it has no frames")
        return self.frames, self.n_frames

    def _seen_axes(self, size: Size) -> tuple[Tensor, Tensor]:
        left, top, right, bottom = self.visible
        y, x = (grid(count, extent) for count, extent in zip(size, self.original, strict=True))
        return (y >= top) & (y < bottom), (x >= left) & (x < right)

    def _among(self, cells: Size, size: Size) -> tuple[Tensor, Tensor]:
        """Where the rows and the columns of a drawing of ``size`` lie among those of a map of ``cells``."""
        left, top, right, bottom = self.box
        y, x = (grid(count, extent) for count, extent in zip(size, self.original, strict=True))
        return (y - top) / (bottom - top) * cells[0] - 0.5, (x - left) / (right - left) * cells[1] - 0.5

    def _spread(self, maps: Tensor, size: Size | None) -> Tensor:
        """One spatial map ``[..., h', w']`` over the original, NaN where unseen."""
        _check_dims(maps, 2)
        size = size or self.original
        out = _between(maps, *self._among(_cells(maps), size))
        rows, columns = (axis.to(maps.device) for axis in self._seen_axes(size))
        return out.masked_fill_(~rows[:, None], torch.nan).masked_fill_(~columns, torch.nan)

    def _outermost(self, maps: Tensor, size: Size) -> Tensor | None:
        """Those values of :meth:`_spread` among which the smallest and the largest seen ones are: ``[..., n, m]``."""
        y, x = self._among(_cells(maps), size)
        (high, wide), (seen_y, seen_x) = _cells(maps), self._seen_axes(size)
        rows, columns = _extremes(y, high, seen_y), _extremes(x, wide, seen_x)
        return _between(maps, y[rows], x[columns]) if len(rows) and len(columns) else None

    def _peak(self, values: Tensor, over_time: Callable[[Tensor], Tensor]) -> tuple[int, int, int] | None:
        """Where ``[t, h', w']``, upsampled and carried ``over_time`` (``[..., t] → [..., n]``), is largest: (x, y,
        number of the n).

        """
        values = values.detach().to("cpu", torch.float64)
        height, width = self.input
        rows, columns, x, y = _candidates(self, values.shape[1], values.shape[2])
        if not values.isfinite().all() or not len(rows) or not len(columns):
            return None
        across = interpolate(values, centres(width, values.shape[2])[columns], 2)
        best, lowest, found, ties = -torch.inf, torch.inf, (0, 0, 0), 0
        step = max(1, _PIXELS_AT_ONCE // (len(columns) * self._steps(values)))

        def strip(start: int) -> Tensor:
            part = interpolate(across, centres(height, values.shape[1])[rows[start : start + step]], 1)
            return over_time(part.movedim(0, -1)).movedim(-1, 0)

        for start in range(0, len(rows), step):
            part = strip(start)
            highest = float(part.max())
            lowest = min(lowest, float(part.min()))
            place, pixel = divmod(int(part.argmax()), part.shape[1] * part.shape[2])
            ties = int((part == highest).sum()) + (ties if highest == best else 0) if highest >= best else ties
            if highest > best or (highest == best and place < found[0]):
                best, found = highest, (place, start + pixel // len(columns), pixel % len(columns))
        if not best > lowest:
            return None
        place, row, column = found
        if ties > 1:
            tied = torch.cat([strip(start)[place] == best for start in range(0, len(rows), step)])
            row, column = _middle(tied, row, column)
        return (*self._pixel(x[columns[column]], y[rows[row]]), place)

    def _pixel(self, x: Tensor, y: Tensor) -> tuple[int, int]:
        """The pixel of the original that a point lies in."""
        height, width = self.original
        return min(max(int(x.floor()), 0), width - 1), min(max(int(y.floor()), 0), height - 1)

    def _steps(self, values: Tensor) -> int:
        """How many values a place has over time: of the map's ``[t, h', w']``, or of the frames."""
        return max(len(values), self.n_frames or 1)

    @cached_property
    def _takes(self) -> dict[int, list[float]]:
        """Number of a frame of the file → where in the input it stands, counted from 0; frames in the file's order."""
        frames, _ = self._clip()
        takes: dict[int, list[float]] = {number: [] for number in sorted(set(frames))}
        for place, number in enumerate(frames):
            takes[number].append(float(place))
        return takes

    @cached_property
    def _numbers(self) -> list[int]:
        """Numbers of the frames that were taken, increasing."""
        return list(self._takes)

    def _places(self, number: int, between: bool) -> list[float]:
        """Where in the input (frames counted from 0, fractions in between) a frame of the file is found."""
        if number in self._takes:
            return self._takes[number]
        after = bisect_left(self._numbers, number)
        if not between or after in (0, len(self._numbers)):
            return []
        low, high = self._numbers[after - 1], self._numbers[after]
        # A frame may have been taken more than once (short clips are held or looped): the nearest takes are used.
        start, end = self._takes[low][-1], self._takes[high][0]
        return [start + (number - low) / (high - low) * (end - start)]

    def _at(self, maps: Tensor, places: list[float]) -> Tensor:
        """The mean of the maps ``[..., t, h', w']`` at some places of the input's time axis."""
        frames, _ = self._clip()
        where = (torch.tensor(places, dtype=torch.float64) + 0.5) / len(frames) * maps.shape[-3] - 0.5
        return interpolate(maps.float(), where, -3).mean(dim=-3)


@lru_cache(maxsize=256)
def _candidates(geometry: Geometry, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows and columns of the input's pixels among which a map of ``rows`` × ``columns`` cells is largest where the
    model saw photo, and where all columns and all rows of the input lie in the original.

    Between the centres of neighbouring cells an interpolated map is bilinear, and so largest (and smallest) at the
    outermost of the pixels that lie there: no others need to be looked at. Many photos have the same few sizes, so
    that this is kept for the next one.
    """
    height, width = geometry.input
    x, y = geometry.point_to_original(grid(width, width), grid(height, height))
    left, top, right, bottom = geometry.visible
    return (
        _extremes(centres(height, rows), rows, (y >= top) & (y < bottom)),
        _extremes(centres(width, columns), columns, (x >= left) & (x < right)),
        x,
        y,
    )


def _middle(tied: Tensor, row: int, column: int) -> tuple[int, int]:
    """The true place ``(row, column)`` of ``tied`` nearest to the middle of those that hang together with a given one,
    corners included."""
    rows, columns = tied.numpy().nonzero()
    top, left, bottom, right = int(rows[0]), int(columns.min()), int(rows[-1]), int(columns.max())
    if (bottom - top + 1) * (right - left + 1) == len(rows):  # a rectangle, as at the photo's edges: most are
        return (top + bottom) // 2, (left + right) // 2
    from scipy import ndimage

    labels, _ = ndimage.label(tied.numpy(), np.ones((3, 3)))
    places = np.argwhere(labels == labels[row, column])
    nearest = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return int(nearest[0]), int(nearest[1])


def _extremes(where: Tensor, cells: int, inside: Tensor) -> Tensor:
    """Numbers of those pixels ``inside`` that come first or last between the centres of two cells.

    Args:
        where: ``[n]``, the pixels' places among the cells, increasing.
        cells: how many there are.
        inside: bool ``[n]``, a stretch of them.
    """
    chosen = inside.nonzero()[:, 0]
    if not len(chosen):
        return chosen
    within = where[chosen].contiguous()
    middles = torch.arange(cells, dtype=within.dtype)
    after = torch.searchsorted(within, middles)
    before = torch.searchsorted(within, middles, right=True) - 1
    edges = torch.tensor([0, len(chosen) - 1])
    picked = torch.cat((after, before, edges)).clamp(0, len(chosen) - 1).unique()
    return chosen[picked]


def fit(size: Size, max_side: int) -> Size:
    """``(h, w)`` scaled down, where it is larger, to ``max_side`` on the longer side; never below one pixel."""
    height, width = size
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _cells(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]


def _between(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Maps ``[..., h', w']`` read at ``[n]`` places along their rows and ``[m]`` along their columns: ``[..., n, m]``.

    Columns first, while there are few rows: copying whole rows afterwards is several times as fast.
    """
    return interpolate(interpolate(maps.float(), x, -1), y, -2)


def _intersect(one: Box, other: Box) -> Box:
    return (max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))


def _check_dims(maps: Tensor, least: int) -> None:
    if maps.ndim < least or 0 in maps.shape[-least:]:
        raise ValueError(f"expected maps of at least {least} dimensions, none of them empty, got {list(maps.shape)}")
