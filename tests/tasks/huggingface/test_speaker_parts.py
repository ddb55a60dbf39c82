"""Parts of models that write: which are no map, and where photos are sent."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import mmexplain
from mmexplain.taps import trace
from tests.tasks.huggingface.planted import photo

FAMILIES = ["llava", "llava_next", "idefics3", "qwen2_vl", "qwen3_vl", "paligemma"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_embedding_of_words_is_no_map(family: str, captioner: Any) -> None:
    """Tokens of the photo stand in its output, but are not filled in yet: maps would be 0 everywhere."""
    task = captioner(family)
    speaker = task.speaker
    layer = f"{speaker.text}.embed_tokens"
    with pytest.raises(mmexplain.LayerError, match=f"none of the photo; use '{speaker.projector}'"):
        task.explain(photo(120, 120), caption="a dog", layers=[layer])
    on = task.on(photo(120, 120))
    batch = on.prepare()
    records = {found.name: found for found in trace(on.model, lambda: on.trial(batch.inputs), (56, 56), on.reader)}
    assert records[f"{speaker.text}.layers.0"].maps and not records[layer].maps


@pytest.mark.parametrize("family", ["llava", "blip", "vit-gpt2"])
def test_photos_are_sent_to_the_vision_part(family: str, captioner: Any) -> None:
    """Whose first parameters may be nowhere, and whose type may be another than the text part's."""
    speaker = copy.copy(captioner(family).speaker)
    speaker.model = copy.deepcopy(speaker.model).double()
    tower = speaker.model.get_submodule(speaker.tower).bfloat16()
    assert speaker.tower and speaker.dtype == torch.bfloat16
    first = next(tower.children())
    first.to("meta")
    assert next(tower.parameters()).device.type == "meta"
    assert speaker.device.type == "cpu"
    tower.to("meta")
    assert speaker.device.type == "cpu" and speaker.dtype == torch.bfloat16
