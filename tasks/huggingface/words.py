"""From tokens to the words that people read: sub-word tokens are joined, special ones never show."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SCRIPTS_WITHOUT_SPACES = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(
    rf"[{_SCRIPTS_WITHOUT_SPACES}]|[^\W{_SCRIPTS_WITHOUT_SPACES}]+(?:['’\-.,]?[^\W{_SCRIPTS_WITHOUT_SPACES}]+)*"
)
"""A word: letters and digits, held together by apostrophes, hyphens and the points of numbers; in scripts that are
written without spaces every character is one."""


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes:
        text: as it stands there.
        start, stop: its tokens, ``ids[start:stop]``.
    """

    text: str
    start: int
    stop: int


def spell(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[Word]]:
    """The text that tokens make, and its words.

    A token belongs to the first word that has a letter of it; tokens of punctuation alone belong to none, and neither
    do special ones. A word all of whose letters are in tokens of words before it has none of its own, and is joined
    to the one before.

    Args:
        tokenizer: of transformers.
        ids: token numbers, in order.
    """
    ids = [int(token) for token in ids]
    special = set(tokenizer.all_special_ids)
    ends = _ends(tokenizer, ids, special)
    text = _decoded(tokenizer, [token for token in ids if token not in special])
    offset = len(text) - len(text.lstrip())
    words: list[Word] = []
    for match in _WORD.finditer(text):
        own = [
            number
            for number, token in enumerate(ids)
            if token not in special
            and (ends[number - 1] if number else 0) < match.end()
            and ends[number] > match.start()
            and not (words and number < words[-1].stop)
        ]
        if own:
            words.append(Word(match.group(), own[0], own[-1] + 1))
        elif words:
            words[-1] = Word(text[text.rindex(words[-1].text, 0, match.start()) : match.end()], *_range(words[-1]))
    return text[offset:].rstrip(), words


def _range(word: Word) -> tuple[int, int]:
    return word.start, word.stop


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _ends(tokenizer: Any, ids: Sequence[int], special: set[int]) -> list[int]:
    """How many letters of the text have been written after each token. A letter of several tokens (bytes of one
    character) is complete with the last of them, and counts from its first on."""
    ends: list[int] = []
    kept: list[int] = []
    for token in ids:
        if token not in special:
            kept.append(token)
        ends.append(len(_decoded(tokenizer, kept)) if kept else 0)
    return ends


def locate(tokenizer: Any, ids: Sequence[int], text: str) -> list[Word]:
    """The words of ``text``, a part of what tokens make, with the tokens they have there; the last place where it
    stands. Empty if it does not.

    Only letters and digits are compared, without case and accents: tokenizers change these, and set apart what an
    apostrophe holds together.
    """
    ids = [int(token) for token in ids]
    special = set(tokenizer.all_special_ids)
    ends = _ends(tokenizer, ids, special)
    whole = _decoded(tokenizer, [token for token in ids if token not in special])
    letters = [(place, letter) for place, character in enumerate(whole) for letter in _letters(character)]
    words = split(text)
    wanted = "".join(map(_letters, words))
    begin = _last_place(letters, wanted) if wanted else -1
    found: list[Word] = []
    for word in words if begin >= 0 else []:
        end = begin + len(_letters(word))
        first, last = letters[begin][0], letters[max(begin, end - 1)][0]
        begin = end
        own = [
            number
            for number, token in enumerate(ids)
            if token not in special and (ends[number - 1] if number else 0) <= last and ends[number] > first
        ]
        found.append(Word(word, own[0], own[-1] + 1))
    return found


def _letters(text: str) -> str:
    return "".join(character for character in unicodedata.normalize("NFKD", text.casefold()) if character.isalnum())


def _last_place(letters: Sequence[tuple[int, str]], wanted: str) -> int:
    """Where ``wanted`` stands in a text of letters for the last time, whole words if it ever does; -1 if it does not.

    Args:
        letters: each with its place in the text that has the other characters too.
        wanted: letters.
    """
    stream = "".join(letter for _, letter in letters)
    places = [match.start() for match in re.finditer(f"(?={re.escape(wanted)})", stream)]
    ends = {place: place + len(wanted) for place in places}
    apart = [
        place
        for place in places
        if (place == 0 or letters[place - 1][0] + 1 < letters[place][0])
        and (ends[place] == len(letters) or letters[ends[place] - 1][0] + 1 < letters[ends[place]][0])
    ]
    return max(apart or places, default=-1)


def split(text: str) -> list[str]:
    """The words of a text."""
    return _WORD.findall(text)
