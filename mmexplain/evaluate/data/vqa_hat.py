"""Reader of VQA-HAT (Das et al., EMNLP 2016): where people looked to answer a question."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.evaluate.data.human_attention import Attended

_MAP = re.compile(r"(\d+)_(\d+)\.png")


def looks_like_vqa_hat(folder: Path) -> bool:
    """Whether the folder holds a file of VQA questions."""
    return any(folder.rglob("*questions*.json"))


def read_vqa_hat(folder: Path) -> Sequence[Attended]:
    """Maps as they were published: PNG files ``<question id>_<n>.png``, n being the annotator (three for each question
    of the validation part, one in training), anywhere below ``folder``; beside them the questions of VQA v1
    (``*questions*.json``: ``questions [{question_id, image_id, question}]``) and the COCO photos, as
    ``COCO_<part>_<image id in 12 digits>.jpg`` or ``<image id in 12 digits>.jpg``.

    Only questions that have maps are read. Written from the publication: the files themselves could not be had.

    Raises:
        InputError: no maps, questions or photos, or maps of a question that is not there.
    """
    maps: dict[int, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.png")):
        if match := _MAP.fullmatch(path.name):
            maps.setdefault(int(match[1]), {})[f"annotator {match[2]}"] = path
    if not maps:
        raise InputError(f"{str(folder)!r} holds no maps of VQA-HAT, named <question id>_<number>.png")
    questions = _questions(folder)
    photos = {
        int(match[1]): path for path in folder.rglob("*.jpg") if (match := re.search(r"(?:^|_)(\d{12})$", path.stem))
    }
    found = []
    for number in sorted(maps):
        if number not in questions:
            raise InputError(f"the maps of question {number} have no question in {str(folder)!r}")
        image, question = questions[number]
        if image not in photos:
            raise InputError(f"question {number} is on the COCO photo {image:012d}, which is not in {str(folder)!r}")
        found.append(Attended(str(number), photos[image], maps[number], question=question))
    return found


def _questions(folder: Path) -> dict[int, tuple[int, str]]:
    """Question id → photo and text."""
    found: dict[int, tuple[int, str]] = {}
    for path in sorted(folder.rglob("*questions*.json")):
        try:
            record: Any = json.loads(path.read_text(encoding="utf-8"))
            found |= {
                int(asked["question_id"]): (int(asked["image_id"]), str(asked["question"]))
                for asked in record["questions"]
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{str(path)!r} is no file of VQA questions ({error})") from None
    return found
