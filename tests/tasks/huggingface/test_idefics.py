"""Idefics3 and SmolVLM: where tiles, thumbnail and pixel-shuffled tokens lie, and photos that are not split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mmexplain
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.views import Views
from tests.tasks.huggingface.planted import blocks_do_nothing, only_token, photo, tower_blocks
from tests.tasks.huggingface.tiny_idefics import TILE

PHOTOS = [(640, 200), (200, 640), (400, 400), (333, 517), (50, 40)]
split = pytest.mark.parametrize("family", ["idefics3", "smolvlm"])


def ramp(width: int, height: int) -> Image.Image:
    """Red grows from left to right, green from top to bottom."""
    x = np.broadcast_to((np.arange(width) + 0.5) / width * 255, (height, width))
    y = np.broadcast_to(((np.arange(height) + 0.5) / height * 255)[:, None], (height, width))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1).round().astype(np.uint8))


def look_of(task: Any, image: Image.Image) -> Look:
    return task.before(mmexplain.io.load_image(image), task.speaker.asked).look


def colours(task: Any, look: Look) -> Tensor:
    """What each token saw, ``[2, T, h, w]``: mean red and green as fractions, through the model's own shuffle."""
    patches = torch.nn.functional.avg_pool2d((look.image.flatten(0, -4) + 1) / 2, 14).flatten(2).transpose(1, 2)
    shuffled = task.model.model.connector.pixel_shuffle(patches.contiguous(), 2)
    return shuffled.unflatten(-1, (4, 3)).mean(2)[..., :2].movedim(-1, 0).unflatten(2, look.views.grid)


@pytest.mark.parametrize("size", PHOTOS)
@split
def test_tokens_saw_the_places_where_they_are_put(family: str, size: tuple[int, int], captioner: Any) -> None:
    task = captioner(family)
    look = look_of(task, ramp(*size))
    rows, columns = look.views.tiles
    assert look.views.thumbnail == "last" and look.image.shape[1] == rows * columns + 1 > 2
    seen = colours(task, look)
    tiles = Views(look.views.grid, look.views.tiles).lay_out(seen[:, :-1])
    for maps in (tiles, seen[:, -1]):
        height, width = maps.shape[-2:]
        assert torch.allclose(maps[0], ((torch.arange(width) + 0.5) / width).expand(height, -1), atol=0.01)
        assert torch.allclose(maps[1], ((torch.arange(height) + 0.5) / height)[:, None].expand(-1, width), atol=0.01)
    assert look.geometry.box == (0.0, 0.0, *map(float, size)) and look.geometry.original == size[::-1]
    assert look.geometry.input == (rows * TILE, columns * TILE)


@pytest.mark.parametrize("size", PHOTOS)
@split
def test_tokens_in_the_prompt_follow_the_names_of_their_tiles(
    family: str, size: tuple[int, int], captioner: Any
) -> None:
    task = captioner(family)
    look = look_of(task, photo(*size))
    tokens = task.speaker.tokenizer.convert_ids_to_tokens(look.prompt[0].tolist())
    rows, columns = look.views.tiles
    names = [f"<row_{row + 1}_col_{column + 1}>" for row in range(rows) for column in range(columns)]
    order = look.context["order"][0]
    assert order.shape == (rows * columns + 1, 2, 2)
    for name, places in zip([*names, "<global-img>"], order, strict=True):
        start = tokens.index(name) + 1
        assert places.flatten().tolist() == list(range(start, start + 4))
    assert {tokens[place] for place in order.flatten().tolist()} == {"<image>"}


@pytest.mark.parametrize("family", ["idefics3", "idefics3-whole", "smolvlm"])
def test_features_are_those_of_the_model(family: str, captioner: Any) -> None:
    task = captioner(family)
    look = look_of(task, photo(240, 100))
    with torch.no_grad():
        own = task.model.model.get_image_features(
            pixel_values=look.arguments["pixel_values"], pixel_attention_mask=look.arguments["pixel_attention_mask"]
        ).pooler_output
        found = task.speaker.encode(look.image, look)
    assert torch.allclose(found[0], torch.cat(own), atol=1e-6)


def test_views_that_a_method_has_blanked_are_still_there(captioner: Any) -> None:
    """The model's own function drops them as padding: "tokens: 36, features: 32"."""
    task = captioner("idefics3")
    look = look_of(task, photo(240, 100))
    blank = look.image.clone()
    blank[:, 2] = 0.0
    dark = look.image.clone()
    dark[:, 2] = 1e-12
    with torch.no_grad():
        assert len(task.model.model.get_image_features(pixel_values=blank).pooler_output[0]) == 32
        found, near = task.speaker.encode(blank, look), task.speaker.encode(dark, look)
    assert found.shape[1] == 36 and torch.allclose(found, near, atol=1e-6)


@pytest.mark.parametrize(
    "change", [{"do_image_splitting": False}, {"size": {"longest_edge": TILE}}], ids=["never", "small"]
)
def test_a_photo_that_is_not_split_is_one_picture(change: dict[str, Any], captioner: Any, monkeypatch: Any) -> None:
    task = captioner("smolvlm")
    for name, value in change.items():
        monkeypatch.setattr(task.speaker.checkpoint.image_processor, name, value)
    look = look_of(task, ramp(240, 100))
    assert look.views == Views((2, 2)) and look.image.shape == (1, 3, TILE, TILE)
    assert look.geometry.box == (0.0, 0.0, 240.0, 100.0) and look.geometry.input == (TILE, TILE)
    found = colours(task, look)[:, 0]
    assert torch.allclose(found[0], torch.tensor([[0.25, 0.75], [0.25, 0.75]]), atol=0.01)
    tokens = task.speaker.tokenizer.convert_ids_to_tokens(look.prompt[0].tolist())
    assert look.context["order"][0].flatten().tolist() == [tokens.index("<global-img>") + i for i in range(1, 5)]


def test_occlusion_finds_a_planted_patch(captioner: Any) -> None:
    task = captioner("idefics3-whole")
    image = photo(200, 120)
    with (
        blocks_do_nothing(tower_blocks(task.model, task.speaker.layer())),
        only_token(task.model.model.connector, 1, each=True),  # the upper right quarter
    ):
        found = task.explain(image, caption="a dog", methods=["occlusion(patch=7, stride=7)", "input-x-gradient"])
    for key, maps in found.maps.items():
        for strengths in maps.abs():
            x, y = found.geometry.peak(strengths) or (0, 0)
            assert x >= 100 and y < 60, key
            assert float(strengths[TILE // 2 :].max()) < 1e-4 * float(strengths.max()), key


def test_tiles_are_no_picture(captioner: Any) -> None:
    with pytest.raises(mmexplain.MethodError, match="reads this one as 9 tiles; use methods on layers"):
        captioner("idefics3").explain(photo(240, 100), caption="a dog", methods=["occlusion"])


def test_texts_begin_with_the_space_after_the_colon(captioner: Any) -> None:
    """As the template puts an answer into a conversation."""
    task = captioner("idefics3")
    processor, tokenizer = task.speaker.checkpoint.processor, task.speaker.tokenizer
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "who?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a dog"}]},
    ]
    whole = tokenizer(processor.apply_chat_template(turns), add_special_tokens=False).input_ids
    start = tokenizer(processor.apply_chat_template(turns[:1], add_generation_prompt=True), add_special_tokens=False)
    own = task.speaker.tokens("a dog", start.input_ids)
    assert whole[len(start.input_ids) :][: len(own)] == own == task.speaker.tokens(" a dog", start.input_ids)


def test_without_a_template_the_prompt_is_the_same(captioner: Any, monkeypatch: Any) -> None:
    task = captioner("idefics3")
    image = photo(120, 120)
    before = look_of(task, image).prompt[0].tolist()
    monkeypatch.setattr(task.speaker.checkpoint.processor, "chat_template", None)
    assert look_of(task, image).prompt[0].tolist() == before[1:]  # begin-of-text is the tokenizer's, if it has one


def test_a_prompt_with_the_mark_of_a_photo_is_refused(captioner: Any) -> None:
    with pytest.raises(mmexplain.InputError, match="holds '<image>', which stands for the photo; leave it out"):
        captioner("smolvlm").explain(photo(120, 120), prompt="<image> describe")


def test_what_smolvlm_lacks_is_said(folders: Any, monkeypatch: Any) -> None:
    from transformers.models.smolvlm import processing_smolvlm

    folder = folders("smolvlm")
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(mmexplain.CheckpointError, match="pip install num2words") as caught:
        mmexplain.load(f"hf:{folder}", "caption", "cpu")
    assert "\n" not in str(caught.value)
