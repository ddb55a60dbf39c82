"""Questions with their answers, whatever they come from, and the words and answers that a model learns from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mmexplain.tasks.captioning.flickr8k import Photo
from mmexplain.tasks.captioning.vocabulary import Vocabulary

from .questions.question import Question

DAQUAR = "daquar"
"""The kind of DAQUAR's questions, whatever they ask; the other kinds are those of generated questions."""


@dataclass(frozen=True)
class Example:
    """A question about a photo.

    Attributes:
        photo: row of the photo in its source.
        text: the question.
        answer: its right answer.
        kind: object, number, colour, location or daquar.
        question: the generated question, with the caption and phrase that it came from; None for human ones.
    """

    photo: int
    text: str
    answer: str
    kind: str
    question: Question | None = None


@dataclass(frozen=True)
class Source:
    """Photos of one origin, with the questions about them.

    Attributes:
        name: what the cache of its features is called.
        photos: N photos.
        examples: all questions about them.
    """

    name: str
    photos: Sequence[Photo]
    examples: Sequence[Example] = field(repr=False)

    def split(self, split: str) -> list[Example]:
        """The questions about the photos of ``split`` (train, dev or test)."""
        return [example for example in self.examples if self.photos[example.photo].split == split]


def generated(photos: Sequence[Photo], questions: Iterable[Question]) -> Source:
    """Flickr8k's photos with the generated questions about them; questions about other photos are left out."""
    row = {photo.file: number for number, photo in enumerate(photos)}
    examples = [
        Example(row[question.photo], question.text, question.answer, question.kind, question)
        for question in questions
        if question.photo in row
    ]
    return Source("flickr8k", photos, examples)


def question_words(examples: Iterable[Example], min_count: int = 3) -> Vocabulary:
    """The words that the questions use at least ``min_count`` times."""
    return Vocabulary.build((example.text for example in examples), min_count)


def answer_space(examples: Iterable[Example], min_count: dict[bool, int]) -> list[str]:
    """The answers that occur often enough, most frequent first (ties by alphabet).

    Args:
        examples: the training questions.
        min_count: how often is often enough, for human (True) and for generated (False) questions.
    """
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for example in examples:
        counts[example.kind == DAQUAR][example.answer] += 1
    total = counts[True] + counts[False]
    kept = {answer for human, found in counts.items() for answer, n in found.items() if n >= min_count[human]}
    return sorted(kept, key=lambda answer: (-total[answer], answer))
