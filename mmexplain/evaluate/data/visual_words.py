"""Which words of a caption name a class of COCO, asked of WordNet.

A noun means a class if it is its name, or if the sense that captions mean (the first one, with exceptions) is a kind of
what the class is: "player" is a person, "puppy" a dog. Of several classes it means the nearest. Compounds are one word:
"hot dog" is no dog, and in "fire truck" it is the truck that has a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from nltk.corpus import wordnet

from mmexplain.evaluate.data.classes import SYNSETS
from mmexplain.tasks.vqa.questions.tagging import COLOURS, tag_sentences

# What ImageNet has no label for, and senses that captions use beside those of ImageNet's labels.
_MORE = {
    "baseball bat": ("baseball_bat.n.01",),
    "baseball glove": ("baseball_glove.n.01",),
    "bicycle": ("bicycle.n.01",),
    "book": ("book.n.02",),
    "cake": ("cake.n.03",),
    "carrot": ("carrot.n.03",),
    "cow": ("cow.n.01",),
    "cup": ("cup.n.01",),
    "donut": ("doughnut.n.02",),
    "fire hydrant": ("fireplug.n.01",),
    "fork": ("fork.n.01",),
    "frisbee": ("frisbee.n.01",),
    "giraffe": ("giraffe.n.01",),
    "handbag": ("bag.n.04",),
    "kite": ("kite.n.03",),
    "potted plant": ("pot_plant.n.01", "houseplant.n.01"),
    "scissors": ("scissors.n.01",),
    "skateboard": ("skateboard.n.01",),
    "snowboard": ("snowboard.n.01",),
    "stop sign": (),
    "suitcase": ("bag.n.06",),
    "surfboard": ("surfboard.n.01",),
    "toilet": ("toilet.n.02",),
    "toothbrush": ("toothbrush.n.01",),
    "wine glass": ("wineglass.n.01",),
}

CLASSES: dict[str, tuple[str, ...]] = {
    name: (*SYNSETS.get(name, ()), *_MORE.get(name, ())) for name in sorted({*SYNSETS, *_MORE})
}
"""COCO's 80 classes and their synsets. There are none for a stop sign, which is found by its name."""

# Where WordNet's first sense is not the one that captions mean.
_MEANT = {
    "bat": "baseball bat",
    "bike": "bicycle",
    "cellphone": "cell phone",
    "hydrant": "fire hydrant",
    "kitten": "cat",
    "people": "person",
    "phone": "cell phone",
    "racket": "tennis racket",
    "racquet": "tennis racket",
    "television": "tv",
}


def classes_of(words: Sequence[str]) -> list[str | None]:
    """The class that each word of a caption names, None for a word that names none. A compound stands at its last word.

    Raises:
        InputError: the data of nltk's tagger or of WordNet are not installed.
    """
    (tagged,) = tag_sentences([list(words)])
    tags = [tag for _, tag in tagged]
    nouns = [_is_noun(word, tag, after) for word, tag, after in zip(words, tags, [*tags[1:], ""], strict=True)]
    found: list[str | None] = [None] * len(words)
    for place, noun in enumerate(nouns):
        if not noun:
            continue
        compound = _compound(words[place - 1], words[place]) if place else None
        if compound is not None:
            found[place - 1] = None
        found[place] = _meaning(compound if compound is not None else words[place])
    return found


def _is_noun(word: str, tag: str, after: str) -> bool:
    """The tagger takes "a couch with" for an adjective: before what is no noun it is one, but for colours."""
    stands_alone = tag == "JJ" and not after.startswith(("NN", "JJ")) and word not in COLOURS
    return tag.startswith("NN") or stands_alone


@cache
def _singular(noun: str) -> str:
    return noun if noun in CLASSES else wordnet.morphy(noun, wordnet.NOUN) or noun


@cache
def _compound(before: str, noun: str) -> str | None:
    """The two words as one, if it is a class or WordNet knows it."""
    both = f"{before} {_singular(noun)}"
    return both if both in CLASSES or wordnet.synsets(both.replace(" ", "_"), wordnet.NOUN) else None


@cache
def _meaning(noun: str) -> str | None:
    name = _singular(noun)
    if name in CLASSES:
        return name
    if name in _MEANT:
        return _MEANT[name]
    senses = wordnet.synsets(noun.replace(" ", "_"), wordnet.NOUN)
    if not senses:
        return None
    above: dict[Any, int] = {}
    for sense, steps in senses[0].hypernym_distances():
        above[sense.name()] = min(steps, above.get(sense.name(), steps))
    near = [(above[synset], name) for name, synsets in CLASSES.items() for synset in synsets if synset in above]
    return min(near)[1] if near else None
