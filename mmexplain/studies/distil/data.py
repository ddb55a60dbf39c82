"""Small photos with classes to train on: CIFAR-10, or the things that people named in Flickr8k's photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.data.flickr8k import ANNOTATIONS, read_all_splits
from mmexplain.tasks.captioning.flickr8k import Box, Photo

T = TypeVar("T")
Thing = tuple[Photo, Box]

SIDE = 32
"""Pixels of a photo's side."""

CIFAR, CIFAR_PICKLED = "cifar-10-batches-bin", "cifar-10-batches-py"
_TRAIN, _TEST = [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"]
_RECORD = 1 + 3 * SIDE * SIDE

KINDS = ("people", "clothing", "bodyparts", "animals", "vehicles")
"""Phrase types of Flickr30k Entities that are a kind of thing; "scene" and "other" are what is left over, and of
instruments there are a few dozen."""

SMALLEST = 20
"""Pixels of the stored photo that a box's short side has, at least: less would be blown up."""

_OF_SUBSET = 0
"""Seed of which photos a limit takes: every run of a study sees the same."""


@dataclass(frozen=True)
class Photos:
    """Photos with their classes.

    Attributes:
        pixels: uint8 ``[N, 3, 32, 32]``, RGB.
        classes: int64 ``[N]``.
        items: for each, the photo that it was cut from; what is drawn again for an interval.
    """

    pixels: Tensor
    classes: Tensor
    items: Sequence[str]

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Data:
    """What a study trains and tests on.

    Attributes:
        name: of the data, for people.
        labels: names of the classes.
        train: to learn from.
        test: to be asked about, from other photos.
    """

    name: str
    labels: Sequence[str]
    train: Photos
    test: Photos


def read(folder: Path, limit: int | None = None, progress: Callable[[int, int], None] | None = None) -> Data:
    """The data in a folder.

    Args:
        folder: one that holds ``cifar-10-batches-bin``, or that folder; or one with ``annotations.jsonl.gz`` and
            ``images``.
        limit: photos to train on at most, as many of each class, and as many to test on.
        progress: told how many photos of how many are read.

    Raises:
        InputError: it is neither, or damaged, or the limit leaves a class out; CIFAR-10 as pickles.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {str(folder)!r}")
    for place in (folder / CIFAR, folder):
        if (place / _TEST[0]).is_file():
            return _cifar(place, limit)
    if (folder / ANNOTATIONS).is_file():
        return _things(folder, limit, progress)
    if (folder / CIFAR_PICKLED).is_dir() or (folder / "batches.meta").is_file():
        raise InputError(
            f"{str(folder)!r} holds CIFAR-10's Python version, pickles, which can run any code when they are read; "
            "get the binary version, cifar-10-binary.tar.gz, from https://www.cs.toronto.edu/~kriz/cifar.html"
        )
    raise InputError(
        f"{str(folder)!r} holds no data to train on: neither {CIFAR!r} (CIFAR-10's binary version, from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html) nor {ANNOTATIONS!r} (Flickr8k with boxes)"
    )


def _cifar(folder: Path, limit: int | None) -> Data:
    """Records of one byte for the class, 3 × 1024 for the colours' planes, row by row."""
    names = folder / "batches.meta.txt"
    try:
        labels = names.read_text(encoding="utf-8").split()
        halves = [_records(folder, files, len(labels)) for files in (_TRAIN, _TEST)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read CIFAR-10 in {str(folder)!r}: {error}") from None
    train, test = (_balanced(half, labels, limit) for half in halves)
    return Data("CIFAR-10", labels, train, test)


def _records(folder: Path, files: Sequence[str], classes: int) -> Photos:
    parts: list[NDArray[np.uint8]] = []
    for file in files:
        raw = np.fromfile(folder / file, dtype=np.uint8)
        if not len(raw) or len(raw) % _RECORD:
            raise InputError(
                f"{str(folder / file)!r} is cut off: {len(raw):,} bytes are no whole number of records of {_RECORD:,}"
            )
        parts.append(raw.reshape(-1, _RECORD))
    records = np.concatenate(parts)
    if records[:, 0].max() >= classes:
        raise InputError(
            f"{str(folder)!r} is not CIFAR-10: it names {classes} classes and numbers one {records[:, 0].max()}"
        )
    pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, SIDE, SIDE).copy())
    items = [f"{files[0]}:{number}" for number in range(len(records))]
    return Photos(pixels, torch.from_numpy(records[:, 0].astype(np.int64)), items)


def _balanced(photos: Photos, labels: Sequence[str], limit: int | None) -> Photos:
    """As many of each class, ``limit`` at most in all."""
    if limit is None:
        return photos
    places: dict[int, list[str]] = {}
    for number, kind in enumerate(photos.classes.tolist()):
        places.setdefault(kind, []).append(str(number))
    taken = _drawn({labels[kind]: numbers for kind, numbers in places.items()}, labels, limit)
    chosen = sorted(int(number) for numbers in taken.values() for number in numbers)
    return replace(
        photos,
        pixels=photos.pixels[chosen],
        classes=photos.classes[chosen],
        items=[photos.items[number] for number in chosen],
    )


def _drawn(things: dict[str, list[T]], labels: Sequence[str], limit: int | None) -> dict[str, list[T]]:
    """As many things of each class as the rarest has, or as ``limit`` leaves each.

    Raises:
        InputError: that is none.
    """
    least = min(labels, key=lambda label: len(things.get(label, ())))
    count = len(things.get(least, ()))
    if limit is not None:
        if limit < 2 * len(labels):
            raise InputError(f"--limit {limit} is too few for {len(labels)} classes: at least two of each are needed")
        count = min(count, limit // len(labels))
    if count < 2:
        raise InputError(f"of {least!r} there are {len(things.get(least, ()))} boxes to train or test on; 2 are needed")
    random = np.random.default_rng(_OF_SUBSET)
    return {
        label: [things[label][i] for i in sorted(random.permutation(len(things[label]))[:count])] for label in labels
    }


# -- things in photos -------------------------------------------------------------------------------------------------


def _things(folder: Path, limit: int | None, progress: Callable[[int, int], None] | None) -> Data:
    """Boxes of noun phrases, squashed to 32 × 32: the photos of "train" against those of "dev" and "test"."""
    photos = read_all_splits(folder, "train")
    halves = []
    for splits in (("train",), ("dev", "test")):
        found: dict[str, list[Thing]] = defaultdict(list)
        for photo in photos:
            if photo.split in splits:
                for kind, box in boxes_of(photo):
                    found[kind].append((photo, box))
        halves.append(_drawn(found, KINDS, limit))
    total = sum(len(things) for half in halves for things in half.values())
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    train, test = (_cut(folder, half, told) for half in halves)
    return Data("things in Flickr8k's photos", KINDS, train, test)


def boxes_of(photo: Photo) -> list[tuple[str, Box]]:
    """The boxes of a photo that are large enough and that phrases of one kind name: ``(kind, box)``, each box once."""
    kinds: dict[Box, set[str]] = {}
    for sentence in photo.sentences:
        for phrase in sentence.phrases:
            for box in phrase.boxes:
                kinds.setdefault(box, set()).add(phrase.kind)
    # Photos are stored squashed to 224 × 224.
    smallest = SMALLEST / 224
    return [
        (kind, box)
        for box, (kind, *others) in ((box, sorted(names)) for box, names in kinds.items())
        if not others and kind in KINDS and min(box[2] - box[0], box[3] - box[1]) >= smallest
    ]


def _cut(folder: Path, half: dict[str, list[Thing]], told: Callable[[], None]) -> Photos:
    by_photo: dict[str, list[tuple[int, Box]]] = defaultdict(list)
    for number, label in enumerate(KINDS):
        for photo, box in half[label]:
            by_photo[photo.file].append((number, box))
    pixels, classes, items = [], [], []
    for file, things in by_photo.items():
        path = folder / "images" / file
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read photo {str(path)!r}: {error}") from None
        for number, (x0, y0, x1, y1) in things:
            # Whole pixels: a resize by ``box`` would blend in what lies around it.
            left, right = round(x0 * image.width), round(x1 * image.width)
            top, bottom = round(y0 * image.height), round(y1 * image.height)
            crop = image.crop((left, top, right, bottom)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pixels.append(np.asarray(crop).transpose(2, 0, 1))
            classes.append(number)
            items.append(file)
            told()
    return Photos(torch.from_numpy(np.stack(pixels)), torch.tensor(classes), items)
