"""Photos with questions about them: ``qa.jsonl`` and ``images/``, as DAQUAR is stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.protocol import Item

QUESTIONS = "qa.jsonl"
SPLIT = "test"


@dataclass(frozen=True)
class Asked:
    """A question about a photo.

    Attributes:
        photo: its file.
        question: what is asked.
    """

    photo: Path
    question: str


def read_asked(folder: Path) -> list[Item]:
    """The questions of a folder, in the order of its file.

    Args:
        folder: with ``qa.jsonl``, whose lines are objects with ``image``, ``question`` and perhaps ``split`` (where it
            is told, only "test" is taken), and with the photos in ``images/``.

    Returns:
        Items called ``number:image``, which hold an :class:`Asked` each.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    path = folder / QUESTIONS
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [
            Item(
                f"{number}:{record['image']}",
                Asked(folder / "images" / str(record["image"]), str(record["question"])),
            )
            for number, record in enumerate(records)
            if record.get("split", SPLIT) == SPLIT
        ]
    except FileNotFoundError:
        raise InputError(f"{str(folder)!r} holds no {QUESTIONS}: a VQA model needs questions") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{str(path)!r} is no file of questions ({error})") from None
