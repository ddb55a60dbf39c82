"""What a changed word changed: two captions of one photo, word by word."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import SequenceMatcher

from mmexplain.explanation import Explanation
from mmexplain.ranks import spearman


@dataclass(frozen=True)
class Change:
    """One word before and after.

    Attributes:
        before, after: the word; None where it was added, or left out.
        p_before, p_after: its probability given the words before it.
        alike: rank correlation of the two maps, None where there is one only, or a flat one.
    """

    before: str | None
    after: str | None
    p_before: float | None
    p_after: float | None
    alike: float | None


def changes(before: Explanation, after: Explanation) -> list[Change]:
    """The words of two captions side by side, as few of them changed as can be.

    Args:
        before: one of the captions, with a target for each word.
        after: the other, of the same photo.
    """
    one, other = before.words, after.words
    rows: list[tuple[int | None, int | None]] = []
    for _, start, stop, first, last in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        own: list[int | None] = [*range(start, stop)]
        new: list[int | None] = [*range(first, last)]
        length = max(len(own), len(new))
        rows += zip(own + [None] * (length - len(own)), new + [None] * (length - len(new)), strict=True)
    return [_change(before, after, i, j) for i, j in rows]


def log_probability(explanation: Explanation) -> float | None:
    """Log-probability of a caption: the sum of its words'; None where not every word was explained."""
    numbers = [_number(explanation, place) for place in range(len(explanation.words))]
    if explanation.probabilities is None or None in numbers:
        return None
    return float(explanation.probabilities[[number for number in numbers if number is not None]].log().sum())


def _change(before: Explanation, after: Explanation, i: int | None, j: int | None) -> Change:
    own = None if i is None else _number(before, i)
    new = None if j is None else _number(after, j)
    return Change(
        None if i is None else before.words[i],
        None if j is None else after.words[j],
        _probability(before, own),
        _probability(after, new),
        None if own is None or new is None else _alike(before, after, own, new),
    )


def _number(explanation: Explanation, place: int) -> int | None:
    """The number of the target that is the word at a place."""
    for number, target in enumerate(explanation.targets):
        if target.kind == "word" and target.index == place:
            return number
    return None


def _probability(explanation: Explanation, number: int | None) -> float | None:
    known = explanation.probabilities
    return None if known is None or number is None else float(known[number])


def _alike(before: Explanation, after: Explanation, own: int, new: int) -> float | None:
    key = next((key for key in after.maps if key in before.maps), None)
    if key is None:
        return None
    one = before.map(own, key.layer, key.method).flatten().float()
    other = after.map(new, key.layer, key.method).flatten().float()
    found = spearman(one, other) if one.shape == other.shape else math.nan
    return None if math.isnan(found) else found
