"""Word grounding: does the maximum of a word's map lie on the thing the word names?

The pointing game of Zhang et al. (2018, "Top-down neural attention by excitation backprop") on the words of human
captions, with the phrase boxes of Flickr30k Entities (Plummer et al. 2015). The map is upsampled bilinearly to
the photo; a hit is a maximum inside any box of the phrase. A phrase's head word is its last content word that the
model knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .flickr8k import Box, Phrase, Sentence
from .vocabulary import Vocabulary
from .words import is_content_word

SIDE = 224
"""Maps are compared at this resolution; photos and boxes are squashed to a square."""


@dataclass(frozen=True)
class GroundedWord:
    """One word of one human caption that has boxes.

    Attributes:
        photo: index of the photo.
        sentence: index of the caption, 0 .. 4.
        position: index of the word in the caption.
        token: its index in the vocabulary.
        kind: the phrase's type (people, animals, ...).
        boxes: fractions of the photo's width and height.
    """

    photo: int
    sentence: int
    position: int
    token: int
    kind: str
    boxes: tuple[Box, ...]


def head_position(sentence: Sentence, phrase: Phrase, vocabulary: Container[str]) -> int | None:
    """Position of the last content word of ``phrase`` that ``vocabulary`` (a set of words will do) holds, or None."""
    for position in range(phrase.last, phrase.first - 1, -1):
        word = sentence.words[position]
        if word in vocabulary and is_content_word(word):
            return position
    return None


def grounded_words(sentences: Iterable[tuple[int, Sequence[Sentence]]], vocabulary: Vocabulary) -> list[GroundedWord]:
    """The head words of all phrases with boxes.

    Args:
        sentences: (index of the photo, its annotated captions).
        vocabulary: the model's words.
    """
    found = []
    for photo, captions in sentences:
        for number, sentence in enumerate(captions):
            for phrase in sentence.phrases:
                position = head_position(sentence, phrase, vocabulary)
                if position is not None:
                    token = vocabulary.index(sentence.words[position])
                    found.append(GroundedWord(photo, number, position, token, phrase.kind, phrase.boxes))
    return found


def peaks(maps: Tensor) -> Tensor:
    """Where maps are highest: ``[N, h, w]`` → fractions (x, y) of width and height, float32 ``[N, 2]``."""
    large = F.interpolate(maps.float()[:, None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    best = large.flatten(1).argmax(1)
    return torch.stack([best % SIDE + 0.5, best // SIDE + 0.5], dim=1) / SIDE


def inside(x: float, y: float, boxes: Sequence[Box]) -> bool:
    """Whether the point lies in any of the boxes."""
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in boxes)


def covered(boxes: Sequence[Box], side: int = 56) -> float:
    """Share of the photo that the boxes cover: the chance of a random point to hit, to within 1/``side``."""
    middle = (torch.arange(side) + 0.5) / side
    mask = torch.zeros(side, side, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        mask |= ((middle >= y0) & (middle <= y1))[:, None] & ((middle >= x0) & (middle <= x1))[None, :]
    return float(mask.float().mean())


def hit_rates(points: Sequence[tuple[float, float]] | Tensor, words: Sequence[GroundedWord]) -> dict[str, float]:
    """Share of points that lie on their word's thing, for ``all`` words and by kind."""
    hits: dict[str, list[float]] = defaultdict(list)
    for (x, y), word in zip(torch.as_tensor(points).tolist(), words, strict=True):
        hit = float(inside(x, y, word.boxes))
        hits["all"].append(hit)
        hits[word.kind].append(hit)
    return _means(hits)


def baselines(words: Sequence[GroundedWord]) -> dict[str, dict[str, float]]:
    """What needs no model: the photo's centre, and a random point (its expectation)."""
    area: dict[str, list[float]] = defaultdict(list)
    for word in words:
        share = covered(word.boxes)
        area["all"].append(share)
        area[word.kind].append(share)
    return {"centre": hit_rates(torch.full((len(words), 2), 0.5), words), "random": _means(area)}


def counts(words: Sequence[GroundedWord]) -> dict[str, int]:
    """How many words there are, ``all`` and by kind."""
    number: dict[str, int] = defaultdict(int)
    for word in words:
        number["all"] += 1
        number[word.kind] += 1
    return dict(sorted(number.items(), key=lambda item: -item[1]))


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    ranked = sorted(values.items(), key=lambda item: -len(item[1]))
    return {kind: round(sum(found) / len(found), 4) for kind, found in ranked}
