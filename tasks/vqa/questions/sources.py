"""Captions from the files people keep them in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.tasks.captioning.flickr8k import load_annotations
from mmexplain.tasks.captioning.vocabulary import tokenize


@dataclass(frozen=True)
class Caption:
    """One caption as words: the ``number``-th (from 0) of ``photo``, which belongs to ``split`` ("" if unknown)."""

    photo: str
    split: str
    number: int
    words: tuple[str, ...]


def read_captions(path: Path) -> list[Caption]:
    """The captions of ``path``, in file order.

    Read are Flickr8k's ``annotations.jsonl.gz`` (the annotated sentences, with splits), COCO's captions JSON, Flickr's
    ``photo.jpg#0<TAB>caption``, ``photo<TAB>caption``, and JSON lines with ``file`` (or ``photo``), ``caption`` or
    ``captions``, and perhaps ``split``.

    Raises:
        InputError: the file cannot be read, holds no captions, or a line of it is in none of these formats.
    """
    try:
        if path.suffix == ".gz":
            captions = _flickr8k(path)
        elif path.suffix == ".json":
            captions = list(_numbered(_coco(json.loads(path.read_text(encoding="utf-8")))))
        else:
            captions = list(_numbered(_lines(path.read_text(encoding="utf-8"), path)))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read captions from {str(path)!r} ({type(error).__name__}: {error}); give annotations.jsonl.gz of "
            "Flickr8k, COCO's captions JSON, JSON lines, or lines 'photo<TAB>caption'"
        ) from error
    if not captions:
        raise InputError(f"{str(path)!r} holds no captions")
    return captions


def _flickr8k(path: Path) -> list[Caption]:
    if path.name != "annotations.jsonl.gz":
        raise InputError(f"{str(path)!r}: the only compressed captions read are Flickr8k's annotations.jsonl.gz")
    return [
        Caption(photo.file, "" if photo.split == "none" else photo.split, number, sentence.words)
        for photo in load_annotations(path.parent)
        for number, sentence in enumerate(photo.sentences)
    ]


def _coco(record: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    files = {image["id"]: image["file_name"] for image in record["images"]}
    for annotation in record["annotations"]:
        yield files[annotation["image_id"]], "", annotation["caption"]


def _lines(text: str, path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if line.lstrip().startswith("{"):
            record = json.loads(line)
            photo = record["photo"] if "photo" in record else record["file"]
            for caption in record.get("captions") or [record["caption"]]:
                yield photo, record.get("split", ""), caption
        elif "\t" in line:
            photo, caption = line.split("\t", 1)
            name, mark, index = photo.strip().rpartition("#")
            yield (name if mark and index.isdigit() else photo.strip()), "", caption
        else:
            raise InputError(f"line {number} of {str(path)!r} has no tab between photo and caption: {line[:80]!r}")


def _numbered(captions: Iterable[tuple[str, str, str]]) -> Iterator[Caption]:
    seen: Counter[str] = Counter()
    for photo, split, text in captions:
        yield Caption(photo, split, seen[photo], tuple(tokenize(text)))
        seen[photo] += 1
