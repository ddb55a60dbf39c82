"""From a raw map to what is drawn: laid over the photo, scaled to its own strongest value, told what it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.explanation import Explanation, MapKey
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
        values = laid.numpy()
        seen = ~np.isnan(values.reshape(-1, *values.shape[-2:])[0])
        if self.kind == "pixels":
            values = np.moveaxis(np.repeat(values, 3, axis=0) if len(values) == 1 else values, 0, -1)
        if self.limit == 0:
            return Heat(self.kind, np.zeros(values.shape, np.float32), seen, self.note, self.colormap)
        lowest = 0.0 if self.kind == "evidence" else -1.0
        scaled = np.clip(np.nan_to_num(values) / np.float32(self.limit), lowest, 1.0)
        return Heat(self.kind, scaled.astype(np.float32, copy=False), seen, self.note, self.colormap)


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
    laid = explanation.geometry.to_original(values, size=size or picture_size(explanation))
    return replace(_scale(kind, laid, note), colormap=colormap_of(key, kind)).draw(laid)


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
    """The raw map as it is resampled: float32 on the CPU, from -1 to 1, zero for NaN and infinities, and a note if
    there were any. ``[*S]``, for "pixels" ``[C, *S]``. Of a grainy map the strongest values are cut off.

    It is scaled before it is resampled: values near the smallest floats would drown on the way.
    """
    raw = explanation.maps[key][number] if kind == "pixels" else explanation.map(number, key.layer, key.method)
    values = raw.detach().cpu().double()
    finite = torch.isfinite(values)
    bad = values.numel() - int(finite.sum().item())
    note = None
    if bad:
        share = "the whole map is" if bad == values.numel() else f"{bad} of {values.numel()} values are"
        values, note = values.where(finite, 0.0), f"{share} NaN or infinite"
    known = find(key.method)
    if known and known.grainy:
        limit = float(np.quantile(values.abs().numpy(), SATURATED_OVER_PHOTO))
        values = values.clamp(-limit, limit) if limit > 0 else values
    largest = values.abs().max()
    return (values / largest if largest > 0 else values).float(), note


def scale_between(kind: Kind, low: float, high: float, note: str | None) -> Scale:
    """The scale of "evidence" or "signed" values that run from ``low`` to ``high``, as far as they were seen."""
    largest = max(abs(low), abs(high))
    if largest == 0 or high - low <= FLAT * largest:
        level = "zero" if largest == 0 else "the same"
        return Scale(kind, 0.0, note or f"flat map: {level} everywhere")
    if kind == "signed":
        return Scale(kind, largest, note)
    if high <= 0:
        return Scale(kind, 0.0, note or "no evidence for it anywhere: the map is negative")
    return Scale(kind, high, note)


def scale_of_pixels(strengths: Tensor, note: str | None) -> Scale:
    """The scale of a "pixels" map, from the absolute values that were seen."""
    listed = strengths.numpy()
    limit = float(np.quantile(listed, SATURATED)) if listed.size else 0.0
    if limit == 0 and listed.size:
        limit = float(listed.max())
    return Scale("pixels", limit, note if limit else note or "flat map: zero everywhere")


def _scale(kind: Kind, laid: Tensor, note: str | None) -> Scale:
    seen = laid[~laid.isnan()]
    if kind == "pixels":
        return scale_of_pixels(seen.abs(), note)
    low, high = (float(seen.min()), float(seen.max())) if seen.numel() else (0.0, 0.0)
    return scale_between(kind, low, high, note)
