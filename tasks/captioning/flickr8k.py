"""Flickr8k with the phrase boxes of Flickr30k Entities, as stored in ``MMEXPLAIN_DATA/flickr8k``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .vocabulary import tokenize

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of a sentence and where in the photo the thing it names stands.

    Attributes:
        first: index of its first word among the sentence's words.
        last: index of its last word (inclusive).
        kind: people, clothing, bodyparts, animals, vehicles, instruments, scene or other.
        boxes: ``(xmin, ymin, xmax, ymax)`` in fractions of the photo's width and height.
    """

    first: int
    last: int
    kind: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Sentence:
    """A human caption.

    Attributes:
        words: of it, in order.
        phrases: those that have boxes.
    """

    words: tuple[str, ...]
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True)
class Photo:
    """One photo.

    Attributes:
        file: its name.
        split: train, dev or test.
        captions: five of them.
        sentences: the same five, annotated.
        size: width and height of the original in pixels, None where it is not known.
    """

    file: str
    split: str
    captions: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    size: tuple[int, int] | None = None


def _sentence(entity: dict[str, list[object]], boxes: dict[str, tuple[Box, ...]]) -> Sentence:
    """Words as :func:`tokenize` sees them: an annotated token can become none ("."), one or several of them."""
    words: list[str] = []
    starts: list[int] = []
    for token in entity["tokens"]:
        starts.append(len(words))
        words.extend(tokenize(str(token)))
    starts.append(len(words))
    phrases = []
    for phrase in entity["phrases"]:
        assert isinstance(phrase, list)
        first, last, chain, kind = phrase
        begin, end = starts[first], starts[last + 1] - 1
        if chain in boxes and end >= begin:
            phrases.append(Phrase(begin, end, kind, boxes[chain]))
    return Sentence(tuple(words), tuple(phrases))


def load_annotations(root: Path, split: str | None = None) -> list[Photo]:
    """The photos of a split, or all, that ``root/annotations.jsonl.gz`` lists, in file order."""
    photos = []
    with gzip.open(root / "annotations.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if split not in (None, record["split"]):
                continue
            w, h = record["orig_w"], record["orig_h"]
            boxes = {
                chain: tuple((x0 / w, y0 / h, x1 / w, y1 / h) for x0, y0, x1, y1 in corners)
                for chain, corners in record["boxes"].items()
            }
            sentences = tuple(_sentence(entity, boxes) for entity in record["entities"])
            photos.append(Photo(record["file"], record["split"], tuple(record["captions"]), sentences, (w, h)))
    return photos


def split_of(photos: Sequence[Photo], split: str, limit: int | None = None) -> list[int]:
    """Indices of the first ``limit`` photos of ``split``."""
    return [index for index, photo in enumerate(photos) if photo.split == split][:limit]


def load_image(root: Path, photo: Photo, size: int) -> NDArray[np.uint8]:
    """The photo squashed to ``size`` × ``size``: uint8 ``[3, size, size]``, RGB."""
    with Image.open(root / "images" / photo.file) as image:
        squashed = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(squashed, dtype=np.uint8).transpose(2, 0, 1))
