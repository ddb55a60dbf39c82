"""Regions of photos and the phrase that tells what is in each: what a dense captioner puts out, here by people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.evaluate.data.flickr8k import ANNOTATIONS, read_flickr8k
from mmexplain.evaluate.data.objects import read
from mmexplain.evaluate.data.scene import Scene
from mmexplain.geometry import Box, Size
from mmexplain.tasks.captioning.flickr8k import Photo

SPLIT = "test"
"""Photos of Flickr8k that are taken unless others are named."""

CAPTIONS = 5
"""Captions of each of its photos, all of them."""


@dataclass(frozen=True)
class Region:
    """What one phrase tells of.

    Attributes:
        phrase: its caption, a few words.
        boxes: each ``(left, top, right, bottom)`` in fractions of the photo's width and height; several where the
            phrase names several things.
        kind: what sort of thing that is, for the table.
    """

    phrase: str
    boxes: tuple[Box, ...]
    kind: str = "other"


@dataclass(frozen=True)
class RegionPhoto:
    """One photo and its regions.

    Attributes:
        key: names it among the others.
        image: whatever :func:`mmexplain.io.load_image` takes.
        regions: in an order that says nothing.
        shape: ``(h, w)`` to show it at, where the file is squashed; None for the file's own.
    """

    key: str
    image: Any
    regions: tuple[Region, ...]
    shape: Size | None = None


def read_regions(data: Path, split: str | None = None, captions: int = CAPTIONS) -> list[RegionPhoto]:
    """The photos of a folder that have regions, in the data's order; a photo has each pair of phrase and boxes once.

    Args:
        data: Flickr8k with the phrases and boxes of Flickr30k Entities; or marked objects in any layout that
            :func:`mmexplain.evaluate.data.objects.read` knows: all boxes of a class in a photo are then one region,
            and its phrase is the name of the class, "a dog".
        split: of Flickr8k, :data:`SPLIT` if None.
        captions: how many of a Flickr8k photo's captions are looked through for phrases, the first ones.

    Raises:
        InputError: there is no such data, none with regions, no such split, or ``captions`` is below 1.
    """
    if captions < 1:
        raise InputError(f"captions={captions}: take 1 caption of each photo or more")
    if (data / ANNOTATIONS).is_file():
        found = [_phrases(photo, data, captions) for photo in read_flickr8k(data, split or SPLIT)]
    elif split is not None:
        raise InputError(f"{str(data)!r} holds no Flickr8k, and only that has splits: leave split={split!r} out")
    else:
        found = [_objects(scene) for scene in read(data)]
    photos = [photo for photo in found if photo.regions]
    if not photos:
        raise InputError(f"none of the {len(found):,} photos of {str(data)!r} has a phrase with a box")
    return photos


def _phrases(photo: Photo, folder: Path, captions: int) -> RegionPhoto:
    regions = [
        Region(" ".join(sentence.words[phrase.first : phrase.last + 1]), phrase.boxes, phrase.kind)
        for sentence in photo.sentences[:captions]
        for phrase in sentence.phrases
    ]
    shape = None if photo.size is None else (photo.size[1], photo.size[0])
    return RegionPhoto(photo.file, folder / "images" / photo.file, tuple(dict.fromkeys(regions)), shape)


def _objects(scene: Scene) -> RegionPhoto:
    height, width = scene.size
    regions = [
        Region(
            f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}",
            tuple((x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in boxes),
            "person" if name == "person" else "not a person",
        )
        for name in scene.names
        for boxes in [[thing.box for thing in scene.of(name)]]
    ]
    return RegionPhoto(scene.key, scene.path, tuple(regions))
