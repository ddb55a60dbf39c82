"""The inputs that a gallery shows, one at a time: their Explanations with pictures that are there to be drawn on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.gallery.maps import by_input, read
from mmexplain.geometry import Size, fit
from mmexplain.jobs.item import Item
from mmexplain.jobs.pictures import picture
from mmexplain.jobs.rows import explanation_of, geometry_of
from mmexplain.jobs.store import Store
from mmexplain.picture import Picture
from mmexplain.pixels import reduced
from mmexplain.render.text import clean

SIDE = 640
"""Longer side of photos, pixels, at most."""

CLIP_SIDE = 320
"""The same of frames."""

_GREY = 128
_SAME_SHAPE = 0.02


@dataclass(frozen=True)
class Seen:
    """One input as it is shown.

    Attributes:
        explanation: with a picture no larger than :data:`SIDE`; a grey one where its photo cannot be read any more.
        rows: its rows of the store, without maps, in the order of the explanation's maps and targets.
        lost: why its picture cannot be shown; None where it can.
    """

    explanation: Explanation
    rows: list[dict[str, Any]]
    lost: str | None = None


def seen(store: Store, inputs: Iterable[int]) -> Iterator[tuple[int, Seen]]:
    """``(number, what is shown)`` of some inputs in the store's order, one file of the store in memory at a time.

    Args:
        store: where they are.
        inputs: their numbers; all must have been explained.
    """
    by_shard: dict[int, list[int]] = {}
    for number in sorted(set(inputs)):
        by_shard.setdefault(number // store.job.shard, []).append(number)
    for shard, numbers in by_shard.items():
        start, stop = store.job.stretch(shard)
        items = store.manifest.items(start, stop)
        for rows in by_input(read(store, shard, inputs=numbers)):
            number = rows[0]["input"]
            yield number, _seen(store, items[number - start], rows)


def _seen(store: Store, item: Item, rows: list[dict[str, Any]]) -> Seen:
    geometry = geometry_of(rows[0])
    lazy = picture(item.source, lambda: item, geometry)
    explanation = explanation_of(rows, lazy, frozenset(store.job.pixel_methods))
    told = [{name: value for name, value in row.items() if name != "map"} for row in rows]
    side = SIDE if geometry.frames is None else CLIP_SIDE
    try:
        pixels = lazy.pixels
        lost = _another(pixels.shape[-3:-1], geometry.original)
    except (InputError, OSError) as error:
        lost = clean(error)
    if lost is None:
        explanation.picture = _smaller(lazy, fit(geometry.original, side))
    else:
        size = fit(geometry.original, side)
        frames = None if geometry.frames is None else tuple(sorted(set(geometry.frames)))
        shape = (*size, 3) if frames is None else (len(frames), *size, 3)
        source = rows[0]["source"] if frames is None else None
        explanation.picture = Picture(torch.full(shape, _GREY, dtype=torch.uint8), source, frames)
    return Seen(explanation, told, lost)


def _another(found: tuple[int, ...], original: Size) -> str | None:
    """That the file has been replaced: its shape is another than that of what was explained."""
    height, width = found
    ratio = (width / height) / (original[1] / original[0])
    if abs(ratio - 1) <= max(_SAME_SHAPE, 1.5 / min(height, width)):
        return None
    return f"it is another picture now: {original[1]} × {original[0]} pixels were explained"


def _smaller(shown: Picture, size: Size) -> Picture:
    """The picture no larger than ``(h, w)``, read: what is drawn on it needs no more."""
    pixels = shown.pixels
    if pixels.shape[-3] > size[0]:
        frames = pixels[None] if pixels.ndim == 3 else pixels
        small = [
            np.asarray(reduced(Image.fromarray(np.ascontiguousarray(frame.numpy())), size[::-1])) for frame in frames
        ]
        pixels = torch.from_numpy(np.stack(small))
        pixels = pixels[0] if shown.pixels.ndim == 3 else pixels
    # A clip's file is not read again for every map: what is kept are the frames that the model saw.
    return Picture(pixels, shown.source if shown.frames is None else None, shown.frames, shown.times)
