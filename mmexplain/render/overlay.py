"""A map over its photo or over one frame of its clip: as one picture, or as the transparent layer alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.render.clip_heat import frame_of
from mmexplain.render.colors import DIVERGING, LEVELS, SEQUENTIAL, rgba_table
from mmexplain.render.footage import Footage, kept_numbers, kept_picture, resized
from mmexplain.render.heat import Heat, heat, picture_size
from mmexplain.targets import Target

ALPHA = 0.65
"""Opacity of the strongest value: colour enough to find it, photo enough to see what is there."""


def overlay(
    explanation: Explanation,
    target: int | str | Target = 0,
    layer: str | None = None,
    method: str | None = None,
    *,
    colormap: str | None = None,
    alpha: float = ALPHA,
    size: tuple[int, int] | None = None,
    signed: bool | None = None,
    frame: int | None = None,
) -> Image.Image:
    """The photo, or one frame of the clip, with the map of one target over it.

    Colour and opacity grow with the value, so that the photo stays legible where the map says little. What the model
    never saw is dimmed and hatched. Pixel-space maps are drawn as the customary grey-centred colour image.

    Args:
        explanation: where the photo and the map are taken from.
        target: number, label or target.
        layer: layer name; the first that fits where left out.
        method: method name; the first that fits where left out.
        colormap: a matplotlib colour map, ``fire-ice`` or ``red-blue``; by default the method's own if it has one,
            otherwise ``inferno``, and ``fire-ice`` for signed maps.
        alpha: opacity of the strongest value, 0 to 1. Pixel-space maps are always opaque.
        size: ``(h, w)`` of the result; the display photo's where left out.
        signed: draw negative values too; by default as the method's registry entry says.
        frame: number in the file of the frame of a clip; by default that of the map's peak. All frames share one
            scale.

    Returns:
        An RGB picture of ``size``.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: an unknown colour map, an opacity outside 0 to 1, or a frame that cannot be had.
    """
    if explanation.geometry.frames is not None or frame is not None:
        frame = _frame(explanation, target, layer, method, frame)
    shown = heat(explanation, target, layer, method, size=size, signed=signed, frame=frame)
    height, width = shown.seen.shape
    return blend(photo_image(explanation, (height, width), frame), shown, colormap=colormap, alpha=alpha)


def heatmap_rgba(
    explanation: Explanation,
    target: int | str | Target = 0,
    layer: str | None = None,
    method: str | None = None,
    *,
    colormap: str | None = None,
    alpha: float = 1.0,
    size: tuple[int, int] | None = None,
    signed: bool | None = None,
    frame: int | None = None,
) -> Image.Image:
    """The transparent layer that :func:`overlay` lays over the photo: an RGBA picture, clear where unseen.

    Arguments and errors are those of :func:`overlay`, but that ``alpha`` is 1 where left out.
    """
    shown = heat(explanation, target, layer, method, size=size, signed=signed, frame=frame)
    return paint(shown, colormap=colormap, alpha=alpha)


def blend(photo: Image.Image, shown: Heat, *, colormap: str | None = None, alpha: float = ALPHA) -> Image.Image:
    """``photo`` with a painted map of the same size over it, and hatching where unseen; RGB."""
    painted = paint(shown, colormap=colormap, alpha=1.0 if shown.kind == "pixels" else alpha)
    together = Image.alpha_composite(photo.convert("RGBA"), painted)
    if not shown.seen.all():
        together = Image.alpha_composite(together, unseen_image(shown.seen))
    return together.convert("RGB")


def paint(shown: Heat, *, colormap: str | None = None, alpha: float = 1.0) -> Image.Image:
    """The RGBA picture of a map; clear where unseen."""
    if not 0 <= alpha <= 1:
        raise InputError(f"opacity {alpha!r} is not between 0 and 1")
    if shown.kind == "pixels":
        rgb = np.round((shown.values + 1) * 127.5).astype(np.uint8)
        rgba = np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 255, np.uint8)], axis=2)
    else:
        rgba = table_of(shown, colormap)[levels(shown)]
    opacity = np.where(shown.seen, rgba[..., 3] * alpha, 0)
    return Image.fromarray(np.concatenate([rgba[..., :3], np.round(opacity).astype(np.uint8)[..., None]], axis=2))


def table_of(shown: Heat, colormap: str | None = None) -> NDArray[np.uint8]:
    """``[256, 4]`` colours of an "evidence" or "signed" map."""
    signed = shown.kind == "signed"
    return rgba_table(colormap or shown.colormap or (DIVERGING if signed else SEQUENTIAL), signed)


def levels(shown: Heat) -> NDArray[np.uint8]:
    """``[h, w]`` uint8 rows of :func:`table_of`."""
    unit = (shown.values + 1) / 2 if shown.kind == "signed" else shown.values
    return np.round(unit * (LEVELS - 1)).astype(np.uint8)


def photo_image(explanation: Explanation, size: tuple[int, int] | None = None, frame: int | None = None) -> Image.Image:
    """The display photo as RGB, resized to ``(h, w)`` where asked for; of a clip the frame of that number in the file,
    the first that is kept where left out.

    Raises:
        InputError: the frame is not kept, and the file cannot be read again.
    """
    if explanation.picture.pixels.ndim == 3:
        photo = Image.fromarray(np.ascontiguousarray(explanation.picture.pixels.cpu().numpy()))
        return resized(photo, size or (photo.height, photo.width))
    kept = kept_numbers(explanation)
    number = kept[0] if frame is None else frame
    wanted = size or picture_size(explanation)
    if number in kept:
        return resized(kept_picture(explanation.picture, kept.index(number)), wanted)
    return next(Footage(explanation).frames([number], wanted))[1]


def _frame(
    explanation: Explanation, target: int | str | Target, layer: str | None, method: str | None, frame: int | None
) -> int:
    """The frame that is shown: the peak's by default, or where that cannot be had the most important one that can."""
    number = frame_of(explanation, target, layer, method, frame)
    kept = kept_numbers(explanation)
    if frame is not None or number in kept or number in Footage(explanation):
        return number
    importance = explanation.importance(target, layer, method).nan_to_num(-1.0)
    return max(kept, key=lambda candidate: float(importance[candidate]))


def unseen_image(seen: NDArray[np.bool_]) -> Image.Image:
    """A grey veil with diagonal hatching over what the model never saw; clear elsewhere."""
    return _unseen_image(seen.tobytes(), *seen.shape)


@lru_cache(maxsize=4)  # all frames of a clip have the same borders
def _unseen_image(seen: bytes, height: int, width: int) -> Image.Image:
    period = max(6, round(max(height, width) / 60))
    rows, columns = np.indices((height, width))
    lines = (rows + columns) % period < max(1, period // 6)
    rgba = np.empty((height, width, 4), np.uint8)
    rgba[...] = (52, 54, 58, 150)
    rgba[lines] = (150, 153, 158, 165)
    rgba[np.frombuffer(seen, np.bool_).reshape(height, width)] = 0
    return Image.fromarray(rgba)
