"""A map over its photo or over one frame of its clip: as one picture, or as the transparent layer alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmexplain.explanation import Explanation
from mmexplain.render import on_device
from mmexplain.render.clip_heat import frame_of
from mmexplain.render.colors import rgba_table
from mmexplain.render.footage import Footage, kept_numbers, kept_picture, resized
from mmexplain.render.heat import Heat, heat, picture_size
from mmexplain.render.on_device import (
    ALPHA,
    LINES,
    VEIL,
    Canvas,
    default_colormap,
    hatching,
    opaque,
    over,
    require_opacity,
    under,
    veiled,
)
from mmexplain.targets import Target


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
    if explanation.geometry.frames is None and frame is None:
        key, number = explanation.key(layer, method), explanation.find(target)
        photo = photo_pixels(explanation, size)
        drawing = Canvas(explanation, key, photo)
        (picture,) = drawing.overlays(slice(number, number + 1), colormap=colormap, alpha=alpha, signed=signed)
        return Image.fromarray(picture.movedim(0, -1).cpu().numpy())
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
    pixels = torch.from_numpy(np.array(photo.convert("RGB")))
    require_opacity(alpha)
    if shown.kind == "pixels":
        (together,) = opaque(torch.from_numpy(shown.values).movedim(-1, 0)[None])
    else:
        (together,) = over(under(pixels), _levels(shown)[None], _colormap(shown, colormap), shown.kind, alpha)
    together = together.movedim(0, -1)
    if not shown.seen.all():
        together = together.where(torch.from_numpy(shown.seen)[..., None], veiled(pixels))
    return Image.fromarray(together.numpy())


def paint(shown: Heat, *, colormap: str | None = None, alpha: float = 1.0) -> Image.Image:
    """The RGBA picture of a map; clear where unseen."""
    require_opacity(alpha)
    if shown.kind == "pixels":
        rgb = opaque(torch.from_numpy(shown.values).movedim(-1, 0)[None])[0].movedim(0, -1).numpy()
        rgba = np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 255, np.uint8)], axis=2)
    else:
        rgba = table_of(shown, colormap)[levels(shown)]
    opacity = np.where(shown.seen, rgba[..., 3] * alpha, 0)
    return Image.fromarray(np.concatenate([rgba[..., :3], np.round(opacity).astype(np.uint8)[..., None]], axis=2))


def table_of(shown: Heat, colormap: str | None = None) -> NDArray[np.uint8]:
    """``[256, 4]`` colours of an "evidence" or "signed" map."""
    return rgba_table(_colormap(shown, colormap), shown.kind == "signed")


def levels(shown: Heat) -> NDArray[np.uint8]:
    """``[h, w]`` uint8 rows of :func:`table_of`."""
    return _levels(shown).byte().numpy()


def _levels(shown: Heat) -> Tensor:
    return on_device.levels(shown.kind, torch.from_numpy(shown.values))


def _colormap(shown: Heat, colormap: str | None) -> str:
    return colormap or shown.colormap or default_colormap(shown.kind)


def photo_pixels(explanation: Explanation, size: tuple[int, int] | None = None) -> Tensor:
    """The display photo ``[h, w, 3]`` uint8, resized to ``(h, w)`` where asked for."""
    pixels = explanation.picture.pixels
    if size is None or tuple(pixels.shape[:2]) == tuple(size):
        return pixels
    return torch.from_numpy(np.array(photo_image(explanation, size)))


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


def unseen_image(height: int, width: int) -> Image.Image:
    """A grey veil with diagonal hatching, as it lies over what the model never saw."""
    lines = hatching(height, width).numpy()[..., None]
    return Image.fromarray(np.where(lines, np.array(LINES, np.uint8), np.array(VEIL, np.uint8)))
