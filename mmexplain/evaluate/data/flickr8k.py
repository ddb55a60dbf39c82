"""Flickr8k's photos with the boxes of Flickr30k Entities, as folder for an evaluation."""

from __future__ import annotations

from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.tasks.captioning.flickr8k import Photo, load_annotations

ANNOTATIONS = "annotations.jsonl.gz"


def read_flickr8k(folder: Path, split: str) -> list[Photo]:
    """The photos of one split, in the file's order.

    Raises:
        InputError: it is no such folder, its file is damaged, or it has no such split.
    """
    return _read(folder, split) or read_all_splits(folder, split)


def read_all_splits(folder: Path, split: str) -> list[Photo]:
    """The photos of every split, in the file's order.

    Raises:
        InputError: it is no such folder, its file is damaged, or ``split`` is none of its splits.
    """
    photos = _read(folder)
    splits = list(dict.fromkeys(photo.split for photo in photos))
    if split not in splits:
        raise InputError(f"{str(folder)!r} has no split {split!r}; there are: {', '.join(splits)}")
    return photos


def _read(folder: Path, split: str | None = None) -> list[Photo]:
    path = folder / ANNOTATIONS
    if not path.is_file():
        raise InputError(f"{str(folder)!r} holds no Flickr8k: there is no file {ANNOTATIONS!r} in it")
    try:
        return load_annotations(folder, split)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}") from None
