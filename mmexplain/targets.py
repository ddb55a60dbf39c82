"""What is explained: one differentiable number of the model's output, with a name for people."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from mmexplain.errors import TargetError

Kind = Literal["word", "span", "caption", "answer", "class", "action", "contrast"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Target:
    """One thing the model said, or is made to consider.

    Attributes:
        label: the name shown to people ("dog", "a red frisbee", "tiger cat rather than boxer").
        kind: what sort of target it is, see :data:`KINDS`.
        ids: the model's own numbers for it: a class index, or the token ids of a word, span or caption.
        index: position of the (first) word in the text, counted from 0; None where there is no text.
        content: False for a function word ("a", "of"), which is seldom *about* a place in the photo.
        versus: for a contrast, the target that this one is held against; the score is the difference.
        weight: how much of the score of ``versus`` is taken away.
        words: how many words of the text it covers, where ``ids`` are tokens of which several make a word; None where
            each of ``ids`` is a word.
    """

    label: str
    kind: Kind
    ids: tuple[int, ...] = ()
    index: int | None = None
    content: bool = True
    versus: Target | None = None
    words: int | None = None
    weight: float = 1.0

    @property
    def span(self) -> tuple[int, int] | None:
        """First and one-past-last word position of a text target; None without a text."""
        if self.index is None:
            return None
        return self.index, self.index + (len(self.ids) if self.words is None else self.words)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Target:
        """Inverse of :meth:`to_dict`."""
        versus = record.get("versus")
        return cls(
            label=record["label"],
            kind=record["kind"],
            ids=tuple(record["ids"]),
            index=record["index"],
            content=record["content"],
            versus=cls.from_dict(versus) if versus else None,
            words=record.get("words"),
            weight=record.get("weight", 1.0),
        )


def contrast(target: Target, versus: Target, weight: float = 1.0) -> Target:
    """``target`` rather than ``versus``: its score is that of ``target`` less ``weight`` times that of ``versus``.

    Raises:
        TargetError: a weight that is no number, or below 0.
    """
    if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
        raise TargetError(f"a contrast takes away 0 or more of the other's score, not {weight!r}")
    return Target(
        label=target.label + rather_than(versus, weight),
        kind="contrast",
        ids=target.ids,
        index=target.index,
        content=target.content,
        versus=versus,
        words=target.words,
        weight=float(weight),
    )


def rather_than(versus: Target, weight: float) -> str:
    """How the label of a contrast ends."""
    part = "" if weight == 1 else f"{weight:g} of "
    return f" rather than {part}{versus.label}"
