"""What each word that the model had read added to a target, as plain values for the report's template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmexplain.explanation import Explanation
from mmexplain.render.text import clean, percent, signed

NAMED = 3
"""Words that are named on either side: the strongest."""

WEAKEST = 0.05
"""Words that added less than this share of what the strongest added are not worth naming."""

UNEXPLAINED = 0.1
"""Parts that miss more than this share of what the words changed in the score are said to miss it."""


def text_view(explanation: Explanation) -> list[dict[str, Any]]:
    """One record per text method: its name and, per target, what the words added."""
    words = [clean(word) for word in explanation.words]
    read = "read" if explanation.task == "vqa" else "read before it"
    views = []
    for method in explanation.text_methods:
        values = explanation.text_maps[method]
        errors = explanation.text_errors.get(method)
        misses = [None] * len(explanation) if errors is None else errors.tolist()
        parts = [
            {**_part(words, added, read), "error": _error(added, miss)}
            for added, miss in zip(values.tolist(), misses, strict=True)
        ]
        views.append({"name": clean(method), "parts": parts})
    return views


def _part(words: Sequence[str], added: Sequence[float], read: str) -> dict[str, Any]:
    """Shares of the strongest word from -1 to 1 (None: not read), the numbers as shown, and a sentence."""
    known = [value for value in added if math.isfinite(value)]
    largest = max((abs(value) for value in known), default=0.0)
    shares = [round(value / largest, 3) if largest and math.isfinite(value) else None for value in added]
    order = sorted((i for i, share in enumerate(shares) if share), key=lambda i: -abs(added[i]))
    return {
        "shares": shares if largest else [0.0 if math.isfinite(value) else None for value in added],
        "numbers": [signed(value, largest) if math.isfinite(value) else "" for value in added],
        "strong": sorted(order[:NAMED]),
        "says": _sentence(words, added, order, largest) if known else f"No word was {read}.",
    }


def _sentence(words: Sequence[str], added: Sequence[float], order: Sequence[int], largest: float) -> str:
    worth = [i for i in order if abs(added[i]) >= WEAKEST * largest]
    sides = [("For it", [i for i in worth if added[i] > 0]), ("Against it", [i for i in worth if added[i] < 0])]

    def named(place: int) -> str:
        """A word; where it stands too if the text says it more than once."""
        return words[place] if words.count(words[place]) == 1 else f"{words[place]} (word {place + 1})"

    said = [
        f"{side}: " + ", ".join(f"{named(i)} {signed(added[i], largest)}" for i in places[:NAMED])
        for side, places in sides
        if places
    ]
    return ". ".join(said) + "." if said else "The words added nothing to the score."


def _error(added: Sequence[float], miss: float | None) -> str:
    """What the words did together, and the completeness error, in plain words; "" where the method promises nothing.

    The parts add up to the score less that of the same input without its words, not to the score itself."""
    if miss is None or not math.isfinite(miss):
        return ""
    total = math.fsum(value for value in added if math.isfinite(value))
    if abs(miss) <= UNEXPLAINED:
        return f"Together {total:+.2f}: what the words changed in the score, within {percent(abs(miss))}."
    return (
        f"Together {total:+.2f}, which misses what the words changed in the score by {percent(abs(miss))}: mind the "
        "order of the parts, not their sizes."
    )
