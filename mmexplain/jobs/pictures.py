"""Pictures of a run: those of its inputs, read when they are looked at, and those of its maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mmexplain.explanation import Explanation
from mmexplain.filenames import safe
from mmexplain.geometry import Geometry
from mmexplain.io import display
from mmexplain.jobs import fetch
from mmexplain.jobs.item import Item
from mmexplain.jobs.shards import Shards, put
from mmexplain.picture import Picture, PictureAtSource
from mmexplain.render.jpeg import jpegs
from mmexplain.render.on_device import Canvas
from mmexplain.tasks.clips import Album

OVERLAYS = "overlays"
"""Folder of the pictures."""

_LONGEST = 60

_PIXELS_AT_ONCE = 2**24
"""Of the pictures that are drawn together on a GPU; each takes some twenty bytes there."""


def picture(source: str, find: Callable[[], Item], geometry: Geometry) -> Picture:
    """The photo or the clip of an item, which is found, read and decoded when its pixels are first looked at."""
    return PictureAtSource(lambda: _clip(find(), geometry) if geometry.frames else _photo(find()), source)


def overlays(item: Item, explanation: Explanation) -> Iterator[tuple[str, bytes]]:
    """Path in the store and content of each picture: of a photo each map over it as JPEG, of a clip its film strip."""
    explanation.picture = picture(item.source, lambda: item, explanation.geometry)
    folder = f"{OVERLAYS}/{item.number // 1000:06d}"
    stem = f"{item.number:09d}_{safe(item.id)[-_LONGEST:]}"
    if explanation.geometry.frames is not None:
        with TemporaryDirectory() as scratch:
            strip = explanation.save(Path(scratch, "strip.png"))
            yield f"{folder}/{stem}.png", strip.read_bytes()
        return
    several = len(explanation.maps) > 1
    photo = explanation.picture.pixels
    for key, maps in explanation.maps.items():
        made = f"_{safe(key.method)[:_LONGEST]}_{safe(key.layer)[-_LONGEST:]}" if several else ""
        canvas = Canvas(explanation, key, photo)
        # On a CPU, what one map takes stays near the processor.
        step = 1 if maps.device.type == "cpu" else max(1, _PIXELS_AT_ONCE // photo[..., 0].numel())
        for start in range(0, len(maps), step):
            files = jpegs(canvas.overlays(slice(start, start + step)))
            for number, file in enumerate(files, start):
                label = safe(explanation.targets[number].label)[:_LONGEST]
                yield f"{folder}/{stem}_{number:02d}_{label}{made}.jpg", file


def write_overlays(shards: Shards, item: Item, explanation: Explanation) -> None:
    """Write the pictures of an item; the same ones again if its shard is run again."""
    for path, data in overlays(item, explanation):
        put(shards.fs, f"{shards.root}/{path}", data, force=False)


def _photo(item: Item) -> Picture:
    return Picture(display(fetch.photo(item)), item.source)


def _clip(item: Item, geometry: Geometry) -> Picture:
    video = fetch.video(item)
    numbers = sorted(set(geometry.frames or ()))
    album = Album(video, numbers)
    for frame in video.frames(numbers):
        album.see(frame)
    return album.picture()
