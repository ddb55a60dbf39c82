"""A question with its one-word answer, and files of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.tasks.captioning.flickr8k import Box, Photo

KINDS = ("object", "number", "colour", "location")


@dataclass(frozen=True)
class Question:
    """A question made from a caption.

    Attributes:
        photo: file name of the photo.
        split: ``train``, ``dev`` or ``test``; empty where the source does not say.
        text: lower-case words without a question mark.
        answer: one lower-case word.
        kind: one of :data:`KINDS`.
        caption: which of the photo's captions it was made from, from 0.
        phrase: first and last (inclusive) word of the noun phrase that the answer is about, counted in the caption's
            words (:func:`~mmexplain.tasks.captioning.vocabulary.tokenize`). The last word is the phrase's head.
    """

    photo: str
    split: str
    text: str
    answer: str
    kind: str
    caption: int
    phrase: tuple[int, int]


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Writes one JSON object a line; the folder is made if needed.

    Raises:
        InputError: the system refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(question), ensure_ascii=False) + "\n" for question in questions)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None


def read_questions(path: Path) -> list[Question]:
    """The questions that :func:`write_questions` wrote.

    Raises:
        InputError: the file cannot be read, or a line of it is not a question.
    """
    names = [field.name for field in fields(Question)]
    questions = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the questions {str(path)!r}: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            first, last = record["phrase"]
            questions.append(Question(**{**{name: record[name] for name in names}, "phrase": (int(first), int(last))}))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"line {number} of {str(path)!r} is not a question with the fields {', '.join(names)}: {line[:80]!r}"
            ) from error
    return questions


def boxes_of(question: Question, photos: Sequence[Photo]) -> tuple[Box, ...]:
    """Where the answer stands: the boxes of the annotated phrases that hold the head word of the question's phrase.

    Empty where nobody drew a box (or the photo is not among ``photos``). For many questions, pass just the one photo.
    """
    head = question.phrase[1]
    boxes: dict[Box, None] = {}
    for photo in photos:
        if photo.file == question.photo and question.caption < len(photo.sentences):
            for phrase in photo.sentences[question.caption].phrases:
                if phrase.first <= head <= phrase.last:
                    boxes.update(dict.fromkeys(phrase.boxes))
    return tuple(boxes)
