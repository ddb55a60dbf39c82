"""Names of a model's outcomes (classes, answers, actions), and finding one by what a person types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import overload

from mmexplain.errors import CheckpointError, InputError, TargetError, did_you_mean

_SHOWN = 6

_NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Labels(Sequence[str]):
    """The N class names of a model, in the order of its outputs.

    A name is found by its exact text, without regard to case, by any of its synonyms, or by whole words of it
    that no other class shares ("hydrant" for "fire hydrant"). A piece of a word never matches, so that a typing
    error is reported and not explained as something else.

    Args:
        names: ``N`` names; one with commas ("tabby, tabby cat") is shown as it is and found by each of its parts.
        synonyms: gives ``N`` lists of further names; called at the first name that is not found without them.
        noun: what an outcome is called, and several of them.
        whole: a name must be typed as a whole. Answers need it: "red" is none of "red" and "yellow and red" at once.
    """

    def __init__(
        self,
        names: Iterable[str],
        synonyms: Callable[[], Sequence[Sequence[str]]] | None = None,
        *,
        noun: tuple[str, str] = ("class", "classes"),
        whole: bool = False,
    ) -> None:
        self._names = tuple(names)
        self._synonyms = synonyms
        self._noun = noun
        self._whole = whole
        for name in self._names:
            if not isinstance(name, str):
                raise InputError(f"{noun[0]} names must be text, got {name!r}")

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._names[index]

    def __repr__(self) -> str:
        return f"Labels({', '.join(map(repr, self._names[:3]))}, … {len(self):,} {self._noun[1]})"

    @classmethod
    def of(cls, names: Sequence[str] | Mapping[int, str]) -> Labels:
        """Labels of a list of names, or of names by class number (Hugging Face's ``id2label``).

        Raises:
            InputError: a single text, a number that is missing, a name that is no text.
        """
        if isinstance(names, cls):
            return names
        if isinstance(names, str):
            raise InputError(f"labels must be a list of class names, not the text {names!r}")
        if isinstance(names, Mapping):
            missing = next((index for index in range(len(names)) if index not in names), None)
            if missing is not None:
                raise InputError(f"labels must number the classes from 0 without gaps; {missing} is missing")
            names = [names[index] for index in range(len(names))]
        return cls(names)

    @classmethod
    def choose(cls, own: Sequence[str] | None, known: Sequence[str] | None, classes: int) -> Labels | None:
        """Names for a checkpoint of ``classes`` classes: those it brings along, else the well-known ones if there
        are as many, else None (classes are then called by number).

        Raises:
            CheckpointError: it brings along too many or too few.
        """
        if own is not None:
            if len(own) != classes:
                raise CheckpointError(f"the checkpoint has {classes:,} classes but names {len(own):,}")
            return cls(own)
        if known is None or len(known) != classes:
            return None
        return cls.of(known)

    def find(self, name: str) -> int:
        """Index of the class that ``name`` means.

        Raises:
            TargetError: no class has that name (the closest are offered), or several have.
        """
        typed = " ".join(name.split())
        matches = [index for index, label in enumerate(self._names) if label == typed]
        for pool in (self._folded, self._parts):
            matches = matches or pool.get(_fold(typed), [])
        if not matches and typed and not self._whole:
            wanted = f" {_fold(typed)} "
            matches = [index for index, label in enumerate(self._names) if wanted in f" {_fold(label)} "]
        if not matches:
            raise TargetError(f"{name!r} is not among the model's {len(self):,} {self._noun[1]}{self._near(typed)}")
        if len(matches) > 1:
            raise TargetError(f"{name!r} names {len(matches)} {self._noun[1]}; say which: {self._list(matches)}")
        return matches[0]

    def shown(self, index: int) -> str:
        """The name of a class for people; made unique by its number where several classes share the name."""
        name = self._names[index]
        return f"{name} ({index})" if name in self._repeated else name

    def _near(self, typed: str) -> str:
        """The names closest to what was typed; of several words, those that are names of their own come first."""
        words = [
            _NUMERALS[int(word)] if word.isascii() and word.isdecimal() and int(word) < len(_NUMERALS) else word
            for word in _fold(typed).split()
        ]
        words = [word for word in words if word in self._folded]
        own = [self._names[self._folded[word][0]] for word in dict.fromkeys(words)]
        return f"; closest: {', '.join(map(repr, own))}" if own else did_you_mean(typed, self._names) if typed else ""

    def _list(self, indices: Sequence[int]) -> str:
        text = ", ".join(f"{self._names[index]!r} ({index})" for index in indices[:_SHOWN])
        return text + (", …" if len(indices) > _SHOWN else "")

    @cached_property
    def _repeated(self) -> frozenset[str]:
        return frozenset(name for name, count in Counter(self._names).items() if count > 1)

    @cached_property
    def _folded(self) -> dict[str, list[int]]:
        return _index([name] for name in self._names)

    @cached_property
    def _parts(self) -> dict[str, list[int]]:
        """Comma-separated parts, the shown form and synonyms, folded."""
        more = self._synonyms() if self._synonyms else [()] * len(self)
        return _index(
            [*name.split(","), f"{name} ({index})", *others]
            for index, (name, others) in enumerate(zip(self._names, more, strict=True))
        )


def _fold(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())


def _index(names: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for index, group in enumerate(names):
        for name in dict.fromkeys(map(_fold, group)):
            table.setdefault(name, []).append(index)
    return table
