"""Protocol: do the maps of words in captions that people wrote lie on the things the words name?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmexplain.errors import InputError
from mmexplain.evaluate.captions import CaptionedPhotos, Given
from mmexplain.evaluate.data.flickr8k import read_flickr8k
from mmexplain.evaluate.grounding_rows import NOTES, Named, Thing, caption_rows, control_notes
from mmexplain.evaluate.on_captions import OnCaptions
from mmexplain.evaluate.protocol import Item, Row
from mmexplain.explanation import Explanation
from mmexplain.targets import Target
from mmexplain.tasks.captioning.captioner import Words
from mmexplain.tasks.captioning.flickr8k import Box, Photo, Sentence
from mmexplain.tasks.captioning.grounding import head_position
from mmexplain.tasks.captioning.vocabulary import UNKNOWN


@dataclass(frozen=True)
class _Word:
    """A head word: the number of its target, the type of its phrase and the phrase's boxes, fractions of the photo."""

    target: int
    kind: str
    boxes: tuple[Box, ...]


class WordGrounding(OnCaptions):
    """Maps of the head words of phrases against the phrases' boxes in Flickr30k Entities (Plummer et al. 2015).

    The map of a word is that of its score in a caption that a person wrote, given the words before. A phrase's head
    word is its last content word that the model knows. Beside the methods stand controls: the centre, a random point,
    the model's own attention, the map of the whole caption's log-probability, and that of another head word.

    Args:
        task: a captioner.
        data: a folder in the layout of ``flickr8k``.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the methods' draws.
        split: which photos.
        captions: how many of each photo's captions, the first ones.

    Raises:
        InputError: no captioner, or no such data.
        MethodError: no such method.
    """

    name: ClassVar[str] = "grounding"
    title: ClassVar[str] = "Word grounding (Flickr30k Entities, captions by people)"
    labels: ClassVar[tuple[str, ...]] = ("method", "phrase")

    def __init__(
        self,
        task: Any,
        data: Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        split: str = "test",
        captions: int = 5,
    ) -> None:
        super().__init__(task, data, methods, layer=layer, seed=seed)
        if captions < 1:
            raise InputError(f"captions={captions}: take 1 caption of each photo or more")
        self.split, self.captions = split, captions
        tokens = self.task.captioner.vocabulary.tokens
        self._numbers = {token: number for number, token in enumerate(tokens)}

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer, seed, and what was asked for."""
        return {**super().settings(), "split": self.split, "captions": self.captions}

    def items(self) -> Sequence[Item]:
        """The photos, in the order of the data."""
        return [
            Item(photo.file, photo, self.data / "images" / photo.file) for photo in read_flickr8k(self.data, self.split)
        ]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """Rows of each photo: those of its words, for every method and control."""
        photos: list[Photo] = [item.content for item in items]
        given: list[tuple[Given, list[_Word]]] = []
        for number, photo in enumerate(photos):
            for sentence in photo.sentences[: self.captions]:
                found = self._given(number, sentence)
                if found is not None:
                    given.append(found)
        rows: list[list[Row]] = [[] for _ in items]
        if not given:
            return rows
        explained = self.explained(
            [self.data / "images" / photo.file for photo in photos], [caption for caption, _ in given]
        )
        things: dict[tuple[int, Any], Thing] = {}
        for (caption, words), explanation in zip(given, explained, strict=True):
            photo, size = photos[caption.photo], explanation.geometry.original
            for word in words:
                known = (caption.photo, word.boxes)
                if known not in things:
                    things[known] = Thing.within(photo, word.boxes, size)
            named = [Named(word.target, things[caption.photo, word.boxes], word.kind, word.boxes) for word in words]
            rows[caption.photo] += self.rows(explanation, named)
        return rows

    def explained(self, photos: Sequence[Path], given: Sequence[Given]) -> Sequence[Explanation]:
        """Explanations of captions, in their order, with a map of each target by each of :attr:`methods`."""
        return CaptionedPhotos(self.task, photos, self.methods, self.layer).explain(given, seed=self.seed)

    def rows(self, explanation: Explanation, words: Sequence[Named]) -> list[Row]:
        """What one caption's explanation gives."""
        return caption_rows(explanation, words, self.methods, self.base, "phrase")

    def notes(self) -> Sequence[str]:
        """What the words, the numbers and the controls are."""
        return (
            "A word is the head of a phrase with boxes: its last content word that the model knows. Other words that "
            "it does not know are read as its unknown word.",
            *NOTES,
            *control_notes(self.base),
        )

    # -- one caption ------------------------------------------------------------------------------------------------

    def _given(self, photo: int, sentence: Sentence) -> tuple[Given, list[_Word]] | None:
        """The caption with its head words and, behind them, itself as targets; None where no word has boxes, or where
        it holds an unknown word and the model has no token for these."""
        unknown = self._numbers.get(UNKNOWN)
        tokens = [self._numbers.get(word, unknown) for word in sentence.words]
        known = [token for token in tokens if token is not None]
        places = [(head_position(sentence, phrase, self._numbers), phrase) for phrase in sentence.phrases]
        heads = list(dict.fromkeys(place for place, _ in places if place is not None))
        if not heads or len(known) < len(tokens):
            return None
        targets = [Target(sentence.words[place], "word", (known[place],), place) for place in heads]
        words = [_Word(heads.index(place), phrase.kind, phrase.boxes) for place, phrase in places if place is not None]
        if self.base is not None:
            vocabulary: Words = self.task.captioner.vocabulary
            targets.append(Target(" ".join(sentence.words), "caption", (*known, vocabulary.end), 0))
        return Given(photo, tuple(known), tuple(targets)), words
