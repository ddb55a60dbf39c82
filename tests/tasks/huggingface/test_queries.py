"""BLIP-2, InstructBLIP, GIT, encoder-decoder models and BLIP for questions: against transformers' own forward."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import mmexplain
from mmexplain.io import load_image
from tests.tasks.huggingface.planted import blocks_do_nothing, only_token, photo, tower_blocks
from tests.tasks.huggingface.tiny_queries import ANSWERERS, CAPTIONERS, git

CAPTION = "a dog with two balls"
QUESTION = "What color is the ball?"
ALL = CAPTIONERS | ANSWERERS
families = pytest.mark.parametrize("family", ALL)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Family → its task, captions before answers."""

    @cache
    def made(family: str) -> Any:
        folder = tmp_path_factory.mktemp(family)
        ALL[family](folder)
        return mmexplain.load(f"hf:{folder}", device="cpu")

    return made


def explained(task: Any, image: Any, **options: Any) -> Any:
    """One text, scored as a whole."""
    if task.name == "vqa":
        return task.explain(image, QUESTION, [CAPTION], top=0, **options)
    return task.explain(image, caption=CAPTION, whole=True, words=(), **options)


def looked(task: Any, image: Any) -> Any:
    """The model with a photo and the prompt of :func:`explained` before it."""
    speaker = task.speaker
    return task.before(load_image(image), speaker.question.format(QUESTION) if task.name == "vqa" else speaker.asked)


@families
def test_a_text_costs_what_the_model_says_that_it_costs(family: str, load: Any) -> None:
    """transformers' own forward pass, given pixels and tokens, and its own loss where it has one."""
    task = load(family)
    speaker, model = task.speaker, task.speaker.model
    image = photo(200, 120)
    look = looked(task, image).look
    ids = torch.tensor([speaker.tokens(CAPTION, look.prompt[0].tolist())])
    labels = torch.cat([ids, torch.tensor([[speaker.end]])], 1)
    if task.name == "vqa":
        # BLIP's loss begins with the token that starts the decoder, and has the end in it.
        labels = torch.cat([ids.new_full((1, 1), model.decoder_start_token_id), labels], 1)
        with torch.no_grad():
            found = model(**look.arguments, decoder_input_ids=labels, labels=labels)
        whole = explained(task, image)
        end = float(_end(task, look, labels[:, 1:-1]))
        mean = (float(whole.scores[0]) + end) / (labels.shape[1] - 1)
        assert mean == pytest.approx(-float(found.loss), abs=1e-4)
        return
    with torch.no_grad():
        if family == "blip2-t5" or isinstance(getattr(model, "encoder", None), torch.nn.Module):
            arguments = speaker.fresh(look.arguments)
            arguments.pop("decoder_input_ids", None)
            logits = model(**arguments, labels=labels).logits
        else:
            inputs = {**look.arguments, "input_ids": torch.cat([look.prompt, labels], 1)}
            logits = model(**inputs).logits[:, -labels.shape[1] - 1 : -1]
    expected = -functional.cross_entropy(logits[0], labels[0], reduction="sum")
    assert float(explained(task, image).scores[-1]) == pytest.approx(float(expected), abs=1e-3)


def _end(task: Any, look: Any, said: torch.Tensor) -> torch.Tensor:
    """Log-probability of the end after a text, which the score of an answer leaves out."""
    speaker = task.speaker
    with torch.no_grad():
        features = speaker.encode(look.image, look)
        ends = torch.cat([said, torch.tensor([[speaker.end]])], 1)
        hidden = speaker.read(features, {"prompt": look.prompt}, ends)
        found: torch.Tensor = speaker.project(hidden[:, -1]).log_softmax(-1)[0, speaker.end]
    return found


@pytest.mark.parametrize("family", ["blip2", "blip2-t5", "instructblip"])
def test_prompts_are_the_processors(family: str, load: Any) -> None:
    speaker = load(family).speaker
    image = photo(200, 120)
    look = speaker.look(load_image(image), "what color is it?")
    made = speaker.checkpoint.processor(images=image, text="what color is it?", return_tensors="pt")
    for name, value in look.arguments.items():
        assert torch.allclose(value, made[name].to(value.dtype)), name


def test_the_question_is_the_tokenizers(load: Any) -> None:
    speaker = load("blip-vqa").speaker
    look = speaker.look(load_image(photo(90, 90)), QUESTION)
    assert look.prompt.tolist() == [speaker.tokenizer(QUESTION).input_ids]
    words = load("blip-vqa").explain(photo(90, 90), QUESTION, ["red"], top=0, text="all")
    assert words.words == ["What", "color", "is", "the", "ball"]
    assert bool(words.text_maps["integrated-gradients"].isfinite().all())  # found, though the tokens have no capitals


@families
def test_attention_is_what_transformers_gives(family: str, load: Any) -> None:
    """The mean over heads and layers; by way of queries or a question the product of the two means."""
    task = load(family)
    speaker, model = task.speaker, task.speaker.model
    image = photo(120, 120)
    look = looked(task, image).look
    ids = torch.tensor([speaker.tokens(CAPTION, look.prompt[0].tolist())])
    shown = explained(task, image, methods=["attention"]).maps
    (found,) = (values[-1] for values in shown.values())
    model.set_attn_implementation("eager")
    expected = _attention(task, look, ids)[0]
    if task.name == "caption":
        # Of the whole caption, whose end is said too.
        expected = _attention(task, look, torch.cat([ids, torch.tensor([[speaker.end]])], 1))[0]
    assert torch.allclose(found.flatten(), expected.mean(0), rtol=1e-3, atol=1e-6)


def _attention(task: Any, look: Any, said: torch.Tensor) -> torch.Tensor:
    """``[1, T, h · w]`` by ``output_attentions``."""

    def mean(layers: Any) -> torch.Tensor:
        return torch.stack([layer for layer in layers if layer is not None and layer.numel()]).mean((0, 2))

    model, prompt = task.speaker.model, look.prompt
    steps, patches = said.shape[1], look.views.grid[0] * look.views.grid[1]
    with torch.no_grad():
        if task.name == "vqa":
            features = model.vision_model(**{"pixel_values": look.image}).last_hidden_state
            question = model.text_encoder(prompt, encoder_hidden_states=features, output_attentions=True)
            start = said.new_full((1, 1), model.decoder_start_token_id)
            answer = model.text_decoder(
                torch.cat([start, said[:, :-1]], 1),
                encoder_hidden_states=question.last_hidden_state,
                output_attentions=True,
            )
            return mean(answer.cross_attentions) @ mean(question.cross_attentions)[..., 1:]
        if hasattr(model, "decoder"):
            arguments = task.speaker.fresh(look.arguments)
            arguments.pop("decoder_input_ids")
            output = model(**arguments, labels=said, output_attentions=True)
            return mean(output.cross_attentions)[..., -patches:]
        if hasattr(model, "git"):
            ids = torch.cat([prompt, said[:, :-1]], 1)
            output = model(ids, pixel_values=look.image, output_attentions=True)
            return mean(output.attentions)[:, -steps:, 1 : 1 + patches]
        kept: dict[str, torch.Tensor] = {}
        handles = [
            module.register_forward_hook(lambda *call, name=name: kept.update({name: call[-1][1]}))
            for name, module in model.qformer.named_modules()
            if name.endswith("crossattention.attention")
        ]
        if model.language_model.config.is_encoder_decoder:
            output = model(**look.arguments, labels=said, output_attentions=True)
            reading = mean(output.language_model_outputs.cross_attentions)
        else:
            arguments = {**look.arguments, "input_ids": torch.cat([prompt, said[:, :-1]], 1)}
            output = model(**arguments, output_attentions=True)
            reading = mean(output.language_model_outputs.attentions)[:, -steps:]
        for handle in handles:
            handle.remove()
        queries = task.speaker.queries
        return reading[..., :queries] @ mean(kept.values())[..., 1:]


@families
def test_methods_that_change_the_photo_run(family: str, load: Any) -> None:
    found = explained(load(family), photo(100, 60), methods=["occlusion(patch=8)", "input-x-gradient"])
    assert len(found.maps) == 2
    assert all(bool(maps.isfinite().all()) and bool(maps.any()) for maps in found.maps.values())


@pytest.mark.parametrize("family", ["blip2", "blip2-t5", "instructblip", "git", "vit-gpt2", "blip-vqa"])
def test_occlusion_and_gradcam_find_the_only_patch_that_counts(family: str, load: Any) -> None:
    """Patches do not mix, and all but one are taken away on their way out of the tower."""
    task = load(family)
    model, layer = task.speaker.model, task.speaker.layer()
    module, image = model.get_submodule(layer), photo(120, 120)
    for row, column in ((0, 3), (2, 1)):
        with blocks_do_nothing(_blocks(model, layer)), only_token(module, 1 + 4 * row + column, each=True):
            found = explained(task, image, methods=["occlusion(patch=8, stride=8)", "gradcam-no-relu"])
        assert len(found.maps) == 2
        for key, maps in found.maps.items():
            peak = found.geometry.peak(maps[-1].abs())
            assert peak is not None, key
            assert peak == pytest.approx((30 * column + 15, 30 * row + 15), abs=15), key


def _blocks(model: Any, layer: str) -> list[torch.nn.Module]:
    return list(model.encoder.layers) if layer == "encoder.layernorm" else tower_blocks(model, layer)


@pytest.mark.parametrize(
    ("family", "layer"),
    [
        ("blip2", "qformer.encoder.layer.0"),
        ("blip2", "language_projection"),
        ("blip2", "language_model.model.decoder.layers.0"),
        ("git", "git.embeddings"),
        ("vit-gpt2", "decoder.transformer.h.0"),
        ("blip-vqa", "text_encoder.encoder.layer.0"),
    ],
)
def test_queries_and_words_are_no_places(family: str, layer: str, load: Any) -> None:
    """Not even a text of as many tokens as there are patches and a class token."""
    task = load(family)
    look = looked(task, photo(90, 90)).look
    with pytest.raises(mmexplain.LayerError, match="no places in the photo"):
        task.speaker.reader(layer, (1, 17, 32), look)
    with pytest.raises(mmexplain.LayerError):
        explained(task, photo(90, 90), layers=[layer])


def test_a_q_former_in_float32_serves_a_model_in_half_precision(load: Any, tmp_path: Path) -> None:
    """As transformers loads BLIP-2 in float16."""
    CAPTIONERS["blip2"](tmp_path)
    half = mmexplain.load(f"hf:{tmp_path}", device="cpu")
    for name, parameter in half.speaker.model.named_parameters():
        if not name.startswith(("qformer", "query_tokens")):
            parameter.data = parameter.data.bfloat16()
    image = photo(120, 120)
    found, expected = explained(half, image), explained(load("blip2"), image)
    assert torch.allclose(found.scores, expected.scores, rtol=0.05)


def test_git_reads_patches_among_the_words(load: Any) -> None:
    """In the decoder's layers too; what was cut off at the sides is unseen."""
    task = load("git")
    image = photo(240, 100)
    found = task.explain(image, caption=CAPTION, layers=["git.visual_projection", "git.encoder.layer.0"])
    assert all(maps.shape[-2:] == (4, 4) for maps in found.maps.values())
    left, top, right, bottom = found.geometry.visible
    assert (left, top, right, bottom) == pytest.approx((70, 0, 170, 100), abs=3)
    module = task.speaker.model.get_submodule("git.encoder.layer.0")
    with only_token(module, 1 + 4 * 2 + 3):
        (maps,) = task.explain(
            image, caption=CAPTION, words="balls", layers=["git.encoder.layer.0"], methods=["gradcam-no-relu"]
        ).maps.values()
    assert int(maps[0].abs().argmax()) == 4 * 2 + 3


def test_git_for_clips_is_refused(tmp_path: Path) -> None:
    git(tmp_path, frames=4)
    with pytest.raises(mmexplain.ModelError, match="describes clips of 4 frames, not photos"):
        mmexplain.load(f"hf:{tmp_path}", device="cpu")


def test_swins_windows_come_back(load: Any) -> None:
    task = load("swin-bert")
    blocks = [m for m in task.speaker.model.modules() if hasattr(m, "set_shift_and_window_size")]
    before = [(block.window_size, block.shift_size) for block in blocks]
    assert any(shift for _, shift in before)
    task.explain(photo(100, 60), max_length=4)
    assert [(block.window_size, block.shift_size) for block in blocks] == before


@pytest.mark.parametrize("family", ["vit-gpt2", "swin-bert", "resnet-gpt2"])
def test_a_caption_may_begin_as_the_user_has_it(family: str, load: Any) -> None:
    """The chain rule: what follows costs what the whole costs less the beginning."""
    task, image = load(family), photo(100, 60)
    begun = task.explain(image, caption=" with two balls", prompt="a dog", words=(), whole=True)
    whole = task.explain(image, caption=CAPTION, whole=True)
    assert float(begun.scores[-1]) == pytest.approx(float(whole.scores[-1] - whole.scores[:2].sum()), abs=1e-3)
