"""From what a user names in a caption (words, phrases, contrasts) to targets of several tokens each."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from mmexplain.errors import TargetError, did_you_mean
from mmexplain.targets import Target, contrast
from mmexplain.tasks.captioning.words import is_content_word
from mmexplain.tasks.huggingface.speaker import Look, Speaker
from mmexplain.tasks.huggingface.words import decoded, spell, split


class Said:
    """A caption in a model's tokens.

    Args:
        speaker: whose tokens.
        ids: the caption's, without begin and end.
        look: the photo and the prompt that it follows.

    Attributes:
        text: as people read it.
        words: its words, with their tokens.
    """

    def __init__(self, speaker: Speaker, ids: Sequence[int], look: Look) -> None:
        self.speaker, self.look = speaker, look
        self.ids = tuple(ids)
        self.text, self.words = spell(speaker.tokenizer, ids)

    def targets(
        self,
        words: str | Sequence[str] | None = None,
        whole: bool = False,
        versus: Mapping[str, str] | None = None,
    ) -> list[Target]:
        """Targets in the caption.

        Args:
            words: words and phrases to explain (a string is one of them), all places where they stand; None for every
                word.
            whole: explain the whole caption too: the sum of its log-probabilities, its end included.
            versus: word → another that could stand in its place: adds the contrast of the two.

        Raises:
            TargetError: a word or phrase that is not in the caption or is held against itself, or nothing to explain.
        """
        found: list[Target] = []
        if words is None:
            found += [self._piece(start, 1) for start in range(len(self.words))]
        for phrase in [words] if isinstance(words, str) else words or ():
            found += [self._piece(start, length) for start, length in self._places(phrase)]
        for phrase, other in (versus or {}).items():
            if not isinstance(other, str) or not split(other):
                raise TargetError(f"{other!r} holds no word that {phrase!r} could be held against: name one")
            if _folded(phrase) == _folded(other):
                raise TargetError(f"{phrase!r} cannot be held against itself: name another")
            for start, length in self._places(phrase):
                piece = self._piece(start, length)
                rival = Target(other, piece.kind, self._instead(start, length, other), start, piece.content)
                found.append(contrast(piece, rival))
        if whole:
            found.append(Target(self.text, "caption", (*self.ids, self.speaker.end), 0, words=len(self.words)))
        if not found and not self.words:
            raise TargetError(f"what was said, {self.text!r}, holds no word; explain it as a whole, or give a caption")
        if not found:
            raise TargetError("no word was named: leave the words out to explain every one")
        return list(dict.fromkeys(found))

    def texts(self, targets: Sequence[Target]) -> list[tuple[int, ...]]:
        """What the model is made to read so that all targets can be scored: the caption up to the last token that is,
        and one text more for each contrast, which ends with what could stand there instead."""
        last = max(
            len(self.ids) + 1 if target.kind == "caption" else self._start(target) + len(target.ids)
            for target in targets
        )
        own = (*self.ids, self.speaker.end)[:last]
        others = [
            (*self.ids[: self._start(target)], *target.versus.ids) for target in targets if target.versus is not None
        ]
        return list(dict.fromkeys([own, *others]))

    def _start(self, target: Target) -> int:
        return self.words[target.index].start if target.index is not None and target.kind != "caption" else 0

    def _piece(self, start: int, length: int) -> Target:
        held = self.words[start : start + length]
        ids = self.ids[held[0].start : held[-1].stop]
        content = any(is_content_word(word.text) for word in held)
        label = " ".join(word.text for word in held)
        return Target(label, "word" if length == 1 else "span", ids, start, content, words=length)

    def _instead(self, start: int, length: int, other: str) -> tuple[int, ...]:
        """Tokens of ``other`` where the caption has ``length`` words from number ``start`` on: as they would be within
        the caption's text."""
        before, stop = self.words[start].start, self.words[start + length - 1].stop
        prompt = self.look.prompt[0].tolist()
        own = decoded(self.speaker.tokenizer, self.ids[:before])
        with_own = decoded(self.speaker.tokenizer, self.ids[:stop])
        gap = with_own[len(own) : len(with_own) - len(with_own[len(own) :].lstrip())]
        alone = self.speaker.tokens(other, prompt)
        ids = tuple(self.speaker.tokens(own + gap + other, prompt) if before else alone)
        if ids[:before] != self.ids[:before] or len(ids) <= before:
            ids = (*self.ids[:before], *self.speaker.continued([*prompt, *self.ids[:before]], gap, other))
        self.speaker.fits(ids, other, self.look)
        return ids[before:]

    def _places(self, phrase: str) -> list[tuple[int, int]]:
        """Where a phrase stands: its first word, and how many of the caption's words it is. Of those that are several
        (characters that share a token) it has all or none."""
        wanted = _folded(phrase)
        if not wanted:
            raise TargetError(f"{phrase!r} holds no word")
        parts = [(number, part) for number, word in enumerate(self.words) for part in _folded(word.text)]
        said = [part for _, part in parts]
        owners = [None, *(number for number, _ in parts), None]
        places = [
            (parts[i][0], parts[i + len(wanted) - 1][0] - parts[i][0] + 1)
            for i in range(len(said) - len(wanted) + 1)
            if said[i : i + len(wanted)] == wanted
            and owners[i] != owners[i + 1]
            and owners[i + len(wanted)] != owners[i + len(wanted) + 1]
        ]
        if not places:
            hint = did_you_mean(phrase, [word.text for word in self.words])
            raise TargetError(f"{phrase!r} is not in the caption {self.text!r}{hint}")
        return places


def _folded(text: str) -> list[str]:
    return split(unicodedata.normalize("NFC", text).casefold())
