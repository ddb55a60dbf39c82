"""What the columns of a table are called, and the items that one of its rows holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from mmexplain.errors import InputError

_FILE = ("path", "file", "file_name", "filename", "url")
_NAMES = {
    "image": ("image", "image_path", *_FILE),
    "video": ("video", "video_path", *_FILE),
    "caption": ("caption", "captions"),
    "question": ("question",),
    "answers": ("answers", "answer"),
    "classes": ("answers", "answer", "labels", "label", "targets", "target"),
    "id": ("id",),
}


class Entry(NamedTuple):
    """An :class:`~mmexplain.jobs.item.Item` that has no number yet."""

    id: str
    source: str
    offset: int | None = None
    size: int | None = None
    caption: str | None = None
    question: str | None = None
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What is read of the inputs.

    Attributes:
        task: the verb.
        generate: the model speaks, so that captions are passed over.
        question: asked of what brings no question of its own.
    """

    task: str
    generate: bool = False
    question: str | None = None

    @property
    def medium(self) -> str:
        """``image`` or ``video``."""
        return "video" if self.task == "action" else "image"

    @property
    def captions(self) -> bool:
        """Whether captions are explained where there are any."""
        return self.task == "caption" and not self.generate

    @cached_property
    def names(self) -> dict[str, tuple[str, ...]]:
        """What the columns hold that the task reads, and the names they may have, best first."""
        texts = {"caption": ["caption"] if self.captions else [], "vqa": ["question", "answers"]}
        return {role: _NAMES[role] for role in (self.medium, *texts.get(self.task, ["classes"]), "id")}

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that the task cannot do without."""
        return (self.medium, "question") if self.asks else (self.medium,)

    @property
    def asks(self) -> bool:
        """Whether every input must bring a question."""
        return self.task == "vqa" and self.question is None

    def require(self, columns: Iterable[str], place: str) -> None:
        """Refuse a table without a column that the task cannot do without.

        Raises:
            InputError: it lacks one; the message says which columns it has.
        """
        found = list(columns)
        for role in self.required:
            first, *others = self.names[role]
            if not find(found, self.names[role]):
                or_else = f" (nor {', '.join(map(repr, others))})" if others else ""
                has = ", ".join(map(repr, found[:20])) + (", ..." if len(found) > 20 else "")
                raise InputError(f"{place!r} has no column {first!r}{or_else}, which {self.task} needs; it has {has}")


def find(columns: Iterable[str], names: tuple[str, ...]) -> str | None:
    """The column that has the best of the names, however it is capitalised."""
    return _find(tuple(columns), names)


@lru_cache(1024)  # of millions of rows all, or nearly all, have the same columns
def _find(columns: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    folded = {column.strip().casefold(): column for column in columns}
    return next((folded[name] for name in names if name in folded), None)


def cell(row: Mapping[str, Any], wanted: Wanted, role: str) -> Any:
    """The value of a row's column; None where there is none."""
    column = find(row, wanted.names[role]) if role in wanted.names else None
    return None if column is None else row[column]


def source_of(row: Mapping[str, Any], wanted: Wanted, where: str) -> str:
    """The path or URL that a row names, an empty text where it names none.

    Raises:
        InputError: it holds the photo itself, or no text.
    """
    return _text(cell(row, wanted, wanted.medium), wanted.medium, where) or ""


def entries(row: Mapping[str, Any], wanted: Wanted, where: str, source: str, own_id: str) -> Iterator[Entry]:
    """The items of a row: one, or one for every caption of a list.

    Args:
        row: column name → value.
        wanted: what the task reads.
        where: where the row comes from, for messages.
        source: of the photo or the video.
        own_id: id of a row that says none.

    Raises:
        InputError: a column holds what cannot be meant, such as an object in place of a sentence.
    """
    id = _text(cell(row, wanted, "id"), "id", where) or own_id
    question = _text(cell(row, wanted, "question"), "question", where)
    answers = tuple(_several(cell(row, wanted, "answers" if wanted.task == "vqa" else "classes"), where))
    captions = cell(row, wanted, "caption")
    if isinstance(captions, list | tuple) and captions:
        for number, caption in enumerate(captions):
            yield Entry(f"{id}#{number}", source, None, None, _text(caption, "caption", where), question, answers)
    else:
        caption = _text(captions or None, "caption", where)
        yield Entry(id, source, None, None, caption, question, answers)


def _text(value: Any, role: str, where: str) -> str | None:
    """A cell as text; None where it is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | int | float):
        return str(value)
    if role in ("image", "video"):
        raise InputError(f"{where} holds the {role} as {type(value).__name__}; give the path or the URL of a file")
    raise InputError(f"{where} has {role} of the type {type(value).__name__}; give a text")


def _several(value: Any, where: str) -> Iterator[str]:
    """Answers, each once: of a list (VQA's own has objects with an ``answer``), also where it is written as JSON, or of
    a text divided by bars."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, str):
        value = value.split("|")
    values = value if isinstance(value, list | tuple) else [value]
    texts = (_text(each.get("answer") if isinstance(each, Mapping) else each, "answer", where) for each in values)
    yield from dict.fromkeys(text for text in texts if text is not None)
