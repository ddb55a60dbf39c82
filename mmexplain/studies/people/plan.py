"""Which questions a participant sees, and in which order: what the page's script draws, drawn here again.

``questionnaire.js`` does the same with the same generator, so that the seed in a file of answers says what was shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

FORMAT = "mmexplain.questionnaire/1"

KINDS = {"discrimination": "which object is shown?", "trust": "which of two models seems more reliable?"}

SCALE: tuple[str, ...] = (
    "A clearly more reliable",
    "A slightly more reliable",
    "both equally reliable",
    "B slightly more reliable",
    "B clearly more reliable",
)
"""Of trust: +2 to −2 for A (Selvaraju et al. 2017, §5.2)."""

COLUMNS = {
    "study": "code of the study; the key is of the same",
    "participant": "as typed on the first page, or drawn there",
    "seed": "of the order, from study and participant",
    "order": "1 for the first question",
    "item": "code of the photo, or of the attention check",
    "question": "discrimination, trust or check",
    "attention_check": "1 for a question whose answer is known, else 0",
    "arm": "code of the method; empty for checks",
    "shown": "code of the picture, in 'trust' of the pictures A and B",
    "options": "as they stood, the first first, with | between them",
    "answer": "number of the option that was chosen, 1 for the first",
    "answer_text": "its text",
    "reaction_ms": "from the pictures being there to the answer being sent, milliseconds",
    "reloaded": "1 if the page was opened anew at this question, else 0: the clock then began again",
    "started": "when the question was shown, UTC",
    "ended": "when it was answered, UTC",
}
"""What a file of answers holds. What was right is not among it: only the key tells."""

_WORD = 2**32
_FORMULA = re.compile(r"^\s*[=+\-@＝＋－＠]")

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What one participant is asked at one place.

    Attributes:
        order: from 1.
        item: code of the photo or of the check.
        kind: "discrimination", "trust" or "check".
        arm: code of the method; empty for checks.
        shown: codes of the pictures, in their order on the page; empty for checks.
        options: texts, in their order on the page.
    """

    order: int
    item: str
    kind: str
    arm: str
    shown: tuple[str, ...]
    options: tuple[str, ...]

    def cells(self) -> dict[str, str]:
        """What the file of answers says of the question."""
        return {
            "order": str(self.order),
            "item": self.item,
            "question": self.kind,
            "attention_check": str(int(self.kind == "check")),
            "arm": self.arm,
            "shown": " ".join(self.shown),
            "options": cell(" | ".join(self.options)),
        }


def plan(design: Mapping[str, Any], seed: int) -> list[Question]:
    """The questions of one participant.

    Photos are shuffled and the first of them taken; the arms are dealt out evenly and shuffled; which of an arm's two
    pictures is shown, and which option stands first (of trust: which picture is A), are coins of their own. Checks lie
    in equal stretches, anywhere in each.

    Args:
        design: of the study, as the key holds it.
        seed: 32 bits; see :func:`seed_of`.
    """
    below = _Below(seed)
    items, arms, checks = design["items"], design["arms"], design["checks"]
    order = _shuffled(range(len(items)), below)[: design["questions"]]
    dealt = _shuffled(range(len(arms)), below)
    dealt = _shuffled([dealt[place % len(arms)] for place in range(len(order))], below)
    asked: list[tuple[str, str, str, tuple[str, ...], tuple[str, ...]]] = []
    for number, arm_number in zip(order, dealt, strict=True):
        item, arm = items[number], arms[arm_number]["arm"]
        pictures = [code for code, _ in item["arms"][arm]]
        pick, flip = below(2), below(2)
        shown: tuple[str, ...]
        options: tuple[str, ...]
        if design["kind"] == "trust":
            shown, options = _turned(pictures, flip), SCALE
        else:
            shown, options = (pictures[pick],), _turned(item["options"], flip)
        asked.append((item["item"], design["kind"], arm, shown, options))
    put: dict[int, list[tuple[str, str, str, tuple[str, ...], tuple[str, ...]]]] = {}
    for place, number in enumerate(_shuffled(range(len(checks)), below)):
        check, flip = checks[number], below(2)
        options = SCALE if design["kind"] == "trust" else _turned(check["options"], flip)
        before = (place * len(order) + below(len(order))) // len(checks)
        put.setdefault(before, []).append((check["item"], "check", "", (), options))
    listed = [one for place, question in enumerate(asked) for one in (*put.get(place, ()), question)]
    return [Question(number, *told) for number, told in enumerate(listed, 1)]


def seed_of(study: str, participant: str) -> int:
    """FNV-1a over the UTF-8 of both, 32 bits: one participant of one study has one order."""
    value = 2166136261
    for byte in f"{study} {participant}".encode():
        value = (value ^ byte) * 16777619 % _WORD
    return value


def cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula, on one line."""
    line = re.sub(r"\s+", " ", text)
    return f"'{line}" if _FORMULA.match(line) else line


class _Below:
    """Mulberry32 (Tommy Ettinger 2017, public domain): 32 bits of state, the same in every language."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def __call__(self, number: int) -> int:
        self._state = (self._state + 0x6D2B79F5) % _WORD
        mixed = self._state
        mixed = (mixed ^ mixed >> 15) * (mixed | 1) % _WORD
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) % _WORD
        return (mixed ^ mixed >> 14) * number >> 32


def _shuffled(values: Sequence[T], below: _Below) -> list[T]:
    """Fisher and Yates's shuffle, from the end."""
    found = list(values)
    for last in range(len(found) - 1, 0, -1):
        other = below(last + 1)
        found[last], found[other] = found[other], found[last]
    return found


def _turned(pair: Sequence[str], flip: int) -> tuple[str, ...]:
    return tuple(reversed(pair)) if flip else tuple(pair)
