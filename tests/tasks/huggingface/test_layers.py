"""Layers that are found by looking at a model, and the numbers of its tokens."""

import pytest
from torch import nn

from mmexplain.errors import LayerError
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.layers import blocks, last_block, vision_part
from mmexplain.tasks.huggingface.tokens import Tokens
from tests.command_line import run

DEFAULTS = {
    # What enters the last attention, where only a class token is read ...
    "vit": "vit.layers.1.layernorm_before",
    "deit": "deit.layers.1.layernorm_before",
    "deit-teacher": "deit.layers.1.layernorm_before",
    "clip": "vision_model.encoder.layers.1.layer_norm1",
    # ... and the last block or stage, where all places are.
    "registers": "dinov2_with_registers.encoder.layer.1",
    "clip-classifier": "vision_model.encoder.layers.1",
    "siglip-classifier": "vision_model.encoder.layers.1",
    "siglip": "vision_model.encoder.layers.1",
    "siglip2": "vision_model.encoder.layers.1",
    "swin": "swin.encoder.layers.1",
    "swinv2": "swinv2.encoder.layers.1",
    "convnext": "convnext.encoder",
    "convnextv2": "convnextv2.encoder",
    "resnet": "resnet.encoder",
}
TOKENS = {
    "vit": Tokens((8, 8), 1),
    "deit": Tokens((8, 8), 2),
    "deit-teacher": Tokens((8, 8), 2),
    "registers": Tokens((8, 8), 4),
    "clip-classifier": Tokens((8, 8), 1),
    "clip": Tokens((8, 8), 1),
    "siglip": Tokens((8, 8), 0),
    "siglip2": Tokens((8, 8), 0),
    "swin": Tokens((2, 2), 0, True),
}


@pytest.mark.parametrize("kind", DEFAULTS)
def test_default_layers(kind, load_tiny):
    assert load_tiny(kind).default_layer() == DEFAULTS[kind]


@pytest.mark.parametrize("kind", TOKENS)
def test_tokens(kind, load_tiny):
    assert load_tiny(kind).tokens == TOKENS[kind]


def test_how_tokens_are_read():
    tokens = Tokens((8, 8), 5)
    assert tokens.reader((2, 5 + 6, 32), (16, 24)) == Reader("tokens", 5, (2, 3))
    assert tokens.reader((2, 6, 32), (16, 24)) == Reader("tokens", 0, (2, 3))  # before the others join them
    assert tokens.reader((2, 7, 32), (16, 24)) is None
    assert tokens.reader((2, 32, 2, 3), (16, 24)) is None
    swin = Tokens((4, 4), 0, True)
    grids = [(14, 10), (7, 5), (4, 3), (2, 2)]
    assert [swin.reader((1, h * w, 8), (56, 38)) for h, w in grids] == [Reader("tokens", 0, grid) for grid in grids]
    assert swin.reader((1, 1, 8), (56, 38)) is None  # pooled
    assert Tokens(None).reader((1, 16, 8), (32, 32)) is None


def test_blocks(load_tiny):
    model = load_tiny("clip").model
    assert vision_part(model) == "vision_model"
    assert blocks(model, "vision_model") == [f"vision_model.encoder.layers.{number}" for number in range(2)]
    assert last_block(model, "vision_model") == "vision_model.encoder.layers.1"
    assert last_block(model, "text_model", before_attention=True) == "text_model.encoder.layers.1.layer_norm1"
    with pytest.raises(LayerError, match="no repeated blocks"):
        blocks(nn.Linear(2, 2))
    assert vision_part(nn.Sequential(nn.Linear(2, 2))) == ""


@pytest.mark.parametrize("kind", ["siglip2", "registers", "swin"])
def test_the_listing_of_layers(kind, checkpoint):
    listed = run("layers", "--model", checkpoint(kind)).output
    line = next(line for line in listed.splitlines() if line.split()[:1] == [DEFAULTS[kind]])
    assert "default" in line and {"siglip2": "4×5", "registers": "4×4", "swin": "8×8"}[kind] in line
