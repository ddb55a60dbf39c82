"""From what a user names in a caption (words, phrases, contrasts) to targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from mmexplain import targets as kinds
from mmexplain.errors import InputError, TargetError, did_you_mean
from mmexplain.targets import Target
from mmexplain.tasks.captioning.captioner import Words
from mmexplain.tasks.captioning.vocabulary import tokenize
from mmexplain.tasks.captioning.words import is_content_word


class Phrasing:
    """Targets in the captions of one vocabulary."""

    def __init__(self, vocabulary: Words) -> None:
        self.vocabulary = vocabulary

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.vocabulary.tokens)}

    def read(self, caption: str) -> list[int]:
        """Token numbers of a caption that a person wrote.

        Raises:
            InputError: it holds no word.
            TargetError: a word that the model does not know.
        """
        words = tokenize(caption)
        if not words:
            raise InputError(f"the caption {caption!r} holds no word; write one, or leave it out to have one made")
        return [self.number(word) for word in words]

    def number(self, word: str) -> int:
        """Token number of one word; TargetError if the model does not know it."""
        known = self._numbers.get(word)
        if known is None or word.startswith("<"):
            hint = did_you_mean(word, self.vocabulary.tokens)
            raise TargetError(f"{word!r} is not among the model's {len(self._numbers):,} words{hint}")
        return known

    def targets(
        self,
        tokens: Sequence[int],
        words: str | Sequence[str] | None = None,
        whole: bool = False,
        versus: Mapping[str, str] | None = None,
    ) -> list[Target]:
        """Targets in one caption.

        Args:
            tokens: the caption, without its end token.
            words: words and phrases to explain (a string is one of them), all places where they stand; None for every
                word.
            whole: explain the whole caption too: the sum of its log-probabilities, its end included.
            versus: word → another that could stand in its place: adds the contrast of the two.

        Raises:
            TargetError: a word or phrase that is not in the caption or is held against itself, or nothing to explain.
        """
        said = [self.vocabulary.tokens[token] for token in tokens]
        found: list[Target] = []
        if words is None:
            found += [self._piece(tokens, start, 1) for start in range(len(tokens))]
        for phrase in [words] if isinstance(words, str) else words or ():
            wanted = tokenize(phrase)
            found += [self._piece(tokens, start, len(wanted)) for start in self._places(said, wanted, phrase)]
        for phrase, other in (versus or {}).items():
            wanted, rival = tokenize(phrase), tokenize(other)
            if len(wanted) != len(rival):
                raise TargetError(
                    f"{phrase!r} and {other!r} cannot change places: they differ in their number of words"
                )
            if wanted == rival:
                raise TargetError(f"{phrase!r} cannot be held against itself: name another")
            ids = tuple(self.number(word) for word in rival)
            for start in self._places(said, wanted, phrase):
                piece = self._piece(tokens, start, len(wanted))
                against = Target(other, piece.kind, ids, start, piece.content)
                found.append(kinds.contrast(piece, against))
        if whole:
            found.append(Target(" ".join(said), "caption", (*tokens, self.vocabulary.end), 0))
        if not found:
            raise TargetError("no word was named: leave the words out to explain every one")
        return list(dict.fromkeys(found))

    def _piece(self, tokens: Sequence[int], start: int, length: int) -> Target:
        ids = tuple(tokens[start : start + length])
        words = [self.vocabulary.tokens[token] for token in ids]
        content = any(is_content_word(word) for word in words)
        return Target(" ".join(words), "word" if length == 1 else "span", ids, start, content)

    def _places(self, said: list[str], wanted: list[str], phrase: str) -> list[int]:
        if not wanted:
            raise TargetError(f"{phrase!r} holds no word")
        places = [i for i in range(len(said)) if said[i : i + len(wanted)] == wanted]
        if not places:
            hint = did_you_mean(phrase, said)
            raise TargetError(f"{phrase!r} is not in the caption {' '.join(said)!r}{hint}")
        return places
