"""Words and the integers a captioner knows them by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")

PAD, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL = (PAD, START, END, UNKNOWN)


def tokenize(text: str) -> list[str]:
    """Lower-case words of ``text``; punctuation is dropped, inner hyphens and apostrophes stay (``t-shirt``)."""
    return _WORD.findall(text.lower().replace("’", "'"))


class Vocabulary:
    """A bijection between V tokens and the indices 0 .. V-1.

    The first four tokens are ``<pad>``, ``<start>``, ``<end>`` and ``<unk>``.

    Attributes:
        tokens: all tokens, in index order.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        if tuple(tokens[: len(SPECIAL)]) != SPECIAL:
            raise ValueError(f"a vocabulary starts with {SPECIAL}, not with {tuple(tokens[:4])}")
        self.tokens: list[str] = list(tokens)
        self._index = {token: index for index, token in enumerate(self.tokens)}
        if len(self._index) != len(self.tokens):
            raise ValueError("a vocabulary holds each token once")

    @classmethod
    def build(cls, texts: Iterable[str], min_count: int = 5) -> Vocabulary:
        """The words that ``texts`` use at least ``min_count`` times, most frequent first (ties by alphabet)."""
        counts = Counter(word for text in texts for word in tokenize(text))
        kept = sorted((word for word, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        return cls([*SPECIAL, *kept])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(tuple(self.tokens))

    @property
    def pad(self) -> int:
        """Index of ``<pad>``."""
        return 0

    @property
    def start(self) -> int:
        """Index of ``<start>``."""
        return 1

    @property
    def end(self) -> int:
        """Index of ``<end>``."""
        return 2

    @property
    def unknown(self) -> int:
        """Index of ``<unk>``."""
        return 3

    def index(self, word: str) -> int:
        """Index of ``word``, or of ``<unk>``."""
        return self._index.get(word, self.unknown)

    def encode(self, text: str, end: bool = True) -> list[int]:
        """Indices of the words of ``text``, with ``<end>`` behind them if ``end``."""
        return [self.index(word) for word in tokenize(text)] + ([self.end] if end else [])

    def decode(self, tokens: Iterable[int]) -> str:
        """The words before the first ``<end>``, joined by blanks; ``<pad>`` and ``<start>`` are skipped."""
        words: list[str] = []
        for token in tokens:
            if token == self.end:
                break
            if token not in (self.pad, self.start):
                words.append(self.tokens[token])
        return " ".join(words)
