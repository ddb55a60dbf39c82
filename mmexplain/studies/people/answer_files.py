"""Files of answers, held against the study that they are of; who counts, and who does not and why."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.studies.people.plan import COLUMNS, FORMAT, Question, plan

LONGEST = 12
"""Digits that a number in a file of answers may have."""


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        participant: who gave it.
        question: what was asked.
        row: the file's own cells.
        photo: id of the photo that it is about; "" for checks.
        method: whose picture was shown; "" for checks.
        control: whether the picture said nothing.
        correct: whether it was right; None for trust.
        preference: of trust, −2 to +2 for the better model; None else.
        milliseconds: that it took.
    """

    participant: str
    question: Question
    row: Mapping[str, str]
    photo: str
    method: str
    control: bool
    correct: bool | None
    preference: int | None
    milliseconds: int


@dataclass(frozen=True)
class Participant:
    """Somebody who took part.

    Attributes:
        name: the code.
        file: where the answers were read.
        answers: in their order.
        left_out: why the answers do not count; "" if they do.
    """

    name: str
    file: Path
    answers: Sequence[Answer]
    left_out: str


@dataclass(frozen=True)
class Answers:
    """All that was read.

    Attributes:
        key: of the study.
        participants: in the order of the files.
        copies: files that hold, to the letter, what another holds.
    """

    key: Mapping[str, Any]
    participants: Sequence[Participant]
    copies: Sequence[Path]

    @property
    def counted(self) -> list[Participant]:
        """Those whose answers count."""
        return [one for one in self.participants if not one.left_out]


def read_key(path: Path) -> dict[str, Any]:
    """What ``mmexplain study questionnaire`` wrote beside the page.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the key {str(path)!r}: {error.strerror or error}") from None
    except ValueError:
        key = None
    whole = isinstance(key, dict) and {"study", "design", "arms"} <= set(key)
    if not whole or key.get("format") != FORMAT:
        raise InputError(
            f"{str(path)!r} is no key of a questionnaire: give the key.json that was written beside its page"
        )
    found: dict[str, Any] = key
    return found


def read_answers(paths: Sequence[Path], key: Mapping[str, Any], misses: int = 0) -> Answers:
    """Read files that participants sent.

    Who missed more attention checks than ``misses``, or did not answer all questions, does not count. A file that says
    what another says is passed over.

    Args:
        paths: of the files.
        key: of the study.
        misses: attention checks that may be answered wrongly.

    Raises:
        InputError: a file is of something else or of another study, holds what the page did not ask, or the same
            participant sent different answers.
    """
    found: dict[str, Participant] = {}
    rows_of: dict[str, list[dict[str, str]]] = {}
    copies = []
    for path in paths:
        by_name: dict[str, list[dict[str, str]]] = {}
        for row in _rows(path, key):
            by_name.setdefault(row["participant"], []).append(row)
        for name, rows in by_name.items():
            if name not in found:
                found[name] = _participant(name, path, rows, key, misses)
                rows_of[name] = rows
            elif rows_of[name] == rows:
                copies.append(path)
            else:
                raise InputError(
                    f"participant {name!r} sent different answers in {str(found[name].file)!r} and {str(path)!r}: keep "
                    "one of the files"
                )
    return Answers(key, list(found.values()), copies)


def _rows(path: Path, key: Mapping[str, Any]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{str(path)!r} is no file of answers: it has no column {missing[0]!r}")
            rows = list(reader)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{str(path)!r} is no file of answers: it is not CSV in UTF-8") from None
    if not rows:
        raise InputError(f"{str(path)!r} holds no answers")
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(f"{str(path)!r}, line {line}: cut off or damaged; ask for the file again")
        if any(len(row[name]) > LONGEST for name in ("seed", "answer", "reaction_ms")):
            raise InputError(
                f"{str(path)!r}, line {line}: a number of more than {LONGEST} digits; ask for the file again"
            )
        if row["study"] != key["study"]:
            raise InputError(
                f"{str(path)!r} holds answers of study {row['study']!r}, and the key is of {key['study']!r}: give the "
                "key.json of the page that was answered"
            )
    return rows


def _participant(
    name: str, path: Path, rows: Sequence[dict[str, str]], key: Mapping[str, Any], misses: int
) -> Participant:
    seed = rows[0]["seed"]
    asked = plan(key["design"], int(seed)) if seed.isdecimal() and int(seed) < 2**32 else []
    if len(rows) > len(asked):
        raise InputError(f"{str(path)!r} holds {len(rows)} answers of {name!r}, and {len(asked)} questions were asked")
    answers = [_answer(path, row, question, seed, key) for row, question in zip(rows, asked, strict=False)]
    checks = [answer for answer in answers if answer.question.kind == "check"]
    missed = [answer.question.order for answer in checks if not answer.correct]
    left_out = ""
    if len(missed) > misses:
        places = ", ".join(map(str, missed))
        left_out = f"missed {len(missed)} of {len(checks)} attention checks (question {places})"
    elif len(rows) < len(asked):
        left_out = f"answered {len(rows)} of {len(asked)} questions"
    return Participant(name, path, answers, left_out)


def _answer(path: Path, row: Mapping[str, str], question: Question, seed: str, key: Mapping[str, Any]) -> Answer:
    where = f"{str(path)!r}, question {row['order']}"
    expected = {**question.cells(), "seed": seed}
    differing = [name for name, text in expected.items() if row[name] != text]
    if differing:
        name = differing[0]
        raise InputError(
            f"{where}: {name} is {row[name]!r}, and participant {row['participant']!r} was shown {expected[name]!r}: "
            "was the file edited, or are lines missing?"
        )
    chosen, took = row["answer"], row["reaction_ms"]
    if not (chosen.isdecimal() and 1 <= int(chosen) <= len(question.options)):
        raise InputError(f"{where}: there is no option {chosen!r} among {len(question.options)}")
    if not took.isdecimal():
        raise InputError(f"{where}: reaction_ms is {took!r}, and milliseconds are a whole number")
    text = question.options[int(chosen) - 1]
    correct, preference = None, None
    if question.kind == "check":
        correct = text == key["checks"][question.item]["answer"]
    elif question.kind == "discrimination":
        correct = text == key["pictures"][question.shown[0]]
    else:
        for_a = 3 - int(chosen)
        preference = for_a if key["pictures"][question.shown[0]] == "better" else -for_a
    arm = key["arms"].get(question.arm, {"method": "", "control": False})
    photo = key["photos"].get(question.item, "")
    return Answer(
        row["participant"], question, row, photo, arm["method"], arm["control"], correct, preference, int(took)
    )
