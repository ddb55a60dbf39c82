"""Texts as classes: CLIP, SigLIP and SigLIP 2 NaFlex."""

import pytest
import torch
import transformers as hf

import mmexplain
from mmexplain.errors import CheckpointError, InputError, TargetError
from mmexplain.problem import Choice
from mmexplain.targets import Target
from mmexplain.tasks.huggingface.naflex import packed, unpacked
from tests.command_line import run
from tests.tasks.huggingface import tiny
from tests.tasks.huggingface.planted_places import cell, lit_photo, planted, require_peak, sensitivity, tokens

TEXTS = ["a photo of a cat", "red ball", "a man sitting"]


@pytest.fixture(params=list(tiny.ZERO_SHOT))
def kind(request):
    return request.param


def reference(kind, folder, photo, texts):
    """``logits_per_image`` ``[1, N]`` as transformers' documentation computes it."""
    model = hf.AutoModelForZeroShotImageClassification.from_pretrained(folder).eval()
    processor = hf.AutoProcessor.from_pretrained(folder)
    padding = {"clip": {"padding": True}, "siglip": {"padding": "max_length"}}.get(kind)
    sizes = {"padding": "max_length", "max_length": 64, "patch_size": 8, "max_num_patches": 20}
    inputs = processor(images=photo, text=texts, return_tensors="pt", **(padding or sizes))
    with torch.no_grad():
        return model(**inputs).logits_per_image


def test_scores_are_the_models_own(kind, checkpoint, load_tiny):
    photo = tiny.photo(100, 60)
    expected = reference(kind, checkpoint(kind), photo, TEXTS)[0]
    explanation = load_tiny(kind).explain(photo, texts=TEXTS)
    by_label = dict(zip([target.label for target in explanation.targets], explanation.scores, strict=True))
    torch.testing.assert_close(torch.stack([by_label[text] for text in TEXTS]), expected, rtol=1e-4, atol=1e-5)
    shares = expected.softmax(0) if kind == "clip" else expected.sigmoid()
    order = expected.argsort(descending=True)
    torch.testing.assert_close(explanation.probabilities, shares[order], rtol=1e-4, atol=1e-5)
    assert [target.label for target in explanation.targets] == [TEXTS[number] for number in order]


@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp"])
def test_targets_at_once_as_in_turn(kind, strategy, load_tiny):
    task, photo = load_tiny(kind), tiny.photo(100, 60)
    found = task.explain(photo, TEXTS, strategy=strategy)
    expected = task.explain(photo, TEXTS, strategy="loop")
    assert all(float(values.abs().max()) > 0 for values in expected.maps.values())
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "x", "y"),
    [(150, 90, 102, 37), (90, 150, 37, 102), (97, 61, 66, 25)],
    ids=["wide", "tall", "odd"],
)
def test_planted_evidence(kind, width, height, x, y, load_tiny):
    task, photo = load_tiny(kind), lit_photo(width, height, x, y)
    made = task.preprocess.image_processor([photo], return_tensors="pt")
    grid = tuple(made["spatial_shapes"][0].tolist()) if kind == "siglip2" else (4, 4)
    if kind == "siglip2":
        index = int(made["pixel_values"][0].mean(-1)[: grid[0] * grid[1]].argmax())
    else:
        row, column = cell(made["pixel_values"][0], grid)
        index = row * grid[1] + column + (kind == "clip")
    side = min(width, height)
    box = ((width - side) / 2, (height - side) / 2, side, side) if kind == "clip" else (0, 0, width, height)
    embedded = task.similarity.texts(TEXTS)[None]
    targets = [[Target(text, "class", (number,)) for number, text in enumerate(TEXTS)]]
    with planted(task.model, task.default_layer(), tokens(index)) as inner:
        maps, geometry = sensitivity(task, photo, inner, Choice(targets, {"texts": embedded}))
    require_peak(maps, geometry, x, y, box, grid)


def test_photos_at_once_as_alone(kind, load_tiny):
    task, photos = load_tiny(kind), [tiny.photo(), tiny.photo(60, 100, 1)]
    for found, photo in zip(task.explain(photos, TEXTS), photos, strict=True):
        torch.testing.assert_close(found.maps, task.explain(photo, TEXTS).maps, rtol=1e-4, atol=1e-6)


def test_contrasts(kind, load_tiny):
    task, photo = load_tiny(kind), tiny.photo()
    one, other = (float(task.explain(photo, text).scores[0]) for text in TEXTS[:2])
    explanation = task.explain(photo, TEXTS[0], versus=TEXTS[1])
    assert explanation.targets[0].label == "a photo of a cat rather than red ball"
    assert float(explanation.scores[0]) == pytest.approx(one - other, rel=1e-4)
    assert task.explain(photo, versus=[(TEXTS[0], TEXTS[1])]).targets == explanation.targets
    part = task.explain(photo, versus=[(TEXTS[0], TEXTS[1], 0.5)])
    assert float(part.scores[0]) == pytest.approx(one - 0.5 * other, rel=1e-4)


def test_a_single_text_has_no_share_of_clips_softmax(load_tiny):
    assert load_tiny("clip").explain(tiny.photo(), "a cat").probabilities is None
    assert load_tiny("siglip").explain(tiny.photo(), "a cat").probabilities is not None


def test_attention_methods(kind, load_tiny):
    methods = ["attention-rollout", "attention-relevance", "legrad-final"]
    explanation = load_tiny(kind).explain(tiny.photo(100, 60), TEXTS, methods=methods)
    grid = (3, 5) if kind == "siglip2" else (4, 4)
    assert {tuple(values.shape) for values in explanation.maps.values()} == {(3, *grid)}


def test_wrong_requests_are_said(load_tiny):
    task = load_tiny("clip")
    with pytest.raises(InputError, match="texts="):
        task.explain(tiny.photo())
    with pytest.raises(TargetError, match="'a dog' is none of the texts"):
        task.explain(tiny.photo(), "a dog", texts=["a cat"])
    with pytest.raises(TargetError, match="held against itself"):
        task.explain(tiny.photo(), "a cat", versus="a cat")
    with pytest.raises(TargetError, match="is no text"):
        task.explain(tiny.photo(), " ")


def test_without_a_tokenizer(checkpoint):
    model = hf.CLIPModel.from_pretrained(checkpoint("clip"))
    with pytest.raises(CheckpointError, match="without a tokenizer"):
        mmexplain.load(model, processor=hf.AutoImageProcessor.from_pretrained(checkpoint("clip")))


def test_packing_is_the_processors_own():
    image = torch.arange(2 * 3 * 16 * 24, dtype=torch.float32).view(2, 3, 16, 24)
    patches, shapes = packed(image, 8)
    from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

    assert torch.equal(patches[1], convert_image_to_patches(image[1], 8))
    assert shapes.tolist() == [[2, 3], [2, 3]]
    assert torch.equal(unpacked(patches, (2, 3), 8), image)


def test_the_command_line(kind, checkpoint, tmp_path):
    tiny.photo().save(tmp_path / "photo.png")
    arguments = ["classify", str(tmp_path / "photo.png"), "--model", f"hf:{checkpoint(kind)}", "--json"]
    result = run(*arguments, "--target", "a cat", "--target", "a dog")
    assert result.exit_code == 0, result.stderr
    assert '"a cat"' in result.stdout
    result = run(*arguments)
    assert result.exit_code == 2 and "--target" in result.stderr and "Traceback" not in result.stderr
