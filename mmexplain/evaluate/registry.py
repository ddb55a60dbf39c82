"""The protocols by the names that users write."""

from __future__ import annotations

import importlib

from mmexplain.errors import InputError, did_you_mean
from mmexplain.evaluate.protocol import Protocol

PROTOCOLS: dict[str, str] = {
    "localisation": "mmexplain.evaluate.localisation:Localisation",
    "pointing": "mmexplain.evaluate.pointing:Pointing",
    "human-attention": "mmexplain.evaluate.human_attention:HumanAttention",
    "randomisation": "mmexplain.evaluate.layer_randomisation:LayerRandomisation",
    "data-randomisation": "mmexplain.evaluate.data_randomisation:DataRandomisation",
    "faithfulness": "mmexplain.evaluate.faithfulness:Faithfulness",
    "grounding": "mmexplain.evaluate.grounding:WordGrounding",
    "answer-grounding": "mmexplain.evaluate.answer_grounding:AnswerGrounding",
    "generated-grounding": "mmexplain.evaluate.generated_grounding:GeneratedGrounding",
}
"""Name → module and class, imported when asked for; each is made with ``(task, data, methods, *, layer, seed)``,
those that compare two models with ``against`` too."""


def get(name: str) -> type[Protocol]:
    """The class of a protocol.

    Raises:
        InputError: there is none of that name; the nearest are offered.
    """
    if name not in PROTOCOLS:
        hint = did_you_mean(name, PROTOCOLS)
        raise InputError(f"unknown protocol {name!r}{hint} (there are: {', '.join(PROTOCOLS)})")
    module, _, kind = PROTOCOLS[name].partition(":")
    found: type[Protocol] = getattr(importlib.import_module(module), kind)
    return found
