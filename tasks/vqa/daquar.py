"""DAQUAR: human questions about indoor photos (Malinowski & Fritz 2014), as stored in ``MMEXPLAIN_DATA/daquar``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mmexplain.tasks.captioning.flickr8k import Photo, split_of

from .examples import DAQUAR, Example, Source

NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
DEV_SHARE = 10
"""One training photo in so many is kept for development: DAQUAR itself has only training and test photos."""


def spoken(answer: str) -> str:
    """An answer as people write it: ``garbage_bin`` → "garbage bin", ``3`` → "three"."""
    if answer.isdecimal() and int(answer) < len(NUMBERS):
        return NUMBERS[int(answer)]
    return answer.replace("_", " ")


def load_daquar(root: Path, limit: int | None = None) -> Source:
    """The photos of ``root/qa.jsonl`` and the questions that have one single answer.

    Args:
        root: folder of DAQUAR.
        limit: take the first so many photos of each split only.
    """
    with (root / "qa.jsonl").open(encoding="utf-8") as lines:
        return daquar_source((json.loads(line) for line in lines), limit)


def daquar_source(records: Iterable[dict[str, object]], limit: int | None = None) -> Source:
    """As :func:`load_daquar`, from the lines of the file.

    Photos are sorted by their number; every tenth training photo is a development photo.
    """
    kept = list(records)
    splits = {str(record["image"]): str(record["split"]) for record in kept}
    files = sorted(splits, key=lambda file: (len(file), file))
    training = [file for file in files if splits[file] == "train"]
    splits.update(dict.fromkeys(training[DEV_SHARE - 1 :: DEV_SHARE], "dev"))
    photos = [Photo(file, splits[file], (), ()) for file in files]
    if limit is not None:
        chosen = sorted(row for split in ("train", "dev", "test") for row in split_of(photos, split, limit))
        photos = [photos[row] for row in chosen]
    row = {photo.file: number for number, photo in enumerate(photos)}
    examples = []
    for record in kept:
        answers = record["answers"]
        assert isinstance(answers, list)
        image = str(record["image"])
        if len(answers) == 1 and image in row:
            examples.append(Example(row[image], str(record["question"]), spoken(answers[0]), DAQUAR))
    return Source(DAQUAR, photos, examples)
