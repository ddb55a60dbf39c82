"""Qwen's vision-language models: where in a photo their patches and tokens stand, and what they read of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import mmexplain
from mmexplain.taps import first_tensor
from tests.tasks.huggingface.planted import blocks_do_nothing, changed_at, photo, tokens_at
from tests.tasks.huggingface.ramps import SIZES, colours, expected, ramp
from tests.tasks.huggingface.tiny_anyres import MAKERS

qwens = pytest.mark.parametrize("family", [family for family in MAKERS if family.startswith("qwen")])


def look_of(task: Any, image: Image.Image) -> Any:
    return task.speaker.look(mmexplain.io.load_image(image), "what is on the table?")


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
    means = colours(task.speaker.checkpoint.image_processor, look.image, patch)[0].view(rows, columns, 3)
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
    with pytest.raises(mmexplain.InputError, match=r"holds '<\|image_pad\|>', which stands for the photo"):
        task.explain(photo(120, 120), caption="a dog", prompt="what is <|image_pad|>?")
    with pytest.raises(
        mmexplain.InputError, match=r"with the prompt 'a <\|video_pad\|>': Found 1 <\|video_pad\|> tokens"
    ):
        task.explain(photo(120, 120), caption="a dog", prompt="a <|video_pad|>")
