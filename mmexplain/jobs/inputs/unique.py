"""Whether any of millions of names comes twice, for eight bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mmexplain.errors import InputError
from mmexplain.jobs.inputs.columns import Entry

_FIRST_LOOK = 1024


class Seen:
    """The hashes of names."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._next_look = _FIRST_LOOK

    def add(self, name: str) -> bool:
        """Take note of a name; whether to look for repetitions now: each time that twice as many have come."""
        self._hashes.append(hash(name))
        if len(self._hashes) < self._next_look:
            return False
        self._next_look *= 2
        return True

    def repeated(self) -> set[int]:
        """The hashes that came more than once: those of names that came twice and, hardly ever, of two names."""
        if not self._hashes:
            return set()
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        hashes = np.sort(hashes)
        return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def require_unique(read: Callable[[], Iterable[Entry]]) -> Iterator[Entry]:
    """The entries that ``read`` gives, which is called again where an id seems to come twice.

    Raises:
        InputError: an id comes twice: told when twice as many entries have come as at the last look, or at the end.
    """
    seen = Seen()
    for entry in read():
        yield entry
        if seen.add(entry.id):
            _refuse(read, seen.repeated())
    _refuse(read, seen.repeated())


def _refuse(read: Callable[[], Iterable[Entry]], suspects: set[int]) -> None:
    if not suspects:
        return
    sources: dict[str, str] = {}
    for id, source, *_ in read():
        if hash(id) in suspects:
            if id in sources:
                both = dict.fromkeys([sources[id], source])
                raise InputError(f"two items have the id {id!r}: {' and '.join(map(repr, both))}; ids must be unique")
            sources[id] = source
