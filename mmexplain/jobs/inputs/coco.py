"""COCO's captions and VQA's questions: one JSON file beside folders of photos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mmexplain.errors import InputError
from mmexplain.jobs.inputs.columns import Entry, Wanted, entries
from mmexplain.jobs.inputs.found import folder_of
from mmexplain.jobs.places import join, name_of, opened, parent

SUFFIXES = (".json", ".json.gz")

_PROBED = 20


def read(place: str, wanted: Wanted, images: str | None = None) -> Iterator[Entry]:
    """The items of a file of captions (``images`` and ``annotations``) or of questions (``questions``).

    Captions give an item each, which has the annotation's id; where none is explained every photo is an item, which
    has the photo's id. Questions give an item each, which has the question's id.

    Args:
        place: of the file.
        wanted: what the task reads.
        images: the folder of the photos; by default the file's own folder, ``images`` or the subset's name
            (``val2014``) in it or beside it.

    Raises:
        InputError: it is neither, it has nothing for the task, or its photos are not found.
    """
    with opened(place) as file:
        try:
            record = json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place!r} is not JSON: {error}") from None
    try:
        if isinstance(record, dict) and isinstance(record.get("questions"), list):
            yield from _questions(record, place, wanted, images)
        elif isinstance(record, dict) and isinstance(record.get("images"), list):
            yield from _photos(record, place, wanted, images)
        else:
            rows = "; write a list of rows as JSON Lines (.jsonl)" if isinstance(record, list) else ""
            raise InputError(f"{place!r} holds neither COCO's 'images' and 'annotations' nor VQA's 'questions'{rows}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{place!r} is not in COCO's layout ({type(error).__name__}: {error})") from None


def _photos(record: dict[str, Any], place: str, wanted: Wanted, images: str | None) -> Iterator[Entry]:
    if wanted.task not in ("caption", "classify"):
        raise InputError(f"{place!r} holds captions of photos, which {wanted.task} cannot take")
    names = {photo["id"]: str(photo.get("file_name") or photo["coco_url"]) for photo in record["images"]}
    folder = _folder(list(names.values()), place, "", images)
    if not wanted.captions:
        for id, name in names.items():
            yield Entry(str(id), join(folder, name))
        return
    written = [each for each in record.get("annotations") or () if each.get("caption") is not None]
    if not written:
        raise InputError(f"{place!r} has no captions in its 'annotations'; to have the model speak, ask it to generate")
    for each in written:
        row = {"caption": str(each["caption"])}
        yield from entries(row, wanted, repr(place), join(folder, names[each["image_id"]]), str(each["id"]))


def _questions(record: dict[str, Any], place: str, wanted: Wanted, images: str | None) -> Iterator[Entry]:
    if wanted.task != "vqa":
        raise InputError(f"{place!r} holds questions, which vqa answers, not {wanted.task}")
    # the photos of test-dev are those of test
    subset = str(record.get("data_subtype") or "").replace("test-dev", "test")
    questions = record["questions"]
    if not subset:
        raise InputError(f"{place!r} has no 'data_subtype' (such as 'val2014'), which names its photos")
    folder = _folder([_name(subset, each) for each in questions[:_PROBED]], place, subset, images)
    for each in questions:
        where = f"question {each['question_id']} of {place!r}"
        yield from entries(each, wanted, where, join(folder, _name(subset, each)), str(each["question_id"]))


def _name(subset: str, question: dict[str, Any]) -> str:
    return f"COCO_{subset}_{int(question['image_id']):012d}.jpg"


def _folder(names: list[str], place: str, subset: str, images: str | None) -> str:
    stem = name_of(place).partition(".")[0]
    # captions_val2017.json: val2017
    subset = subset or stem.rpartition("_")[2]
    folders = [images] if images else [parent(place), parent(parent(place))]
    return folder_of(names[:_PROBED], folders, "image", (".", "images", subset, f"images/{subset}"))
