"""PaliGemma and Florence-2: masks, capped logits, prompts that are tasks, and where tokens are no place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mmexplain
from tests.tasks.huggingface.planted import blocks_do_nothing, only_token, photo, tower_blocks

CAPTION = "a dog with two balls"
gemmas = pytest.mark.parametrize("family", ["paligemma", "paligemma2"])


@gemmas
def test_a_caption_costs_what_training_says(family: str, captioner: Any) -> None:
    """By the processor's own suffix, with its token types and labels, and the model's own forward."""
    task = captioner(family)
    image = photo(240, 100)
    found = task.explain(image, caption=CAPTION, whole=True)
    made = task.speaker.checkpoint.processor(
        images=image, text="<image>caption en", suffix=CAPTION, return_tensors="pt"
    )
    labels = made.pop("labels")
    with torch.no_grad():
        scores = task.model(**made).logits[0, :-1].log_softmax(-1)
    scored = labels[0, 1:] >= 0
    assert int(scored.sum()) == len(found.targets[-1].ids)
    expected = scores[scored].gather(1, labels[0, 1:][scored][:, None]).sum()
    assert float(found.scores[-1]) == pytest.approx(float(expected), abs=1e-4)


def test_logits_of_gemma_2_are_capped(captioner: Any) -> None:
    task = captioner("paligemma2")
    assert float(task.speaker.project(torch.randn(50, 48) * 100).detach().abs().max()) <= 2.0
    assert float(captioner("paligemma").speaker.project(torch.randn(50, 48) * 100).detach().abs().max()) > 2.0


@gemmas
def test_a_question_is_a_task(family: str, answerer: Any) -> None:
    task = answerer(family)
    before = task.before(mmexplain.io.load_image(photo(120, 120)), task.speaker.question.format("what color?"))
    decoded = task.speaker.tokenizer.decode(before.look.prompt[0])
    assert decoded == "<image>" * 16 + "<s>answer en what color?\n"


@pytest.mark.parametrize("family", ["paligemma", "paligemma2", "florence2"])
def test_attention_is_the_models_own(family: str, captioner: Any) -> None:
    task = captioner(family)
    image = photo(240, 100)
    found = task.explain(image, caption="a dog", methods=["attention"])
    look = task.before(mmexplain.io.load_image(image), task.speaker.asked).look
    said = torch.tensor([task.speaker.tokens("a dog")])
    text = torch.cat([look.prompt, said], 1)
    model = type(task.model).from_pretrained(task.model_id, attn_implementation="eager")
    arguments = dict(look.arguments)
    with torch.no_grad():
        if family == "florence2":
            output = model(**{**arguments, "decoder_input_ids": text}, output_attentions=True)
            weights, asked = output.cross_attentions, arguments["input_ids"]
        else:
            types = torch.cat([arguments["token_type_ids"], torch.ones_like(said)], 1)
            given = {"input_ids": text, "token_type_ids": types, "attention_mask": torch.ones_like(text)}
            weights, asked = model(**{**arguments, **given}, output_attentions=True).attentions, look.prompt
    start = look.prompt.shape[1] - 1
    mean = torch.stack(weights).mean((0, 2))[0, start : start + len(found.targets[0].ids)].mean(0)
    over = mean[: asked.shape[1]][asked[0] == model.config.image_token_id]
    (maps,) = found.maps.values()
    assert torch.allclose(maps[0].flatten(), over[-16:], atol=1e-6)


@pytest.mark.parametrize("family", ["paligemma", "paligemma2", "florence2"])
def test_methods_that_change_the_photo_find_a_planted_patch(family: str, captioner: Any) -> None:
    task = captioner(family)
    image = photo(200, 120)
    number = 4 * 1 + 2 + (family == "florence2")  # second row, third column; after the mean, where there is one
    with (
        blocks_do_nothing(tower_blocks(task.model, task.speaker.layer())),
        only_token(task.model.get_submodule(task.speaker.projector), number, each=True),
    ):
        side = 16 if family == "florence2" else 7  # half of a place
        methods = [f"occlusion(patch={side}, stride={side})", "input-x-gradient"]
        found = task.explain(image, caption="a dog", methods=methods)
    for key, maps in found.maps.items():
        for strengths in maps.abs():
            x, y = found.geometry.peak(strengths) or (0, 0)
            # The convolutions of Florence-2 see beyond the patch.
            beyond = 12 if family == "florence2" else 2
            assert 100 - beyond <= x <= 150 + beyond and 30 - beyond <= y <= 60 + beyond, (key, x, y)


# -- Florence-2 --------------------------------------------------------------------------------------------------------


def test_a_caption_of_florence_costs_what_training_says(captioner: Any) -> None:
    """Labels as the tokenizer of Florence-2 makes them, begin and end around the text, and the model's own forward."""
    task = captioner("florence2")
    image = photo(240, 100)
    found = task.explain(image, caption=CAPTION, whole=True)
    made = task.speaker.checkpoint.processor(images=image, text="<CAPTION>", return_tensors="pt")
    tokenizer = task.speaker.tokenizer
    labels = torch.tensor([[tokenizer.bos_token_id, *task.speaker.tokens(CAPTION), tokenizer.eos_token_id]])
    with torch.no_grad():
        scores = task.model(**made, labels=labels).logits[0].log_softmax(-1)
    expected = scores.gather(1, labels[0, :, None])[1:].sum()
    assert float(found.scores[-1]) == pytest.approx(float(expected), abs=1e-4)


def test_generate_begins_as_florence_would_itself(captioner: Any) -> None:
    """Its begin-of-text is forced; the rest is what it says without our beginning."""
    task = captioner("florence2")
    look = task.before(mmexplain.io.load_image(photo(120, 120)), "<CAPTION>").look
    own = {name: value for name, value in look.arguments.items() if name != "decoder_input_ids"}
    free = task.model.generate(**own, do_sample=False, num_beams=1, max_new_tokens=9)[0].tolist()
    assert free[:2] == look.prompt[0].tolist()
    assert task.speaker.generate(look, 1, 8) == free[2:-1]


def test_tasks_of_florence_are_written_out(captioner: Any) -> None:
    task = captioner("florence2")
    shown = mmexplain.io.load_image(photo(120, 120))
    asked = task.before(shown, "<DETAILED_CAPTION>").look.context["asked"][0]
    expected = "<image>" * 17 + "<s>Describe in detail what is shown in the image.</s>"
    assert task.speaker.tokenizer.decode(asked) == expected
    with pytest.raises(mmexplain.InputError, match=r"'<CAPTION> briefly'.*should be the only content in the prompt"):
        task.explain(photo(120, 120), prompt="<CAPTION> briefly")


def test_florence_answers_no_questions(folders: Any) -> None:
    with pytest.raises(mmexplain.ModelError, match="serves caption, not vqa"):
        mmexplain.load(f"hf:{folders('florence2')}", "vqa", "cpu")


def test_layers_of_florence_are_maps_or_none(captioner: Any) -> None:
    task = captioner("florence2")
    layers = [f"model.vision_tower.blocks.{stage}.0" for stage in range(4)]
    found = task.explain(photo(240, 100), caption="a dog", methods=["gradcam-no-relu"], layers=layers)
    assert [tuple(maps.shape[1:]) for maps in found.maps.values()] == [(32, 32), (16, 16), (8, 8), (4, 4)]
    # Sixteen places: as many as a map of the photo would have.
    caption = " ".join(["a", "dog", "on", "the"] * 4)[: len("a dog on the ") * 4]
    assert len(task.speaker.tokens(caption)) + 1 >= 16
    with pytest.raises(mmexplain.LayerError):
        task.explain(photo(240, 100), caption=caption, layers=["model.language_model.decoder.layers.0"])


def test_sides_of_florence_are_rounded_as_its_convolutions_do(captioner: Any) -> None:
    speaker = captioner("florence2").speaker
    for side in (97, 128, 160, 200):
        with torch.no_grad():
            found = speaker.model.model.vision_tower(torch.zeros(1, 3, side, 128)).last_hidden_state
        assert found.shape[-2:] == (speaker.places(side), 4)
