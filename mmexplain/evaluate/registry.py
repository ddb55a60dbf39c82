"""The protocols by the names that users write."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from mmexplain.errors import InputError, did_you_mean
from mmexplain.evaluate.protocol import Protocol

LAYOUTS: dict[str, str] = {
    "objects": "VOC; COCO's instances_*.json; annotations.jsonl; ImageNet's XML",
    "phrases": "Flickr30k Entities: annotations.jsonl.gz, images/",
    "inputs": "photos; clips for action models; qa.jsonl, images/ for VQA",
    "attention": "annotations.jsonl, images/, maps/; or VQA-HAT's files",
}
"""Kinds of data, and what a folder of each holds."""


class Known(NamedTuple):
    """A protocol that has a name.

    Attributes:
        where: module and class.
        what: it measures, in a few words.
        data: of :data:`LAYOUTS`.
    """

    where: str
    what: str
    data: str


PROTOCOLS: dict[str, Known] = {
    "localisation": Known("mmexplain.evaluate.localisation:Localisation", "boxes drawn around maps, Loc(δ)", "objects"),
    "pointing": Known("mmexplain.evaluate.pointing:Pointing", "pointing game, energy inside", "objects"),
    "human-attention": Known(
        "mmexplain.evaluate.human_attention:HumanAttention", "maps against where people looked", "attention"
    ),
    "randomisation": Known(
        "mmexplain.evaluate.layer_randomisation:LayerRandomisation", "maps of randomised weights", "inputs"
    ),
    "data-randomisation": Known(
        "mmexplain.evaluate.data_randomisation:DataRandomisation", "maps of a second model (--against)", "inputs"
    ),
    "faithfulness": Known("mmexplain.evaluate.faithfulness:Faithfulness", "scores of inputs changed by maps", "inputs"),
    "grounding": Known("mmexplain.evaluate.grounding:WordGrounding", "words of people's captions", "phrases"),
    "answer-grounding": Known(
        "mmexplain.evaluate.answer_grounding:AnswerGrounding", "answers to questions of captions", "phrases"
    ),
    "generated-grounding": Known(
        "mmexplain.evaluate.generated_grounding:GeneratedGrounding", "words of the model's own captions", "objects"
    ),
}
"""Classes are imported when asked for; each is made with ``(task, data, methods, *, layer, seed)`` and options of its
own, those that compare two models with ``against`` too."""


def known(name: str) -> Known:
    """What is known of a protocol before it is imported.

    Raises:
        InputError: there is none of that name; the nearest are offered.
    """
    if name not in PROTOCOLS:
        hint = did_you_mean(name, PROTOCOLS)
        raise InputError(f"unknown protocol {name!r}{hint} (there are: {', '.join(PROTOCOLS)})")
    return PROTOCOLS[name]


def get(name: str) -> type[Protocol]:
    """The class of a protocol.

    Raises:
        InputError: there is none of that name; the nearest are offered.
    """
    module, _, kind = known(name).where.partition(":")
    found: type[Protocol] = getattr(importlib.import_module(module), kind)
    return found
