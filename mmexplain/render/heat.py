"""From a raw map to what is drawn: laid over the photo, scaled to its own strongest value, told what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.methods import METHODS
from mmexplain.targets import Target

Kind = Literal["evidence", "signed", "pixels"]

# Differences below this share of the largest value are rounding, not a map.
FLAT = 1e-6
# Pixel gradients have long tails; the customary picture saturates its strongest 0.5 %.
SATURATED = 0.995


@dataclass(frozen=True)
class Heat:
    """One map, ready to be painted. Scaling is for display only: maps of two words do not share a scale.

    Attributes:
        kind: "evidence": values from 0 to 1; "signed": from -1 to 1; "pixels": a colour image from -1 to 1.
        values: ``[h, w]`` float32, or ``[h, w, 3]`` for "pixels"; 0 where unseen.
        seen: ``[h, w]`` bool, False where the model never looked.
        note: what a reader must know (the map is flat, holds NaN); None mostly.
    """

    kind: Kind
    values: NDArray[np.float32]
    seen: NDArray[np.bool_]
    note: str | None = None


def heat(
    explanation: Explanation,
    target: int | str | Target = 0,
    layer: str | None = None,
    method: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    signed: bool | None = None,
) -> Heat:
    """The map of one target as it is drawn over a photo of ``size``.

    Args:
        explanation: where the map is taken from.
        target: number, label or target.
        layer: layer name; the first that fits where left out.
        method: method name; the first that fits where left out.
        size: ``(h, w)`` of the drawing; the display photo's where left out.
        signed: draw negative values too; by default as the method's registry entry says.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: the explanation is of a clip.
    """
    if explanation.geometry.frames is not None:
        raise InputError("this explanation is of a clip: its maps cannot be drawn over one photo")
    key = explanation.key(layer, method)
    number = explanation.find(target)
    if size is None:
        size = (explanation.picture.pixels.shape[0], explanation.picture.pixels.shape[1])
    kind = kind_of(explanation, key, signed)
    raw = explanation.maps[key][number] if kind == "pixels" else explanation.map(number, key.layer, key.method)
    finite, note = _finite(raw.detach().cpu())
    scale = finite.abs().max()
    if scale > 0:
        # Scaled before it is resampled: values near the smallest floats would drown on the way.
        finite = finite / scale
    laid = explanation.geometry.to_original(finite.float(), size=size)
    seen = np.asarray(explanation.geometry.seen(size).cpu().numpy(), dtype=np.bool_)
    seen = seen & ~np.isnan(laid.reshape(-1, *size)[0].cpu().numpy())
    values = np.nan_to_num(laid.cpu().numpy()).astype(np.float32)
    if kind == "pixels":
        return _pixels(values, seen, note)
    return _scalar(values, seen, note, kind)


def kind_of(explanation: Explanation, key: MapKey, signed: bool | None = None) -> Kind:
    """How maps of ``key`` are drawn; ``signed`` overrides what the method's registry entry says."""
    if key.method in explanation.pixel_methods and explanation.maps[key].shape[1] in (1, 3) and signed is None:
        return "pixels"
    if signed is None:
        known = METHODS.get(key.method)
        signed = known.signed if known else False
    return "signed" if signed else "evidence"


def _finite(raw: Tensor) -> tuple[Tensor, str | None]:
    """The map in float64 with NaN and infinities set to zero, and a note if there were any."""
    values = raw.double()
    bad = int((~torch.isfinite(values)).sum().item())
    if not bad:
        return values, None
    share = "the whole map is" if bad == values.numel() else f"{bad} of {values.numel()} values are"
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), f"{share} NaN or infinite"


def _scalar(values: NDArray[np.float32], seen: NDArray[np.bool_], note: str | None, kind: Kind) -> Heat:
    inside = values[seen]
    largest = float(np.abs(inside).max()) if inside.size else 0.0
    spread = float(inside.max() - inside.min()) if inside.size else 0.0
    top = float(inside.max()) if inside.size else 0.0
    if largest == 0 or spread <= FLAT * largest:
        level = "zero" if largest == 0 else "the same"
        return Heat(kind, np.zeros_like(values), seen, note or f"flat map: {level} everywhere")
    if kind == "signed":
        return Heat(kind, np.where(seen, values / largest, 0).astype(np.float32), seen, note)
    if top <= 0:
        return Heat(kind, np.zeros_like(values), seen, note or "no evidence for it anywhere: the map is negative")
    return Heat(kind, np.where(seen, np.clip(values / top, 0, 1), 0).astype(np.float32), seen, note)


def _pixels(values: NDArray[np.float32], seen: NDArray[np.bool_], note: str | None) -> Heat:
    image = np.repeat(values, 3, axis=0) if values.shape[0] == 1 else values
    image = np.moveaxis(image, 0, -1)
    strengths = np.abs(image[seen])
    limit = float(np.quantile(strengths, SATURATED)) if strengths.size else 0.0
    if limit == 0 and strengths.size:
        limit = float(strengths.max())
    if limit == 0:
        return Heat("pixels", np.zeros_like(image), seen, note or "flat map: zero everywhere")
    shown = np.where(seen[..., None], np.clip(image / limit, -1, 1), 0)
    return Heat("pixels", shown.astype(np.float32), seen, note)
