"""Reading many inputs: folders, patterns, tables, COCO's and VQA's files, WebDataset's shards, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain

from mmexplain.errors import InputError, did_you_mean
from mmexplain.jobs.inputs import coco, media, shards, tables
from mmexplain.jobs.inputs.columns import Entry, Wanted
from mmexplain.jobs.inputs.unique import require_unique
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import OPTIONS
from mmexplain.jobs.places import absolute, is_folder, is_url, suffix_of
from mmexplain.paths import check_path

__all__ = ["items"]


def items(
    source: str, task: str, *, images: str | None = None, generate: bool = False, question: str | None = None
) -> Iterator[Item]:
    """The inputs of a job, one by one: a source that has not changed gives the same ones in the same order.

    Args:
        source: a path, an fsspec URL or a chain of URLs; of

            - a folder: its photos (videos for ``action``), and those of the folders in it, sorted; hidden files and
              others are left out. The id is the path from there;
            - a photo or a video; the id is its name;
            - a pattern with ``*``, ``**``, ``?``, ``[ab]``, ``{000..009}`` or ``{train,val}``, of photos, videos,
              tables or tar files;
            - a table, see :func:`mmexplain.jobs.inputs.tables.read`: JSON Lines, CSV, TSV (these also compressed) or
              Parquet, with columns for the photo (``image``, ``image_path``, ``path``, ``file``, ``file_name``,
              ``filename`` or ``url``) or the video (``video``, ``video_path``, or one of the same), ``caption`` (or
              ``captions``), ``question``, ``answers`` (or ``answer``; for classes and actions also ``label``,
              ``labels``, ``target``, ``targets``; a list, or texts divided by ``|``) and ``id``;
            - a JSON file of COCO's captions or VQA's questions, see :func:`mmexplain.jobs.inputs.coco.read`;
            - a tar file of WebDataset's, see :func:`mmexplain.jobs.inputs.shards.read`.
        task: ``caption``, ``vqa``, ``classify`` or ``action``. What it does not use is not read.
        images: the folder of the photos or videos that a table or a JSON file names.
        generate: the model speaks: captions are passed over, and every photo is explained once.
        question: for ``vqa``, asked of every photo that comes without one.

    Raises:
        InputError: the source cannot be read, holds nothing for the task, lacks what the task needs in every row, or
            has an id twice. A row alone that lacks something gives an item without it.
    """
    if task not in OPTIONS:
        raise InputError(f"there is no task {task!r}: it is one of {', '.join(OPTIONS)}{did_you_mean(task, OPTIONS)}")
    if not source.strip():
        raise InputError(f"no inputs were given: the source is {source!r}")
    if question is not None and (task != "vqa" or not question.strip()):
        raise InputError(f"the question {question!r} is empty" if task == "vqa" else f"task {task!r} asks no question")
    place, folder = absolute(source), absolute(images) if images else None
    wanted = Wanted(task, generate, question)
    if folder and not is_folder(folder):
        raise InputError(f"no such folder: {images!r}")
    return _numbered(place, wanted, folder)


def _numbered(place: str, wanted: Wanted, images: str | None) -> Iterator[Item]:
    number = -1
    for number, entry in enumerate(require_unique(lambda: _read(place, wanted, images))):
        text = "\n".join(filter(None, (entry.id, entry.source, entry.caption, entry.question, *entry.answers)))
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{text!r:.200} holds what is no character of Unicode; rename or rewrite it") from None
        yield Item(number, *(entry if entry.question else entry._replace(question=wanted.question)))
    if number < 0:
        what = "videos" if wanted.medium == "video" else "photos"
        raise InputError(f"{place!r} is empty: no {what} were found in it")


def _read(place: str, wanted: Wanted, images: str | None) -> Iterator[Entry]:
    literal = not is_url(place) and os.path.lexists(place)
    if literal and os.path.isdir(place):
        return media.in_folder(place, wanted)
    pattern = not literal and media.is_pattern(place)
    suffix = suffix_of(place)
    if suffix in shards.PACKED:
        raise InputError(shards.packed(place))
    if suffix in shards.SUFFIXES:
        return shards.read(_some(place, pattern), wanted)
    if suffix in tables.SUFFIXES:
        return tables.read(_some(place, pattern), wanted, images)
    if suffix in coco.SUFFIXES:
        return chain.from_iterable(coco.read(each, wanted, images) for each in _some(place, pattern))
    if pattern:
        return media.matching(place, wanted)
    if suffix in (*media.PHOTOS, *media.VIDEOS):
        return _one(place, wanted)
    if is_url(place) and is_folder(place):
        return media.in_folder(place, wanted)
    raise _unknown(place, suffix)


def _some(place: str, pattern: bool) -> list[str]:
    places = list(media.expand(place)) if pattern else [place]
    for each in places:
        _require(each)
    if not places:
        raise InputError(f"no file was found for {place!r}")
    return places


def _one(place: str, wanted: Wanted) -> Iterator[Entry]:
    _require(place)
    media.refuse_without_questions(place, wanted)
    if suffix_of(place) not in media.suffixes(wanted.medium):
        is_what, takes = ("photo", "videos") if wanted.medium == "video" else ("video", "photos")
        raise InputError(f"{place!r} is a {is_what}; {wanted.task} takes {takes}")
    return media.one(place)


def _require(place: str) -> None:
    """Refuse a plain file that does not exist or is empty; of others it is told when they are read."""
    if not is_url(place):
        check_path(place, "file")


def _unknown(place: str, suffix: str) -> InputError:
    _require(place)
    if suffix == ".zip":
        inside = f"zip://::{place}"
        return InputError(f"{place!r} is a zip file; to read the photos in it, give {inside!r}")
    known = (
        "a folder, photos, videos, tables (.jsonl, .csv, .tsv, .parquet), COCO's and VQA's files (.json) and "
        "WebDataset's (.tar)"
    )
    return InputError(f"{place!r} has a suffix that is not known ({suffix or 'none'}); known are {known}")
