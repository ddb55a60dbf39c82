"""Running the part of a model that sees the photo in a lower precision, and everything after it in float32.

Maps are means and sums of many small numbers that cancel, which is no work for 8 bits of mantissa; the convolutions
and matrix products before them are robust, and take nearly all of the time. So ``encode`` runs under autocast, and what
leaves it is float32: the activations kept at the tapped layers, the features that ``decode`` reads, the scores, the
gradients and the maps. Layers between a tap and the features run in the lower precision, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmexplain.errors import DeviceError, ModelError
from mmexplain.precisions import require_known

Encode = Callable[[dict[str, Tensor]], Tensor]

_HALF = (torch.bfloat16, torch.float16)


def lowered(precision: str, photo: Tensor) -> torch.dtype | None:
    """The type that ``encode`` is to run in, or None where the model runs as it is: for "float32", whatever the model's
    own type, and for the type that it has already.

    Args:
        precision: one of :data:`~mmexplain.precisions.PRECISIONS`.
        photo: in the model's floating type, where the model is.

    Raises:
        InputError: no such precision.
        ModelError: the model is neither in float32 nor in that type.
        DeviceError: float16 on a CPU.
    """
    require_known(precision)
    wanted: torch.dtype = getattr(torch, precision)
    if precision == "float32" or photo.dtype == wanted:
        return None
    if photo.dtype != torch.float32:
        own = str(photo.dtype).removeprefix("torch.")
        raise ModelError(
            f"precision {precision!r} is for models in float32, and this one is in {own}: leave it out, or load the "
            "model in float32"
        )
    if wanted == torch.float16 and photo.device.type == "cpu":
        # PyTorch can, at ten to thirty times the time of float32.
        raise DeviceError("precision 'float16' is for GPUs: a CPU is slower with it than with float32; use 'bfloat16'")
    return wanted


def in_precision(encode: Encode, dtype: torch.dtype | None, device: torch.device) -> Encode:
    """``encode`` under autocast to ``dtype``, with features in float32; as it is where ``dtype`` is None."""
    if dtype is None:
        return encode

    def lower(inputs: dict[str, Tensor]) -> Tensor:
        # Without autocast's cache: within the caller's own autocast it would outlive this block, with copies of the
        # weights that were made without a graph, which the caller's training would then not reach through.
        with torch.autocast(device.type, dtype, cache_enabled=False):
            features: Any = encode(inputs)
        return widened(features) if isinstance(features, Tensor) else features

    return lower


def widened(value: Tensor) -> Tensor:
    """Half precision as float32; anything else as it is, the same tensor."""
    return value.float() if value.dtype in _HALF else value


def told(dtype: torch.dtype | None, photo: Tensor) -> str:
    """What ``encode`` runs in, for the record: the lower type, or else the model's own."""
    return str(dtype or photo.dtype).removeprefix("torch.")
