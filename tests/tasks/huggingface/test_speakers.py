"""Models that write about a photo: the same promises for every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mmexplain
from mmexplain.methods.text import TEXT_METHODS
from mmexplain.tasks.huggingface.speakers.image_text import ImageTextSpeaker
from mmexplain.tasks.huggingface.speaking import Speaking
from mmexplain.tasks.huggingface.words import spell
from tests.tasks.huggingface import tiny_queries
from tests.tasks.huggingface.planted import blocks_do_nothing, changed_at, only_token, photo, tokens_at, tower_blocks
from tests.tasks.huggingface.tiny_speakers import MAKERS

CAPTION = "a dog with two balls"
SIZES = {"wide": (240, 100), "tall": (90, 260), "square": (120, 120)}
CAPTIONING = [*MAKERS, *tiny_queries.CAPTIONERS]
ANSWERING = [*(family for family in MAKERS if family not in ("blip", "florence2")), *tiny_queries.ANSWERERS]
"""Families that answer questions in words of their own."""

REACH = {"resnet-gpt2": 1.5}
"""Family → how far a token may stand from the place that it is of, in cells: those of a CNN see their neighbours'."""


families = pytest.mark.parametrize("family", CAPTIONING)


@families
def test_words_add_up_to_what_generate_says(family: str, captioner: Any) -> None:
    """The log-probabilities of transformers' own search, with its own cache, are those of the words."""
    task: Speaking = captioner(family)
    speaker = task.speaker
    image = photo(*SIZES["wide"])
    before = task.before(mmexplain.io.load_image(image), speaker.asked)
    # Two steps more than are explained: the first has the probability of the end, the last may be forced.
    found = speaker.model.generate(
        **speaker.fresh(before.look.arguments),
        do_sample=False,
        max_new_tokens=9,
        output_scores=True,
        return_dict_in_generate=True,
    )
    explanation = task.explain(image, max_length=7, whole=True)
    *targets, whole = explanation.targets
    ids = list(whole.ids[:-1])
    assert 1 < len(ids) <= 7 and whole.ids[-1] == speaker.end
    generated = found.sequences[0].tolist()[-len(found.scores) :]
    assert generated[: len(ids)] == ids == speaker.own(found.sequences[0].tolist(), before.look)[: len(ids)]
    steps = torch.stack(found.scores)[:, 0].log_softmax(-1)
    costs = [float(steps[place, token]) for place, token in enumerate(whole.ids)]
    _, words = spell(speaker.tokenizer, ids)
    assert [target.ids for target in targets] == [tuple(ids[word.start : word.stop]) for word in words]
    for word, score in zip(words, explanation.scores, strict=False):
        assert float(score) == pytest.approx(sum(costs[word.start : word.stop]), abs=1e-3), word
    # Punctuation and pieces of characters are in no word, but in the caption, and so is the end.
    assert float(explanation.scores[-1]) == pytest.approx(sum(costs), abs=1e-3)


@families
@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp"])
def test_targets_at_once_are_targets_one_by_one(family: str, strategy: str, captioner: Any) -> None:
    task = captioner(family)
    options = {"caption": CAPTION, "methods": ["gradcam-no-relu", "layercam", "gradcam++"], "whole": True}
    image = photo(*SIZES["tall"])
    if strategy == "expand" and not task.before(mmexplain.io.load_image(image), "").look.views.single:
        with pytest.raises(mmexplain.InputError, match="read in tiles"):
            task.explain(image, strategy=strategy, **options)
        return
    one = task.explain(image, strategy="loop", **options)
    other = task.explain(image, strategy=strategy, **options)
    assert len(one) == 6 and one.targets == other.targets
    assert torch.allclose(one.scores, other.scores, atol=1e-5)
    for key, maps in one.maps.items():
        assert bool(maps.any())
        assert torch.allclose(maps, other.maps[key], rtol=1e-3, atol=1e-5 * float(maps.abs().max()) + 1e-9), key


@families
@pytest.mark.parametrize("shape", SIZES)
def test_planted_evidence_is_found_where_it_is(family: str, shape: str, captioner: Any) -> None:
    """Only one token has a say: the one that a change of the photo at a place changes most."""
    task = captioner(family)
    speaker = task.speaker
    width, height = SIZES[shape]
    image = photo(width, height)
    blocks = tower_blocks(speaker.model, speaker.layer())
    layers = [speaker.layer()]
    if isinstance(speaker, ImageTextSpeaker):
        layers += [speaker.projector, f"{speaker.text}.layers.0"]

    def run(shown: Any) -> Any:
        before = task.before(mmexplain.io.load_image(shown), speaker.asked)
        batch = before.prepare()
        said = torch.tensor([[speaker.tokens(CAPTION)]])
        features = before.encode(batch.inputs)
        return before.decode(features, {**batch.context, "said": said, "spans": torch.zeros(1, 1, 2).long()})

    seen = task.before(mmexplain.io.load_image(image), speaker.asked).look.geometry.visible
    for layer in layers:
        module = speaker.model.get_submodule(layer)
        for fraction_x, fraction_y in ((0.3, 0.7), (0.8, 0.2)):
            x = int(seen[0] + fraction_x * (seen[2] - seen[0]))
            y = int(seen[1] + fraction_y * (seen[3] - seen[1]))
            with blocks_do_nothing(blocks):
                differences = tokens_at(module, run, image, changed_at(image, x, y, 3))
            number = int(differences.argmax())
            assert float(differences[number]) > 0
            with only_token(module, number):
                found = task.explain(image, caption=CAPTION, methods=["gradcam-no-relu"], layers=[layer])
            (key,) = found.maps
            strengths = found.maps[key].abs()
            assert bool((strengths.flatten(1).amax(1) > 0).all())
            rows, columns = strengths.shape[-2:]
            left, top, right, bottom = found.geometry.box
            cell_x, cell_y = (right - left) / columns, (bottom - top) / rows
            views = task.before(mmexplain.io.load_image(image), speaker.asked).look.views
            if views.thumbnail is not None:  # the token may be of this view, which is coarser than the mosaic
                cell_x = max(cell_x, (seen[2] - seen[0]) / views.grid[1])
                cell_y = max(cell_y, (seen[3] - seen[1]) / views.grid[0])
            for target in range(len(found)):
                peak = found.geometry.peak(strengths[target])
                assert peak is not None
                reach = REACH.get(family, 0.8)
                assert abs(peak[0] - x) <= reach * cell_x + 3 and abs(peak[1] - y) <= reach * cell_y + 3, (
                    f"{layer}: {peak} instead of {(x, y)}, cells of {cell_x:.1f} × {cell_y:.1f}"
                )


@families
def test_the_model_comes_back_as_it_was(family: str, captioner: Any) -> None:
    task = captioner(family)
    model = task.model
    image = photo(*SIZES["square"])
    task.explain(image, caption=CAPTION, methods=["attention"])  # transformers leaves hooks of its own at first use
    model.train()
    try:
        state = torch.get_rng_state()
        modes = [module.training for module in model.modules()]
        hooks = [len(module._forward_hooks) for module in model.modules()]
        task.explain(image, caption=CAPTION, methods=["gradcam", "attention"], text="all")
        assert torch.equal(torch.get_rng_state(), state)
        assert [module.training for module in model.modules()] == modes
        assert [len(module._forward_hooks) for module in model.modules()] == hooks
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    finally:
        model.eval()


@families
def test_special_tokens_never_show(family: str, captioner: Any) -> None:
    found = captioner(family).explain(photo(*SIZES["square"]), max_length=12)
    shown = " ".join([found.text, *found.words, *(target.label for target in found.targets)])
    for token in captioner(family).speaker.tokenizer.all_special_tokens:
        assert token not in shown


@families
def test_attention_is_over_the_photo(family: str, captioner: Any) -> None:
    found = captioner(family).explain(photo(*SIZES["wide"]), caption=CAPTION, methods=["attention", "gradcam"])
    attention, gradcam = (found.maps[key] for key in sorted(found.maps, key=lambda key: key.method))
    assert attention.shape[0] == gradcam.shape[0] == len(found)
    assert bool((attention >= 0).all()) and float(attention[0].sum()) > 0


IMAGE_TEXT = [family for family in MAKERS if family not in ("blip", "florence2")]
"""Families whose language model attends to the photo's tokens among the text's."""


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("family", [*IMAGE_TEXT, "blip"])
def test_attention_is_what_transformers_gives(family: str, shape: str, captioner: Any) -> None:
    """Word by word the mean over heads, layers and the word's tokens, each place of the photo at its own."""
    task = captioner(family)
    speaker, image = task.speaker, photo(*SIZES[shape])
    found = task.explain(image, caption=CAPTION, methods=["attention"])
    look = task.before(mmexplain.io.load_image(image), speaker.asked).look
    said = torch.tensor([speaker.tokens(CAPTION, look.prompt[0].tolist())])
    ids = torch.cat([look.prompt, said], 1)
    model = type(task.model).from_pretrained(task.model_id, attn_implementation="eager")
    with torch.no_grad():
        if family == "blip":
            seen = model.vision_model(pixel_values=look.image).last_hidden_state
            weights = model.text_decoder(ids, encoder_hidden_states=seen, output_attentions=True).cross_attentions
            places = torch.arange(1, seen.shape[1]).view(look.views.grid)
        else:
            beside = {
                name: value for name, value in look.arguments.items() if name not in ("input_ids", "attention_mask")
            }
            for name, value in speaker.suffix.items():
                beside[name] = torch.cat([beside[name], torch.full_like(said, value)], 1)
            weights = model(input_ids=ids, output_attentions=True, **beside).attentions
            places = look.context["order"][0]
    mean = torch.stack(weights).mean((0, 2))[0]
    over = mean[:, places.clamp(min=0)] * (places >= 0)
    (maps,) = found.maps.values()
    _, words = spell(speaker.tokenizer, said[0].tolist())
    assert len(words) == len(maps)
    start = look.prompt.shape[1] - 1
    for word, own in zip(words, maps, strict=True):
        expected = look.views.lay_out(over[start + word.start : start + word.stop].mean(0))
        assert float(expected.std()) > 0
        assert torch.allclose(own, expected, rtol=1e-3, atol=1e-6), word


@families
def test_words_read_before_a_word_add_up(family: str, captioner: Any) -> None:
    """Integrated gradients are complete, and words of several tokens have the sum of their tokens."""
    found = captioner(family).explain(photo(*SIZES["square"]), caption=CAPTION, text="all")
    assert set(found.text_maps) == set(TEXT_METHODS)
    parts = found.text_maps["integrated-gradients"]
    assert parts.shape == (5, 5)
    for row in range(5):
        assert bool(torch.isnan(parts[row, row:]).all()) and not bool(torch.isnan(parts[row, :row]).any())
    assert float(found.text_errors["integrated-gradients"][1:].max()) < 0.1


@families
def test_a_contrast_is_the_difference_of_two_captions(family: str, captioner: Any) -> None:
    task, image = captioner(family), photo(*SIZES["square"])
    found = task.explain(image, caption=CAPTION, words="dog", versus={"dog": "cat"})
    own, contrast = found.scores.tolist()
    other = task.explain(image, caption=CAPTION.replace("dog", "cat"), words="cat")
    assert own - float(other.scores[0]) == pytest.approx(contrast, abs=1e-4)


@pytest.mark.parametrize("family", ANSWERING)
def test_forced_answers_cost_what_they_cost_alone(family: str, answerer: Any) -> None:
    """Answers of unlike length in one pass: each as if it had been asked for alone."""
    task, image = answerer(family), photo(*SIZES["wide"])
    answers = ["red", "a green table", "two dogs"]
    found = task.explain(image, "what is on the table?", answers, top=0, methods=["gradcam-no-relu"])
    assert [target.label for target in found.targets] == answers
    for number, answer in enumerate(answers):
        alone = task.explain(image, "what is on the table?", [answer], top=0, methods=["gradcam-no-relu"])
        assert float(alone.scores[0]) == pytest.approx(float(found.scores[number]), abs=1e-4)
        (key,) = alone.maps
        assert torch.allclose(alone.maps[key][0], found.maps[key][number], rtol=1e-3, atol=1e-5)
    mean = task.explain(image, "what is on the table?", answers, top=0, score="mean-log-probability")
    for target, total, divided in zip(found.targets, found.scores, mean.scores, strict=True):
        assert float(divided) == pytest.approx(float(total) / len(target.ids), rel=1e-4)


@pytest.mark.parametrize("family", ANSWERING)
def test_words_of_the_question(family: str, answerer: Any) -> None:
    found = answerer(family).explain(photo(*SIZES["square"]), "what color is the ball?", ["red"], top=0, text="all")
    assert found.words == ["what", "color", "is", "the", "ball"]
    parts = found.text_maps["integrated-gradients"]
    assert parts.shape == (1, 5) and bool(parts.isfinite().all()) and bool(parts.any())


@pytest.mark.parametrize("family", ANSWERING)
def test_words_of_the_question_for_several_answers(family: str, answerer: Any) -> None:
    """All answers in one pass, and each as if it had been asked for alone; a contrast has the difference."""
    task, image, question = answerer(family), photo(*SIZES["square"]), "what color is the ball?"
    found = task.explain(image, question, ["red", "a green table"], versus=[("red", "blue")], top=0, text="all")
    one, other = (task.explain(image, question, [answer], top=0, text="all") for answer in ("red", "blue"))
    for method in found.text_maps:
        parts, red, blue = found.text_maps[method], one.text_maps[method], other.text_maps[method]
        assert parts.shape == (3, 5)
        # Integrated gradients are sums over points on the way, whose number each target has for itself.
        off = float(red.abs().max() + blue.abs().max()) * (5e-2 if method == "integrated-gradients" else 1e-4)
        assert torch.allclose(parts[0], red[0], atol=off), method
        assert torch.allclose(parts[2], red[0] - blue[0], atol=off), method
    part = task.explain(image, question, versus=[("red", "blue", 0.5)], top=0)
    assert float(part.scores[0]) == pytest.approx(float(one.scores[0] - 0.5 * other.scores[0]), abs=1e-4)
    assert part.probabilities is not None and found.probabilities is not None
    assert float(part.probabilities[0]) == pytest.approx(float(found.probabilities[2]), abs=1e-5)


@families
def test_words_read_before_a_contrast(family: str, captioner: Any) -> None:
    found = captioner(family).explain(
        photo(*SIZES["square"]), caption=CAPTION, words="dog", versus={"dog": "cat"}, text="gradient-x-embedding"
    )
    parts = found.text_maps["gradient-x-embedding"]
    assert parts.shape == (2, 5) and bool(parts[:, 0].isfinite().all()) and bool(torch.isnan(parts[:, 1:]).all())


@families
def test_what_cannot_be_done_is_said(family: str, captioner: Any) -> None:
    task, image = captioner(family), photo(*SIZES["square"])
    with pytest.raises(mmexplain.TargetError, match="'zebra' is not in the caption 'a dog with two balls'"):
        task.explain(image, caption=CAPTION, words="zebra")
    with pytest.raises(mmexplain.InputError, match="holds no word"):
        task.explain(image, caption=" ... ")
    with pytest.raises(mmexplain.InputError, match="unknown score"):
        task.explain(image, caption=CAPTION, score="probability")


def test_a_model_that_says_no_word_is_explained_as_a_whole(captioner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, image = captioner("llava"), photo(*SIZES["square"])
    dots = task.speaker.tokens("..!")
    monkeypatch.setattr(task.speaker, "generate", lambda *_: dots)
    with pytest.raises(mmexplain.TargetError, match=r"'\.\.!', holds no word; explain it as a whole"):
        task.explain(image)
    assert [target.kind for target in task.explain(image, whole=True).targets] == ["caption"]
