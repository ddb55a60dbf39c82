"""How the model's input lies over the original file: preprocessing as a map that can be inverted exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from mmexplain.interpolate import centres, grid, interpolate

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Number = TypeVar("Number", float, Tensor)


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

    def each_frame(self, maps: Tensor, size: Size | None = None, between: bool = False) -> Iterator[tuple[int, Tensor]]:
        """The frames of :meth:`to_original` one by one: ``(frame number, [..., H, W])``, in the file's order."""
        _, n_frames = self._clip()
        _check_dims(maps, 3)
        for number in range(n_frames):
            places = self._places(number, between)
            if places:
                yield number, self._spread(self._at(maps, places), size)
            else:
                shape = (*maps.shape[:-3], *(size or self.original))
                yield number, torch.full(shape, torch.nan, dtype=torch.float32, device=maps.device)

    def peak(self, values: Tensor) -> tuple[int, int] | None:
        """``(x, y)``, the pixel of the original where a map is largest.

        The map ``[h', w']`` is upsampled bilinearly to the input; the largest input pixel whose centre shows photo
        (not padding), the first in reading order on ties, is carried over by its centre. None where the map is flat
        or not finite, or the model saw no photo.

        Raises:
            ValueError: the map has another number of dimensions, as that of a clip does.
        """
        if values.ndim != 2:
            raise ValueError(
                f"the peak of a photo's map [h, w] was asked for, got {list(values.shape)}; see peak_in_clip"
            )
        found = self._peak(values[None])
        return None if found is None else found[:2]

    def peak_in_clip(self, values: Tensor) -> tuple[int, int, int] | None:
        """``(x, y, frame)`` where a clip's map ``[t, h', w']`` is largest: :meth:`peak` over space and time."""
        frames, _ = self._clip()
        _check_dims(values, 3)
        upsampled = interpolate(values.detach().to("cpu", torch.float64), centres(len(frames), values.shape[0]), 0)
        found = self._peak(upsampled)
        return None if found is None else (*found[:2], frames[found[2]])

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

    def _spread(self, maps: Tensor, size: Size | None) -> Tensor:
        """One spatial map ``[..., h', w']`` over the original, NaN where unseen."""
        _check_dims(maps, 2)
        size = size or self.original
        left, top, right, bottom = self.box
        y, x = (grid(count, extent) for count, extent in zip(size, self.original, strict=True))
        # Columns first, while there are few rows: copying whole rows afterwards is several times as fast.
        out = interpolate(maps.float(), (x - left) / (right - left) * maps.shape[-1] - 0.5, -1)
        out = interpolate(out, (y - top) / (bottom - top) * maps.shape[-2] - 0.5, -2)
        rows, columns = (axis.to(maps.device) for axis in self._seen_axes(size))
        return out.masked_fill_(~rows[:, None], torch.nan).masked_fill_(~columns, torch.nan)

    def _peak(self, values: Tensor) -> tuple[int, int, int] | None:
        """Place of the maximum of ``[t, h', w']`` as (x, y, number of the slice)."""
        values = values.detach().to("cpu", torch.float64)
        if not values.isfinite().all():
            return None
        height, width = self.input
        values = interpolate(values, centres(width, values.shape[-1]), -1)
        values = interpolate(values, centres(height, values.shape[-2]), -2)
        x, y = self.point_to_original(grid(width, width), grid(height, height))
        left, top, right, bottom = self.visible
        inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
        if not inside.any():
            return None
        candidates = values[:, inside]
        if not candidates.max() > candidates.min():
            return None
        best = int(values.masked_fill(~inside, -torch.inf).argmax())
        place, row, column = best // (height * width), best // width % height, best % width
        rows, columns = self.original
        return (
            min(max(int(x[column].floor()), 0), columns - 1),
            min(max(int(y[row].floor()), 0), rows - 1),
            place,
        )

    def _places(self, number: int, between: bool) -> list[float]:
        """Where in the input (frames counted from 0, fractions in between) a frame of the file is found."""
        frames, _ = self._clip()
        places = [float(place) for place, frame in enumerate(frames) if frame == number]
        earlier = [frame for frame in frames if frame < number]
        later = [frame for frame in frames if frame > number]
        if places or not (between and earlier and later):
            return places
        low, high = max(earlier), min(later)
        # A frame may have been taken more than once (short clips are held or looped): the nearest takes are used.
        start, end = len(frames) - 1 - frames[::-1].index(low), frames.index(high)
        return [start + (number - low) / (high - low) * (end - start)]

    def _at(self, maps: Tensor, places: list[float]) -> Tensor:
        """The mean of the maps ``[..., t, h', w']`` at some places of the input's time axis."""
        frames, _ = self._clip()
        where = (torch.tensor(places, dtype=torch.float64) + 0.5) / len(frames) * maps.shape[-3] - 0.5
        return interpolate(maps.float(), where, -3).mean(dim=-3)


def fit(size: Size, max_side: int) -> Size:
    """``(h, w)`` scaled down, where it is larger, to ``max_side`` on the longer side; never below one pixel."""
    height, width = size
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _intersect(one: Box, other: Box) -> Box:
    return (max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))


def _check_dims(maps: Tensor, least: int) -> None:
    if maps.ndim < least or 0 in maps.shape[-least:]:
        raise ValueError(f"expected maps of at least {least} dimensions, none of them empty, got {list(maps.shape)}")
