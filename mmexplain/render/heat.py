"""From a raw map to what is drawn: laid over the photo, scaled to its own strongest value, told what it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.explanation import Explanation, MapKey, strongest_colour
from mmexplain.methods import find
from mmexplain.targets import Target

Kind = Literal["evidence", "signed", "pixels"]

# Differences below this share of the largest value are rounding, not a map.
FLAT = 1e-6
# Pixel gradients have long tails; the customary picture saturates its strongest 0.5 %.
SATURATED = 0.995
# Over a photo, one value at a pixel instead of a colour, a map of them is legible from here on.
SATURATED_OVER_PHOTO = 0.98


@dataclass(frozen=True)
class Heat:
    """One map, ready to be painted. Scaling is for display only: maps of two words do not share a scale.

    Attributes:
        kind: "evidence": values from 0 to 1; "signed": from -1 to 1; "pixels": a colour image from -1 to 1.
        values: ``[h, w]`` float32, or ``[h, w, 3]`` for "pixels"; 0 where unseen.
        seen: ``[h, w]`` bool, False where the model never looked.
        note: what a reader must know (the map is flat, holds NaN); None mostly.
        colormap: the method's own, for "signed"; None mostly.
    """

    kind: Kind
    values: NDArray[np.float32]
    seen: NDArray[np.bool_]
    note: str | None = None
    colormap: str | None = None


@dataclass(frozen=True)
class Scale:
    """How the values of a photo's map, or of all frames of a clip's, become colours.

    Attributes:
        kind: how they are drawn.
        limit: the value that is drawn at full strength; 0 where there is nothing to draw.
        note: what a reader must know; None mostly.
        colormap: the method's own, for "signed"; None mostly.
    """

    kind: Kind
    limit: float
    note: str | None = None
    colormap: str | None = None

    def draw(self, laid: Tensor) -> Heat:
        """The heat of one photo or frame: ``[h, w]``, or ``[C, h, w]`` with C 1 or 3 for "pixels"; NaN where unseen."""
        seen = ~laid.isnan().view(-1, *laid.shape[-2:])[0]
        values = scaled(self.kind, laid.nan_to_num(), torch.tensor(self.limit))
        if self.kind == "pixels":
            values = values.expand(3, -1, -1).movedim(0, -1).contiguous()
        return Heat(self.kind, values.numpy(), seen.numpy(), self.note, self.colormap)


def heat(
    explanation: Explanation,
    target: int | str | Target = 0,
    layer: str | None = None,
    method: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    signed: bool | None = None,
    frame: int | None = None,
) -> Heat:
    """The map of one target as it is drawn over a photo, or over one frame of a clip, of ``size``.

    Args:
        explanation: where the map is taken from.
        target: number, label or target.
        layer: layer name; the first that fits where left out.
        method: method name; the first that fits where left out.
        size: ``(h, w)`` of the drawing; the display photo's where left out.
        signed: draw negative values too; by default as the method's registry entry says.
        frame: which frame of a clip, by its number in the file; the one with the map's peak where left out. For many
            frames :class:`~mmexplain.render.clip_heat.ClipHeat` is the faster way.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: no such frame, or a frame of a photo.
    """
    if explanation.geometry.frames is not None or frame is not None:
        from mmexplain.render.clip_heat import ClipHeat, frame_of

        number = frame_of(explanation, target, layer, method, frame)
        return ClipHeat(explanation, target, layer, method, size=size, signed=signed).at(number)
    key = explanation.key(layer, method)
    kind = kind_of(explanation, key, signed)
    values, note = unit_values(explanation, key, explanation.find(target), kind)
    geometry, size = explanation.geometry, size or picture_size(explanation)
    laid = geometry.to_original(values, size)
    if kind == "pixels":
        scale = scale_of_pixels(laid[~laid.isnan()].abs(), note)
    else:
        low, high = geometry.range_in_photo(values, size) or (torch.zeros(()), torch.zeros(()))
        scale = scale_between(kind, float(low), float(high), note)
    return replace(scale, colormap=colormap_of(key, kind)).draw(laid)


def picture_size(explanation: Explanation) -> tuple[int, int]:
    """``(h, w)`` of the display photo, or of the display frames of a clip."""
    return explanation.picture.pixels.shape[-3], explanation.picture.pixels.shape[-2]


def kind_of(explanation: Explanation, key: MapKey, signed: bool | None = None) -> Kind:
    """How maps of ``key`` are drawn; ``signed`` overrides what the method's registry entry says."""
    if key.method in explanation.pixel_methods and explanation.maps[key].shape[1] in (1, 3) and signed is None:
        return "pixels"
    if signed is None:
        known = find(key.method)
        signed = known.signed if known else False
    return "signed" if signed else "evidence"


def colormap_of(key: MapKey, kind: str) -> str | None:
    """The colour map that the method of ``key`` has for itself; None mostly."""
    known = find(key.method) if kind == "signed" else None
    return known.colormap if known else None


def unit_values(explanation: Explanation, key: MapKey, number: int, kind: Kind) -> tuple[Tensor, str | None]:
    """The raw map of one target as :func:`unit_maps` makes it, on the CPU, and a note if values were not finite.
    ``[*S]``, for "pixels" ``[C, *S]``."""
    (values,), (bad,) = unit_maps(explanation, key, slice(number, number + 1), kind)
    count, note = int(bad), None
    if count:
        share = "the whole map is" if count == values.numel() else f"{count} of {values.numel()} values are"
        note = f"{share} NaN or infinite"
    return values.cpu(), note


def unit_maps(explanation: Explanation, key: MapKey, which: slice, kind: Kind) -> tuple[Tensor, Tensor]:
    """The raw maps of K targets as they are resampled: float32 from -1 to 1, zero for NaN and infinities. Of a grainy
    map the strongest values are cut off.

    They are scaled before they are resampled: values near the smallest floats would drown on the way.

    Returns:
        ``[K, *S]``, for "pixels" ``[K, C, *S]``, and how many values of each were not finite: ``[K]``. On the device
        :func:`drawn_on`, which is not waited for.
    """
    raw = explanation.maps[key][which].detach().to(drawn_on(explanation.maps[key]))
    values = (
        strongest_colour(raw, 1) if key.method in explanation.pixel_methods and kind != "pixels" else raw
    ).double()
    finite = values.isfinite()
    values = values.where(finite, 0.0)
    each = (-1, *[1] * (values.ndim - 1))
    known = find(key.method)
    if known and known.grainy:
        limit = quantile(values.abs().flatten(1), SATURATED_OVER_PHOTO).view(each)
        limit = limit.where(limit > 0, torch.inf)
        values = values.clamp(-limit, limit)
    largest = values.abs().flatten(1).amax(1).view(each)
    return (values / largest.where(largest > 0, 1.0)).float(), (~finite).flatten(1).sum(1)


def drawn_on(maps: Tensor) -> torch.device:
    """Where maps are drawn: where they are, but for Apple's GPUs, which have no float64."""
    return torch.device("cpu") if maps.device.type == "mps" else maps.device


def quantile(values: Tensor, share: float) -> Tensor:
    """``numpy.quantile(..., axis=1)`` of ``[K, n]``: ``[K]``, on the same device. Torch's own takes no more than 16
    million values."""
    place = share * (values.shape[1] - 1)
    low = int(place)
    # The few that are larger are found faster than all are sorted.
    top = values.topk(values.shape[1] - low, dim=1).values
    return top[:, -1].lerp(top[:, -2 if place > low else -1], place - low)


def limits(kind: Kind, low: Tensor, high: Tensor) -> Tensor:
    """Of "evidence" or "signed" maps whose seen values run from ``low`` to ``high`` the value that is drawn at full
    strength; 0 where there is nothing to draw. ``[K]`` float64 each."""
    largest = torch.maximum(low.abs(), high.abs())
    drawn = largest if kind == "signed" else high.clamp(min=0)
    return drawn.masked_fill(high - low <= FLAT * largest, 0.0)


def limits_of_pixels(strengths: Tensor) -> Tensor:
    """As :func:`limits`, ``[K]``, of "pixels" maps whose seen values are of these magnitudes, ``[K, n]``."""
    if not strengths.shape[1]:
        return strengths.new_zeros(len(strengths))
    found = quantile(strengths, SATURATED)
    return found.where(found > 0, strengths.amax(1))


def scaled(kind: Kind, laid: Tensor, limit: Tensor) -> Tensor:
    """Values for :class:`Heat`: ``laid`` with ``limit``, which broadcasts against it, at full strength."""
    limit = limit.to(laid.dtype)
    return (laid / limit.where(limit > 0, torch.inf)).clamp_(0.0 if kind == "evidence" else -1.0, 1.0)


def scale_between(kind: Kind, low: float, high: float, note: str | None) -> Scale:
    """The scale of "evidence" or "signed" values that run from ``low`` to ``high``, as far as they were seen."""
    limit = float(limits(kind, *torch.tensor([low, high], dtype=torch.float64)))
    if limit:
        return Scale(kind, limit, note)
    if low == high == 0:
        return Scale(kind, 0.0, note or "flat map: zero everywhere")
    if kind == "evidence" and high <= 0 and high - low > FLAT * -low:
        return Scale(kind, 0.0, note or "no evidence for it anywhere: the map is negative")
    return Scale(kind, 0.0, note or "flat map: the same everywhere")


def scale_of_pixels(strengths: Tensor, note: str | None) -> Scale:
    """The scale of a "pixels" map, from the absolute values that were seen."""
    limit = float(limits_of_pixels(strengths.reshape(1, -1)))
    return Scale("pixels", limit, note if limit else note or "flat map: zero everywhere")
