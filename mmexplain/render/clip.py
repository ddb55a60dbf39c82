"""An explained clip as a clip: the heat over every frame, and below it when it mattered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Size
from mmexplain.render.band import GROUND, Band, band_height
from mmexplain.render.clip_heat import ClipHeat
from mmexplain.render.footage import Footage
from mmexplain.render.heat import Heat
from mmexplain.render.movie import write_gif, write_mp4
from mmexplain.render.on_device import ALPHA
from mmexplain.render.overlay import blend
from mmexplain.render.text import percent
from mmexplain.render.whole import whole
from mmexplain.targets import Target

CLIP_SUFFIXES = (".mp4", ".gif")
MOST_TARGETS = 4
MP4_SIDE, GIF_SIDE = 1280, 480
"""Longer side of the whole picture, pixels, at most, unless a size is given."""

GIF_RATE, GIF_FRAMES = 12.5, 150
"""Frames a second and frames of a GIF, at most."""

NO_CLOCK = 25.0
"""Frames a second of what has no clock."""

_SLOWEST = 5.0
"""Frames a second of a GIF, at least: long clips run faster than they did."""

_GAP = 4


def save_clip(
    explanation: Explanation,
    path: str | Path,
    targets: int | str | Target | Sequence[int | str | Target] | None = None,
    layer: str | None = None,
    method: str | None = None,
    *,
    side_by_side: bool = False,
    size: Size | None = None,
    colormap: str | None = None,
    alpha: float = ALPHA,
    footage: Footage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a clip with the heat of one target, or of several side by side, over its frames.

    All frames of the file are written where it can be read again, otherwise those that the explanation keeps. One
    scale of colour holds for all frames of a target. Below the picture are the target, its probability, the time and
    the curve of its importance; the bright parts of the curve's ground line are the frames that the model saw. On
    frames between these the heat is interpolated and the playhead is hollow; before the first and after the last of
    them, and in the borders, the picture is hatched: the model saw nothing of it.

    Args:
        explanation: of a clip.
        path: ``.mp4``: every frame at its own time, also where the rate varies. ``.gif``: at most 12.5 frames a second
            and 150 in all; clips of more than 30 seconds run faster than they did.
        targets: numbers, labels or targets, up to 4; where left out, those that the explanation has, content words and
            phrases first. Each has a picture of its own.
        layer: layer name; the first that fits where left out.
        method: method name; the first that fits where left out.
        side_by_side: the frames as they are, too, before the first target.
        size: ``(h, w)`` of each picture; by default the original's, but less where the whole would be larger than 1280
            pixels (GIF: 480).
        colormap: see :func:`~mmexplain.render.overlay`.
        alpha: opacity of the strongest value.
        footage: of this explanation, where several clips of it are written: its file is then compared once.
        progress: told how many pictures of how many are done.

    Returns:
        The path written.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: this explains a photo, another suffix, no or too many targets, or a path that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in CLIP_SUFFIXES:
        raise InputError(f"cannot write a clip as {path.suffix!r}; use {' or '.join(CLIP_SUFFIXES)}")
    if explanation.geometry.frames is None:
        raise InputError(f"cannot write a photo as {path.suffix!r}: this explanation is of no clip; use .png")
    if explanation.picture.source is not None and _same(path, Path(explanation.picture.source)):
        raise InputError(f"{str(path)!r} is the clip itself; write to another name")
    key = explanation.key(layer, method)
    shown: list[int | None] = [*([None] if side_by_side else []), *_chosen(explanation, targets)]
    columns = len(shown) if len(shown) <= 3 else math.ceil(len(shown) / 2)
    gif = suffix == ".gif"
    size = size or _fitting(explanation.geometry.original, len(shown), columns, GIF_SIDE if gif else MP4_SIDE)
    footage = Footage(explanation) if footage is None else footage
    times = list(footage.times or (number / NO_CLOCK for number in footage.numbers))
    end = times[-1] + (float(np.median(np.diff(times))) if len(times) > 1 else 1.0)
    places, speed = _sampled([*times, end]) if gif else (list(range(len(times))), 1.0)
    tiles = [_tile(explanation, footage, key, number, size, colormap, alpha) for number in shown]
    pictures = _composed(footage, [footage.numbers[place] for place in places], tiles, columns, size)
    if progress is not None:
        pictures = _told(pictures, len(places), progress)
    with whole(path) as partial:
        (write_gif if gif else write_mp4)(partial, pictures, [times[place] / speed for place in places], end / speed)
    return path


def _chosen(explanation: Explanation, targets: int | str | Target | Sequence[int | str | Target] | None) -> list[int]:
    """Numbers of the targets to show."""
    if targets is None:
        numbers = sorted(range(len(explanation)), key=lambda number: not explanation.targets[number].content)
        return numbers[:MOST_TARGETS]
    wanted = [targets] if isinstance(targets, int | str | Target) else targets
    if not 1 <= len(wanted) <= MOST_TARGETS:
        raise InputError(f"a clip shows 1 to {MOST_TARGETS} targets, not {len(wanted)}: write several clips")
    return [explanation.find(target) for target in wanted]


def _fitting(original: Size, tiles: int, columns: int, most: int) -> Size:
    """``(h, w)`` of each picture so that all of them are no longer or wider than ``most`` pixels."""
    (height, width), rows = original, math.ceil(tiles / columns)
    scale = min(1.0, most / max(rows * height, columns * width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _sampled(times: Sequence[float]) -> tuple[list[int], float]:
    """Which frames a GIF shows, and how many times as fast they run; the last of the times is the end of the clip."""
    length = times[-1] - times[0]
    period = max(1 / GIF_RATE, length / GIF_FRAMES)
    places = [0]
    for place, time in enumerate(times[:-1]):
        if time - times[places[-1]] >= period - 1e-3:
            places.append(place)
    return places[:GIF_FRAMES], max(1.0, period * _SLOWEST)


@dataclass(frozen=True)
class _Tile:
    """One of the pictures side by side: a target's, or the frames as they are."""

    band: Band
    heat: ClipHeat | None
    colormap: str | None
    alpha: float

    def drawn(self, heats: Iterator[tuple[int, Heat]] | None, picture: Image.Image) -> Image.Image:
        """The picture with the next of the heats over it."""
        if heats is None:
            return picture
        return blend(picture, next(heats)[1], colormap=self.colormap, alpha=self.alpha)


def _tile(
    explanation: Explanation,
    footage: Footage,
    key: MapKey,
    number: int | None,
    size: Size,
    colormap: str | None,
    alpha: float,
) -> _Tile:
    height, width = size
    extent = (width, band_height(height))
    if number is None:
        name = Path(explanation.picture.source or "the clip").name
        return _Tile(Band(extent, name), None, colormap, alpha)
    heat = ClipHeat(explanation, number, key.layer, key.method, size=size)
    known = explanation.probabilities
    detail = percent(None if known is None else float(known[number]))
    if len(explanation.maps) > 1:
        detail = " · ".join(part for part in (detail, key.method, key.layer) if part)
    curve = explanation.importance(number, key.layer, key.method).cpu().numpy()
    return _Tile(Band(extent, explanation.targets[number].label, detail, curve, heat.scale.note), heat, colormap, alpha)


def _composed(
    footage: Footage, numbers: Sequence[int], tiles: Sequence[_Tile], columns: int, size: Size
) -> Iterator[Image.Image]:
    """The tiles of each frame on one picture, both of whose sides are even, as video wants them."""
    height, width = size
    high = height + band_height(height)
    rows = math.ceil(len(tiles) / columns)
    across, down = columns * (width + _GAP) - _GAP, rows * (high + _GAP) - _GAP
    heats = [None if tile.heat is None else tile.heat.frames(numbers) for tile in tiles]
    for number, picture in footage.frames(numbers, size):
        canvas = Image.new("RGB", (across + across % 2, down + down % 2), GROUND)
        for place, (tile, heat) in enumerate(zip(tiles, heats, strict=True)):
            x, y = place % columns * (width + _GAP), place // columns * (high + _GAP)
            canvas.paste(tile.drawn(heat, picture), (x, y))
            canvas.paste(tile.band.at(number, footage.stamp(number)), (x, y + height))
        yield canvas


def _told(pictures: Iterator[Image.Image], count: int, progress: Callable[[int, int], None]) -> Iterator[Image.Image]:
    for done, picture in enumerate(pictures, 1):
        yield picture
        progress(done, count)


def _same(path: Path, source: Path) -> bool:
    return path.exists() and source.exists() and path.samefile(source)
