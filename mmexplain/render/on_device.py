"""Maps over their photo, all maps of a photo at once and where the maps are: nothing waits for the device."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.render.colors import DIVERGING, LEVELS, SEQUENTIAL, rgba_table
from mmexplain.render.heat import Kind, colormap_of, drawn_on, kind_of, limits, limits_of_pixels, scaled, unit_maps

ALPHA = 0.65
"""Opacity of the strongest value: colour enough to find it, photo enough to see what is there."""

VEIL, LINES = (52, 54, 58, 150), (150, 153, 158, 165)
"""RGBA over what the model never saw: a grey veil, and diagonal lines on it."""


class Canvas:
    """A photo made ready for maps to be laid over it.

    Args:
        explanation: of a photo; where the maps will be taken from.
        key: which of them.
        photo: ``[h, w, 3]`` uint8, on any device.
    """

    def __init__(self, explanation: Explanation, key: MapKey, photo: Tensor) -> None:
        self._explanation, self._key = explanation, key
        self.size = (photo.shape[0], photo.shape[1])
        photo = photo.to(drawn_on(explanation.maps[key]), non_blocking=True)
        self._seen = explanation.geometry.seen_part(self.size)
        self._under = under(photo[self._seen])
        self._around = None if self._under.shape == photo.shape else veiled(photo)

    def overlays(
        self,
        which: slice = slice(None),
        *,
        colormap: str | None = None,
        alpha: float = ALPHA,
        signed: bool | None = None,
    ) -> Tensor:
        """The photo with the map of each of K targets over it, as :func:`mmexplain.render.overlay` shows it.

        Args:
            which: targets, by their numbers.
            colormap: as for ``overlay``.
            alpha: opacity of the strongest value, 0 to 1.
            signed: as for ``overlay``.

        Returns:
            ``[K, 3, h, w]`` uint8 where the maps are drawn (:func:`~mmexplain.render.heat.drawn_on`), in memory with
            its colours last.

        Raises:
            InputError: an unknown colour map, or an opacity outside 0 to 1.
        """
        require_opacity(alpha)
        geometry, key = self._explanation.geometry, self._key
        kind = kind_of(self._explanation, key, signed)
        values, _ = unit_maps(self._explanation, key, which, kind)
        laid = geometry.to_seen(values, self.size)
        if kind == "pixels":
            limit = limits_of_pixels(laid.abs().flatten(1)).view(-1, 1, 1, 1)
            painted = opaque(scaled(kind, laid, limit))
        else:
            low, high = geometry.range_in_photo(values, self.size) or (values.new_zeros(len(values)),) * 2
            limit = limits(kind, low.double(), high.double()).view(-1, 1, 1)
            name = colormap or colormap_of(key, kind) or default_colormap(kind)
            painted = over(self._under, levels(kind, scaled(kind, laid, limit)), name, kind, alpha)
        if self._around is None:
            return painted
        pictures = self._around.repeat(len(values), 1, 1, 1)
        pictures[:, self._seen[0], self._seen[1]] = painted.movedim(1, -1)
        return pictures.movedim(-1, 1)


def default_colormap(kind: Kind) -> str:
    """Of maps whose method has none of its own."""
    return DIVERGING if kind == "signed" else SEQUENTIAL


def levels(kind: Kind, values: Tensor) -> Tensor:
    """Values of an "evidence" or "signed" :class:`~mmexplain.render.heat.Heat` as rows of its colour table: floating
    point whole numbers from 0 to 255."""
    unit = (values + 1) / 2 if kind == "signed" else values
    return (unit * (LEVELS - 1)).round_()


def opaque(values: Tensor) -> Tensor:
    """Values ``[K, C, h, w]`` of a "pixels" map, C 1 or 3, as colours ``[K, 3, h, w]`` uint8, grey where they are 0."""
    colours = ((values + 1) * 127.5).round_().byte().movedim(1, -1)
    return colours.expand(*colours.shape[:-1], 3).contiguous().movedim(-1, 1)


def under(photo: Tensor) -> Tensor:
    """A photo ``[h, w, 3]`` uint8 as :func:`over` needs it, int32."""
    return photo.int() + torch.arange(3, dtype=torch.int32, device=photo.device) * (LEVELS * 256)


def over(photo: Tensor, levels: Tensor, colormap: str, kind: Kind, alpha: float) -> Tensor:
    """Colours of :func:`levels` ``[K, h, w]``, as opaque as they are, over what :func:`under` made of a photo, on the
    same device: ``[K, 3, h, w]`` uint8, in memory with its colours last.

    What a pixel becomes is read from a table of all levels by all values of a photo, one table for each colour.
    """
    mixed = _mixed(colormap, kind == "signed", alpha, photo.device)
    places = levels.int()[..., None] * 256 + photo
    return mixed.index_select(0, places.flatten()).view(places.shape).movedim(-1, 1)


def require_opacity(alpha: float) -> None:
    """Raises InputError if it is not one."""
    if not 0 <= alpha <= 1:
        raise InputError(f"opacity {alpha!r} is not between 0 and 1")


def veiled(photo: Tensor) -> Tensor:
    """A photo ``[h, w, 3]`` uint8 under a grey veil with diagonal hatching, as what the model never saw is drawn."""
    veil, lines = (
        _blended(torch.tensor(rgba[:3], device=photo.device), torch.tensor(rgba[3]), photo) for rgba in (VEIL, LINES)
    )
    return torch.where(hatching(photo.shape[0], photo.shape[1]).to(photo.device)[..., None], lines, veil)


@lru_cache(maxsize=4)  # all frames of a clip have the same size
def hatching(height: int, width: int) -> Tensor:
    """Where the lines are: bool ``[height, width]``."""
    period = max(6, round(max(height, width) / 60))
    return (torch.arange(height)[:, None] + torch.arange(width)) % period < max(1, period // 6)


@lru_cache(maxsize=16)
def _mixed(colormap: str, signed: bool, alpha: float, device: torch.device) -> Tensor:
    """uint8 ``[3 · 256 · 256]``: for each colour, for each level of the map, what each value of a photo becomes."""
    table = rgba_table(colormap, signed)
    opacity = torch.from_numpy(np.round(table[:, 3] * alpha).astype(np.int64))
    colours = torch.from_numpy(table[:, :3].astype(np.int64))
    return _blended(colours.T[..., None], opacity[:, None], torch.arange(256)).flatten().to(device, non_blocking=True)


def _blended(colour: Tensor, opacity: Tensor, under: Tensor) -> Tensor:
    """A colour of an opacity, 0 to 255, over an opaque one: uint8, rounded as Pillow's ``alpha_composite`` does."""
    opacity = opacity.int()
    mixed = (colour.int() * opacity + under.int() * (255 - opacity) + 128).int()
    return (((mixed >> 1) + (mixed << 7)) >> 15).byte()
