"""Classifiers of transformers: the model's own scores, targets at once or in turn, maps that lie where they should."""

import pytest
import torch
import transformers as hf

import mmexplain
from mmexplain.errors import InputError, MethodError, TargetError
from mmexplain.evaluate.randomisation import quick
from mmexplain.tasks.huggingface.classification import HuggingFaceClassifier
from tests.tasks.huggingface import tiny
from tests.tasks.huggingface.planted_places import cell, lit_photo, places, planted, require_peak, sensitivity, tokens

KINDS = list(tiny.CLASSIFIERS)
CNNS = ("convnext", "convnextv2", "resnet")
CROPPING = (*CNNS, "registers", "clip-classifier")
KEPT = {"convnext": 64 / 73, "convnextv2": 64 / 73, "resnet": 96 / 109}
WINDOWED = ("swin", "swinv2")
PREFIX = {"vit": 1, "deit": 2, "deit-teacher": 2, "registers": 4, "clip-classifier": 1}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_scores_are_the_models_own(kind, checkpoint, load_tiny):
    task, folder, photo = load_tiny(kind), checkpoint(kind), tiny.photo()
    assert isinstance(task, HuggingFaceClassifier) and task.name == "classify" and task.model_id == folder
    model = getattr(hf, task.model.config.architectures[0]).from_pretrained(folder).eval()
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        expected = model(**processor(photo, return_tensors="pt")).logits[0]
    explanation = task.explain(photo, list(tiny.LABELS))
    torch.testing.assert_close(explanation.scores, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(explanation.probabilities, expected.softmax(0), rtol=1e-5, atol=1e-6)
    assert [target.label for target in explanation.targets] == list(tiny.LABELS)
    assert explanation.provenance["model_class"].startswith("transformers.models.")


@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp"])
def test_targets_at_once_as_in_turn(kind, strategy, load_tiny):
    task, photos = load_tiny(kind), [tiny.photo(), tiny.photo(60, 100, 1)]
    options = {"methods": ["gradcam", "gradcam++", "hirescam"]}
    for found, expected in zip(
        task.explain(photos, list(tiny.LABELS), strategy=strategy, **options),
        task.explain(photos, list(tiny.LABELS), strategy="loop", **options),
        strict=True,
    ):
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
        for key, values in expected.maps.items():
            assert float(values.abs().max()) > 0
            torch.testing.assert_close(found.maps[key], values, rtol=1e-4, atol=1e-6)


def shown(kind, width, height):
    """``(left, top, width, height)`` of the photo that is left by the processors of :mod:`tiny`."""
    if kind in CROPPING:
        side = min(width, height) * KEPT.get(kind, 1)
        return (width - side) / 2, (height - side) / 2, side, side
    left = 2 / 36 if kind.startswith("deit") else 0
    return left * width, left * height, (1 - 2 * left) * width, (1 - 2 * left) * height


@pytest.mark.parametrize(
    ("width", "height", "x", "y"),
    [(150, 90, 102, 37), (90, 150, 37, 102), (97, 61, 66, 25), (64, 64, 19, 19)],
    ids=["wide", "tall", "odd", "square"],
)
def test_planted_evidence(kind, width, height, x, y, load_tiny):
    task, photo = load_tiny(kind), lit_photo(width, height, x, y)
    pixels = task.preprocess.image_processor(photo, return_tensors="pt")["pixel_values"][0]
    layer = task.default_layer()
    grid = task.explain(photo, "cat").maps.popitem()[1].shape[1:]
    row, column = cell(pixels, tuple(grid))
    seen = places(row, column) if kind in CNNS else tokens(PREFIX.get(kind, 0) + row * grid[1] + column)
    targets = [[task.target(name) for name in tiny.LABELS]]
    with planted(task.model, layer, seen) as inner:
        maps, geometry = sensitivity(task, photo, inner, targets)
    require_peak(maps, geometry, x, y, shown(kind, width, height), grid)


def test_photos_at_once_as_alone(kind, load_tiny):
    task, photos = load_tiny(kind), [tiny.photo(), tiny.photo(61, 101, 1)]
    for found, photo in zip(task.explain(photos, top=2), photos, strict=True):
        alone = task.explain(photo, top=2)
        assert found.targets == alone.targets
        torch.testing.assert_close(found.maps, alone.maps, rtol=1e-4, atol=1e-6)


def test_the_model_comes_back_as_it_was(kind, checkpoint):
    folder = checkpoint(kind)
    model = getattr(hf, hf.AutoConfig.from_pretrained(folder).architectures[0]).from_pretrained(folder)
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    settings = {name: str(vars(module)) for name, module in model.named_modules() if "Swin" in type(module).__name__}
    task = mmexplain.load(model, processor=processor)
    assert task.model is model
    state = torch.random.get_rng_state()
    task.explain(tiny.photo(), top=2, methods=["gradcam", "guided-gradcam"] if kind == "resnet" else ["gradcam"])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert settings == {name: str(vars(model.get_submodule(name))) for name in settings}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (*CNNS, *WINDOWED)])
def test_attention_of_either_implementation(kind, checkpoint):
    methods = ["attention-rollout", "attention-relevance", "legrad-final"]
    folder, maps = checkpoint(kind), {}
    for implementation in ("sdpa", "eager"):
        architecture = getattr(hf, hf.AutoConfig.from_pretrained(folder).architectures[0])
        model = architecture.from_pretrained(folder, attn_implementation=implementation)
        task = mmexplain.load(model, processor=hf.AutoImageProcessor.from_pretrained(folder))
        maps[implementation] = task.explain(tiny.photo(), "dog", methods=methods).maps
        assert model.config._attn_implementation == implementation
    assert {tuple(values.shape) for values in maps["eager"].values()} == {(1, 4, 4)}
    torch.testing.assert_close(maps["sdpa"], maps["eager"], rtol=1e-3, atol=1e-6)


def test_rollout_is_that_of_the_attentions_it_returns(checkpoint, load_tiny):
    folder = checkpoint("vit")
    model = hf.ViTForImageClassification.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = hf.AutoImageProcessor.from_pretrained(folder)(tiny.photo(), return_tensors="pt")
    with torch.no_grad():
        matrices = model(**inputs, output_attentions=True).attentions
    rolled = torch.eye(17)
    for matrix in matrices:
        mixed = (matrix[0].mean(0) + torch.eye(17)) / 2
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
    found = load_tiny("vit").explain(tiny.photo(), "dog", methods=["attention-rollout"]).maps.popitem()[1]
    torch.testing.assert_close(found[0], rolled[0, 1:].view(4, 4), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [*CNNS, *WINDOWED])
def test_no_attention_to_follow(kind, load_tiny):
    with pytest.raises(MethodError, match="gradcam"):
        load_tiny(kind).explain(tiny.photo(), "dog", methods=["attention-rollout"])


def test_windows_that_shrank_for_a_small_photo_widen_again(checkpoint):
    task = mmexplain.load(checkpoint("swin"), device="cpu")
    torch.manual_seed(0)
    large = torch.randn(1, 3, 32, 32)
    before = task.encode({"image": large})
    task.encode({"image": torch.randn(1, 3, 16, 16)})
    assert torch.equal(task.encode({"image": large}), before)
    with pytest.raises(RuntimeError):  # smaller than a window
        task.encode({"image": torch.randn(1, 3, 8, 8)})
    assert torch.equal(task.encode({"image": large}), before)
    task.model(torch.randn(1, 3, 16, 16))  # the model by itself forgets
    assert not torch.equal(task.encode({"image": large}), before)


@pytest.mark.parametrize("kind", ["vit", "swin", "resnet"])
def test_random_weights_change_the_map(kind, load_tiny):
    task = load_tiny(kind)
    (verdict,) = quick(task, tiny.photo(), targets=list(tiny.LABELS))
    assert verdict.signed < 0.99


def test_links_of_other_problems(checkpoint):
    folder = checkpoint("vit")
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    model = hf.ViTForImageClassification.from_pretrained(folder, problem_type="multi_label_classification")
    explanation = mmexplain.load(model, processor=processor).explain(tiny.photo(), list(tiny.LABELS))
    torch.testing.assert_close(explanation.probabilities, explanation.scores.sigmoid())
    model = hf.ViTForImageClassification.from_pretrained(folder, problem_type="regression")
    assert mmexplain.load(model, processor=processor).explain(tiny.photo(), "cat").probabilities is None


def test_wrong_requests_are_said(load_tiny):
    task = load_tiny("vit")
    with pytest.raises(TargetError, match="closest: 'cat'"):
        task.explain(tiny.photo(), "cats")
    with pytest.raises(InputError):
        task.explain([])
