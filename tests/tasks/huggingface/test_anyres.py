"""LLaVA-NeXT and Qwen's models: where in a photo of any shape their tokens stand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mmexplain
from mmexplain.taps import first_tensor
from tests.tasks.huggingface.planted import blocks_do_nothing, changed_at, only_token, photo, tokens_at
from tests.tasks.huggingface.tiny_anyres import MAKERS

QWEN = [family for family in MAKERS if family.startswith("qwen")]
SIZES = [(240, 100), (90, 260), (120, 120), (160, 100), (100, 160), (333, 517), (50, 40), (300, 90)]
"""``(width, height)``: for LLaVA-NeXT in two, three and four tiles, with rows or columns of padding."""

qwens = pytest.mark.parametrize("family", QWEN)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def made(family: str) -> Any:
        folder: Path = tmp_path_factory.mktemp(family)
        MAKERS[family](folder)
        return mmexplain.load(f"hf:{folder}", "caption", "cpu")

    return cache(made)


def look_of(task: Any, image: Image.Image) -> Any:
    return task.speaker.look(mmexplain.io.load_image(image), "what is on the table?")


def ramp(width: int, height: int) -> Image.Image:
    """Red is the place from left to right, green from top to bottom, and blue is full: padding has none."""
    x, y = ((np.arange(side) + 0.5) / side * 255 for side in (width, height))
    rows, columns = np.broadcast_to(y[:, None], (height, width)), np.broadcast_to(x, (height, width))
    return Image.fromarray(np.stack([columns, rows, np.full((height, width), 255.0)], -1).round().astype(np.uint8))


def colours(task: Any, pixels: Tensor, patch: int) -> Tensor:
    """Mean colours of patches in ``[0, 1]``: pictures ``[N, 3, h, w]`` → ``[N, patches, 3]``."""
    processor = task.speaker.checkpoint.image_processor
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    return torch.nn.functional.avg_pool2d(pixels * std + mean, patch).flatten(2).transpose(1, 2)


def expected(box: tuple[float, float, float, float], width: int, height: int) -> tuple[float, float, float]:
    """Mean colour of the ramp in a rectangle of the photo, black beside it."""
    left, top, right, bottom = box
    x0, y0, x1, y1 = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    share = max(x1 - x0, 0.0) * max(y1 - y0, 0.0) / ((right - left) * (bottom - top))
    return share * (x0 + x1) / 2 / width, share * (y0 + y1) / 2 / height, share


# -- LLaVA-NeXT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_what_llava_next_sees_at_each_place_is_there_in_the_photo(size: tuple[int, int], captioner: Any) -> None:
    """The model packs mean colours instead of features: each is that of the token's rectangle."""
    task, (width, height) = captioner("llava_next"), size
    look = look_of(task, ramp(width, height))
    model, (_, rows, columns) = task.speaker.model.model, look.views.shape
    means = colours(task, look.image[0], 14)
    newline = torch.full((3,), -9.0)
    (packed,), _ = model.pack_image_features([means], look.arguments["image_sizes"], "default", newline)
    places = (look.prompt[0] == task.speaker.image_token).nonzero()[:, 0]
    assert len(places) == len(packed)
    order = look.context["order"][0]
    there = order[order >= 0]
    assert len(there.unique()) == len(there)
    ends = int((packed == newline).all(-1).sum())
    assert len(there) + ends == len(packed) and ends == int((order[1:] >= 0).any(2).sum()) // look.views.tiles[1]
    seen = dict(zip(places.tolist(), packed, strict=True))
    partly = 0
    for view, row, column in (order >= 0).nonzero().tolist():
        if view == 0:
            cell = (width / columns, height / rows)
            box = (column * cell[0], row * cell[1], (column + 1) * cell[0], (row + 1) * cell[1])
        else:
            down, right = divmod(view - 1, look.views.tiles[1])
            x, y = (right * columns + column) * 14.0, (down * rows + row) * 14.0
            box = (*look.geometry.point_to_original(x, y), *look.geometry.point_to_original(x + 14, y + 14))
        wanted = torch.tensor(expected(box, width, height))
        partly += 0.001 < float(wanted[2]) < 0.999
        assert torch.allclose(seen[int(order[view, row, column])], wanted, atol=0.02), (view, row, column, wanted)
    if size in ((160, 100), (100, 160)):
        assert partly  # cells that are padding in part were among them


def test_padding_of_either_axis_is_cut_off(captioner: Any) -> None:
    """A wide photo loses rows at both ends of the mosaic, a tall one columns; cells with some photo may be among
    them, and some with padding stay."""
    task = captioner("llava_next")
    mosaics = {}
    for size in ((300, 90), (90, 300), (120, 120)):
        look = look_of(task, photo(*size))
        mosaics[size] = look.views.lay_out((look.context["order"][0] >= 0).float())  # the first view adds 1
    wide, tall, square = mosaics.values()
    assert wide.shape == (4, 12) and tall.shape == (12, 4) and square.shape == (8, 8)
    assert torch.equal(wide, tall.T) and bool((square == 2).all())
    look = look_of(task, photo(200, 30))
    cells = look.views.lay_out(torch.cat([torch.zeros(1, 4, 4), (look.context["order"][0, 1:] >= 0).float()]))
    assert cells.shape == (4, 12) and cells[:, 0].tolist() == [0, 1, 1, 0]
    assert cells.amin(1).tolist() == cells.amax(1).tolist()
    look = look_of(task, photo(30, 200))
    other = look.views.lay_out(torch.cat([torch.zeros(1, 4, 4), (look.context["order"][0, 1:] >= 0).float()]))
    assert torch.equal(other, cells.T)


@pytest.mark.parametrize("size", [(240, 100), (90, 260), (120, 120)])
@pytest.mark.parametrize("layer", ["model.vision_tower.encoder.layers.1", "model.multi_modal_projector"])
def test_a_tile_is_as_sharp_as_its_cells(size: tuple[int, int], layer: str, captioner: Any) -> None:
    task = captioner("llava_next")
    module, (width, height) = task.model.get_submodule(layer), size
    x, y = int(0.8 * width), int(0.3 * height)
    image = photo(width, height)

    def run(shown: Image.Image) -> None:
        look = look_of(task, shown)
        task.speaker.encode(look.image, look)

    with blocks_do_nothing(task.model.model.vision_tower.encoder.layers):
        differences = tokens_at(module, run, image, changed_at(image, x, y, 2))
    each = 17 if "tower" in layer else 16
    number = each + int(differences[each:].argmax())  # of the tiles: the whole photo comes first
    with only_token(module, number):
        found = task.explain(image, caption="a dog", methods=["gradcam-no-relu"], layers=[layer])
    (maps,) = found.maps.values()
    left, top, right, bottom = found.geometry.box
    for strengths in maps.abs():
        assert int((strengths > 0).sum()) == 1
        row, column = divmod(int(strengths.argmax()), strengths.shape[1])
        cell = (right - left) / strengths.shape[1], (bottom - top) / strengths.shape[0]
        assert abs(left + (column + 0.5) * cell[0] - x) <= cell[0] / 2 + 3
        assert abs(top + (row + 0.5) * cell[1] - y) <= cell[1] / 2 + 3


# -- Qwen ------------------------------------------------------------------------------------------------------------


@qwens
@pytest.mark.parametrize("size", SIZES)
def test_patches_are_the_processors(family: str, size: tuple[int, int], captioner: Any) -> None:
    task = captioner(family)
    look = look_of(task, photo(*size))
    assert torch.equal(task.speaker.pack(look.image), look.arguments["pixel_values"])
    two = torch.cat([look.image, look.image.flip(3)]).requires_grad_()
    packed = task.speaker.pack(two)
    assert torch.equal(packed[: len(packed) // 2], look.arguments["pixel_values"])
    (gradient,) = torch.autograd.grad(packed.sum(), two)
    assert bool((gradient == task.model.config.vision_config.temporal_patch_size).all())


@qwens
@pytest.mark.parametrize("size", SIZES)
def test_the_picture_lies_over_the_photo(family: str, size: tuple[int, int], captioner: Any) -> None:
    task, (width, height) = captioner(family), size
    look = look_of(task, ramp(width, height))
    patch = 2 * task.model.config.vision_config.patch_size
    rows, columns = look.views.grid
    means = colours(task, look.image, patch)[0].view(rows, columns, 3)
    order = look.context["order"][0]
    assert torch.equal(order.flatten(), (look.prompt[0] == task.speaker.image_token).nonzero()[:, 0])
    for row in range(rows):
        for column in range(columns):
            x, y = float(column * patch), float(row * patch)
            box = (*look.geometry.point_to_original(x, y), *look.geometry.point_to_original(x + patch, y + patch))
            assert torch.allclose(means[row, column], torch.tensor(expected(box, width, height)), atol=0.02)


@qwens
def test_layers_of_the_tower_are_read_where_they_stand(family: str, captioner: Any) -> None:
    """A change of one patch shows there, and nowhere else, in all layers of the tower (whose blocks do not mix)."""
    task = captioner(family)
    speaker, vision = task.speaker, task.model.config.vision_config
    image = photo(280, 170)
    look = look_of(task, image)
    height, width = speaker.patches(look)
    layers = ["patch_embed", *(f"blocks.{number}" for number in range(vision.depth)), "merger"]
    layers += [f"deepstack_merger_list.{n}" for n in range(len(getattr(vision, "deepstack_visual_indexes", [])))]
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        return lambda module, args, output: seen.__setitem__(name, first_tensor(output))

    handles = [task.model.get_submodule(f"model.visual.{n}").register_forward_hook(note(n)) for n in layers]
    try:
        with torch.no_grad(), blocks_do_nothing(task.model.model.visual.blocks):
            for row, column in ((0, 0), (height - 1, 1), (3, width - 2), (5, 6)):
                values = []
                for shift in (0.0, 3.0):
                    changed = look.image.clone()
                    patch = vision.patch_size
                    changed[..., row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += shift
                    # Two pictures at once: theirs is the second one of each.
                    speaker.encode(torch.cat([look.image.flip(2), changed]), look)
                    values.append(dict(seen))
                for name in layers:
                    reader = speaker.reader(f"model.visual.{name}", tuple(values[0][name].shape), look)
                    assert reader is not None and len(values[0][name]) == 2 * reader.rows_per_input
                    maps = (reader(values[1][name]) - reader(values[0][name])).abs().sum(1)
                    assert not bool(maps[0].any())
                    scale = 2 if "merger" in name else 1
                    assert maps.shape[1:] == (height // scale, width // scale)
                    assert (maps[1] > 1e-6).nonzero().tolist() == [[row // scale, column // scale]], name
    finally:
        for handle in handles:
            handle.remove()


def test_windows_are_not_in_reading_order(captioner: Any) -> None:
    """The test before would pass for a photo of one window, whatever is done about windows."""
    task = captioner("qwen2_5_vl")
    look = look_of(task, photo(280, 170))
    blocks = task.speaker.block_order("model.visual.blocks.0", look)
    assert blocks[:2, :4].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


@qwens
def test_gradients_take_every_way_through_the_model(family: str, captioner: Any) -> None:
    """Grad-CAM of the tower's first block from one ordinary pass of the whole model: Qwen3's language model reads
    this block's features beside the last ones."""
    task = captioner(family)
    image, layer = photo(160, 100), "model.visual.blocks.0"
    found = task.explain(image, caption="a dog", words="dog", methods=["gradcam-no-relu"], layers=[layer])
    look = task.speaker.look(mmexplain.io.load_image(image), task.speaker.asked)
    (target,) = found.targets
    ids = torch.tensor([task.speaker.tokens("a dog")])
    start = look.prompt.shape[1] + ids.shape[1] - len(target.ids)
    whole = torch.cat([look.prompt, ids], 1)
    kinds = torch.cat([look.arguments["mm_token_type_ids"], torch.zeros_like(ids)], 1)
    kept: list[Tensor] = []
    handle = task.model.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[-1]))
    before = task.model.model.rope_deltas
    logits = task.model(
        **{**look.arguments, "input_ids": whole, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(whole)}
    ).logits[0]
    handle.remove()
    task.model.model.rope_deltas = before
    score: Any = sum(logits[start + i - 1].log_softmax(-1)[token] for i, token in enumerate(target.ids))
    assert float(score.detach()) == pytest.approx(float(found.scores[0]), abs=1e-4)
    (gradient,) = torch.autograd.grad(score, kept[0])
    plain = (kept[0] * gradient.mean(0)).sum(-1).detach()
    (maps,) = found.maps.values()
    # The same values, whatever their order, which other tests look after.
    close = {"rtol": 1e-3, "atol": 1e-5 * float(plain.abs().max())}
    assert torch.allclose(maps.flatten().sort().values, plain.sort().values, **close)


@qwens
def test_what_the_model_keeps_of_a_prompt_is_put_back(family: str, captioner: Any) -> None:
    task = captioner(family)
    inner = task.model.model
    for own in (None, torch.tensor([[-7]])):
        inner.rope_deltas = own
        task.explain(photo(120, 120), max_length=4, text="all")
        assert inner.rope_deltas is own
    inner.rope_deltas = None


@qwens
def test_of_several_ends_the_tokenizers_own_is_scored(family: str, captioner: Any) -> None:
    task = captioner(family)
    assert len(task.speaker.ends) == 2 and task.speaker.end == task.speaker.tokenizer.eos_token_id
    assert task.speaker.end > min(task.speaker.ends)


@qwens
def test_methods_that_change_the_photo_run(family: str, captioner: Any) -> None:
    """The photo is one picture: only its part that alone has a say counts for anything."""
    task = captioner(family)
    image, (x, y) = photo(200, 120), (157, 45)
    patch = task.model.config.vision_config.patch_size
    merger = task.model.model.visual.merger

    def run(shown: Image.Image) -> None:
        look = look_of(task, shown)
        task.speaker.encode(look.image, look)

    with blocks_do_nothing(task.model.model.visual.blocks):
        number = int(tokens_at(merger, run, image, changed_at(image, x, y, 3)).argmax())
        look = look_of(task, image)
        size = int(look.views.grid[0] * look.views.grid[1])
        before = merger.forward

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            output = before(*args, **kwargs)
            mask = (torch.arange(len(output)) % size == number)[:, None]  # of each of the photos at once
            return output * mask

        merger.forward = forward
        deep = getattr(task.model.model.visual, "deepstack_merger_list", [])
        others = [(module, module.forward) for module in deep]
        for module, own in others:
            module.forward = lambda *args, own=own: 0 * own(*args)
        try:
            found = task.explain(
                image, caption="a dog", methods=[f"occlusion(patch={patch}, stride={patch})", "input-x-gradient"]
            )
        finally:
            merger.forward = before
            for module, own in others:
                module.forward = own
    assert len(found.maps) == 2
    row, column = (int(place // (2 * patch)) for place in reversed(look.geometry.point_to_input(x, y)))
    for key, maps in found.maps.items():
        assert maps.shape[1:] == look.image.shape[2:]
        for values in maps.abs():
            beside = values.clone()
            inside = beside[row * 2 * patch : (row + 1) * 2 * patch, column * 2 * patch : (column + 1) * 2 * patch]
            assert float(inside.max()) > 1e-4, key
            inside.zero_()
            assert float(beside.max()) < 1e-3 * float(values.max()), key


@qwens
def test_photos_and_prompts_that_cannot_be_taken_are_named(family: str, captioner: Any) -> None:
    task = captioner(family)
    with pytest.raises(mmexplain.InputError, match=r"photo of 2100×10 pixels .* aspect ratio"):
        task.explain(photo(2100, 10), caption="a dog")
    with pytest.raises(mmexplain.InputError, match=r"prompt 'what is <\|image_pad\|>\?': The total number of"):
        task.explain(photo(120, 120), caption="a dog", prompt="what is <|image_pad|>?")


def test_a_prompt_with_a_token_of_a_photo_is_named(captioner: Any) -> None:
    with pytest.raises(mmexplain.InputError, match="Found total 2 <image> tokens and 1 images"):
        captioner("llava_next").explain(photo(120, 120), caption="a dog", prompt="what is <image>?")
