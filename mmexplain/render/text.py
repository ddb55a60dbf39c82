"""Numbers and foreign strings made fit to be read."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 5
"""Decimals beyond which a number is written with a power of ten."""

FAINTEST = 4.0
"""Words of probability e⁻⁴ (2 %) and less get the faintest colour."""

STOPS = ".,;:!?…"
"""Marks that end a sentence or a part of one."""


def clean(text: object) -> str:
    """``text`` without what would break a page or a figure: control characters, lone surrogates, line breaks.

    Bidirectional overrides go too: a file name must not be able to rearrange the words around it.
    """
    shown = []
    for character in str(text):
        category = unicodedata.category(character)
        if character in "\u200c\u200d":  # joiners: part of how some scripts and emoji are written
            shown.append(character)
        elif character.isspace() or category == "Cc":
            shown.append(" ")
        elif category == "Cs":
            shown.append("\ufffd")
        elif category != "Cf":
            shown.append(character)
    return " ".join("".join(shown).split())


def percent(probability: float | None) -> str:
    """``0.834`` → ``"83%"``; "" for None, "–" where it is not a number."""
    if probability is None:
        return ""
    if not math.isfinite(probability):
        return "–"
    value = 100 * probability
    if value >= 99.95:
        return "100%"
    if value >= 99 or 0.1 <= value < 9.95:
        return f"{value:.1f}%"
    return "<0.1%" if value < 0.1 else f"{value:.0f}%"


def number(value: float) -> str:
    """A score to three significant digits; "–" where it is not a number."""
    return f"{value:.3g}".replace("-", "−") if math.isfinite(value) else "–"


def signed(value: float, largest: float) -> str:
    """A finite number with its sign, as precise as two significant digits of the ``largest`` of its kind: ``"+1.2"``,
    ``"−0.3"``; ``"0"`` where that rounds to nothing."""
    decimals = max(0, 1 - math.floor(math.log10(largest))) if largest > 0 else 0
    if decimals > LONGEST:
        return f"{value:+.0e}".replace("-", "−") if value else "0"
    shown = f"{value:+.{decimals}f}"
    return shown.replace("-", "−") if any(digit in "123456789" for digit in shown) else "0"


def tone(probability: float | None) -> float | None:
    """0 to 1, linear in log-probability: how strongly a word is coloured. None where nothing is known."""
    if probability is None or not math.isfinite(probability):
        return None
    if probability <= 0:
        return 0.0
    return round(min(1.0, max(0.0, 1 + math.log(probability) / FAINTEST)), 3)


def rows(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as (name, value) rows for people."""
    listed: list[tuple[str, str]] = []
    for name, value in record.items():
        full = f"{prefix}{clean(name)}"
        if isinstance(value, Mapping) and value:
            listed += rows(value, f"{full} · ")
        elif isinstance(value, list | tuple):
            listed.append((full, clean(json.dumps(value, ensure_ascii=False, default=str))))
        else:
            listed.append((full, clean(value)))
    return listed


def stops(text: str, words: Sequence[str]) -> list[str]:
    """The commas, stops and question marks that follow each of a text's words; none where a word is not found."""
    found: list[str] = []
    end, folded = 0, text.casefold()
    for number, word in enumerate(words):
        start = folded.find(word.casefold(), end)
        if start < 0 or len(folded) != len(text):
            return [*found, *[""] * (len(words) - number)]
        end = start + len(word)
        rest = text[end:]
        found.append(rest[: len(rest) - len(rest.lstrip(STOPS))])
    return found
