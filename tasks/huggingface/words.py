"""From tokens to the words that people read: sub-word tokens are joined, special ones never show."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

_ALONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts that are written without spaces."""
_MARKS = "\u200c\u200d" + "".join(
    character for character in map(chr, range(0x300, 0x10000)) if unicodedata.category(character)[0] == "M"
)
"""What continues a letter: vowel signs, accents, joiners."""
_LETTER = rf"(?![{_MARKS}])[^\W{_ALONE}]"
_RUN = rf"{_LETTER}[^\W{_ALONE}{_MARKS}]*(?:[{_MARKS}]+[^\W{_ALONE}{_MARKS}]*)*"
_POINT = rf"(?<=\d)[.,](?=\d)|(?<=(?<!\w){_LETTER})\.(?={_LETTER}(?!\w))"
_WORD = re.compile(rf"(?![{_MARKS}])[{_ALONE}][{_MARKS}]*|{_RUN}(?:(?:['’\-]|{_POINT}){_RUN})*")
"""A word: letters with their marks, and digits, held together by apostrophes, hyphens, and the points of numbers and of
single letters (3.5, U.S.A); in scripts that are written without spaces every character is one."""

_UNFINISHED = "\ufffd"
"""What stands for bytes that are no whole character yet."""


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


@dataclass(frozen=True)
class Written:
    """What tokens make.

    Attributes:
        text: without special tokens.
        spans: of each token the characters that it has a part in, ``text[begin:stop]``; None for special ones. A
            character of several tokens (its bytes) belongs to each of them.
    """

    text: str
    spans: list[tuple[int, int] | None]

    @classmethod
    def by(cls, tokenizer: Any, ids: Sequence[int]) -> Written:
        """What ``ids`` make in the tokenizer's hands."""
        special = set(tokenizer.all_special_ids)
        kept = [int(token) for token in ids if int(token) not in special]
        text = decoded(tokenizer, kept)
        ends = _ends(tokenizer, kept, text) or _ends_one_by_one(tokenizer, kept, text)
        own = iter(
            [(begin, stop + pending) for begin, (stop, pending) in zip([0, *(e for e, _ in ends)], ends, strict=False)]
        )
        return cls(text, [None if int(token) in special else next(own) for token in ids])

    def tokens(self, begin: int, stop: int, first: int = 0) -> tuple[int, int] | None:
        """The tokens, from number ``first`` on, that have a part in ``text[begin:stop]``, and the blank ones right
        before them. None if there are none."""
        own = [
            number
            for number in range(first, len(self.spans))
            if (span := self.spans[number]) is not None and span[0] < stop and span[1] > begin
        ]
        if not own:
            return None
        start = own[0]
        while start > first and self._blank(start - 1):
            start -= 1
        return start, own[-1] + 1

    def _blank(self, number: int) -> bool:
        span = self.spans[number]
        return span is not None and not self.text[slice(*span)].strip()


def spell(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[Word]]:
    """The text that tokens make, and its words.

    A token belongs to the first word that has a letter of it, a blank one to the word that follows; tokens of
    punctuation alone belong to none, and neither do special ones. A word all of whose letters are in tokens of words
    before it has none of its own, and is joined to the one before.

    Args:
        tokenizer: of transformers.
        ids: token numbers, in order.
    """
    written = Written.by(tokenizer, ids)
    text = written.text
    words: list[Word] = []
    begin = 0
    for match in _WORD.finditer(text):
        own = written.tokens(match.start(), match.end(), words[-1].stop if words else 0)
        if own:
            begin = match.start()
            words.append(Word(match.group(), *own))
        elif words:
            words[-1] = Word(text[begin : match.end()], words[-1].start, words[-1].stop)
    return text.strip(), words


def locate(tokenizer: Any, ids: Sequence[int], text: str) -> list[Word]:
    """The words of ``text``, a part of what tokens make, with the tokens they have there; the last place where it
    stands. Empty if it does not.

    Only letters and digits are compared, without case and accents: tokenizers change these, and set apart what an
    apostrophe holds together.
    """
    written = Written.by(tokenizer, ids)
    whole = written.text
    letters = [(place, letter) for place, character in enumerate(whole) for letter in _letters(character)]
    words = split(text)
    wanted = "".join(map(_letters, words))
    begin = _last_place(whole, letters, wanted) if wanted else -1
    found: list[Word] = []
    for word in words if begin >= 0 else []:
        end = begin + len(_letters(word))
        first, last = letters[begin][0], letters[max(begin, end - 1)][0] + 1
        begin = end
        while last < len(whole) and whole[last] in _MARKS:
            last += 1
        own = written.tokens(first, last)
        assert own is not None  # every character of a text is some token's
        found.append(Word(word, *own))
    return found


def split(text: str) -> list[str]:
    """The words of a text, in Unicode's composed form (NFC)."""
    return _WORD.findall(unicodedata.normalize("NFC", text))


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """What tokens say, without special ones."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def unspaced(character: str) -> bool:
    """Whether a character is of a script that is written without spaces."""
    return re.match(f"[{_ALONE}]", character) is not None


def _ends(tokenizer: Any, ids: Sequence[int], text: str) -> list[tuple[int, bool]] | None:
    """How many characters of ``text`` are whole after each token, and whether it leaves one unfinished.

    Each token is read after the tokens of the last step alone, so that time grows with their number. None if what is
    read so does not make up the text: a tokenizer may change what stands further back.
    """
    ends: list[tuple[int, bool]] = []
    made = ""
    anchor = done = 0
    before = ""
    for number in range(1, len(ids) + 1):
        after = decoded(tokenizer, ids[anchor:number])
        whole = after.rstrip(_UNFINISHED)
        pending = whole != after or not after.startswith(before)
        if not pending:
            made += after[len(before) :]
            anchor, done = done, number
            before = decoded(tokenizer, ids[anchor:done])
        early = len(whole) - len(before) if pending and whole.startswith(before) else 0
        ends.append((len(made) + early, pending))
    if ends and ends[-1][1]:
        return None
    return ends if made == text else None


def _ends_one_by_one(tokenizer: Any, ids: Sequence[int], text: str) -> list[tuple[int, bool]]:
    """The same by reading all tokens so far, each time: a place is written once it is as in the whole text."""
    made = [decoded(tokenizer, ids[:number]) for number in range(1, len(ids))]
    same = [
        sum(1 for _ in takewhile(bool, map(operator.eq, read.rstrip(_UNFINISHED), text)))  # of the common prefix
        for read in made
    ]
    pending = [read.endswith(_UNFINISHED) for read in made]
    return [*zip(accumulate(same, max), pending, strict=True), (len(text), False)] if ids else []


def _letters(text: str) -> str:
    return "".join(character for character in unicodedata.normalize("NFKD", text.casefold()) if character.isalnum())


def _last_place(whole: str, letters: Sequence[tuple[int, str]], wanted: str) -> int:
    """Where ``wanted`` stands in a text of letters for the last time, whole words if it ever does; -1 if it does not.

    Args:
        whole: the text.
        letters: each with its place in it.
        wanted: letters.
    """
    stream = "".join(letter for _, letter in letters)
    places = [match.start() for match in re.finditer(f"(?={re.escape(wanted)})", stream)]

    def parted(number: int) -> bool:
        """Whether something stands between a letter and the one before it."""
        if not 0 < number < len(letters):
            return True
        between = whole[letters[number - 1][0] + 1 : letters[number][0]]
        return any(character not in _MARKS for character in between)

    apart = [place for place in places if parted(place) and parted(place + len(wanted))]
    return max(apart or places, default=-1)
