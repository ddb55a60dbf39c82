"""Any model of the user's, explained class by class."""

import json
import threading
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from mmexplain.errors import InputError, LayerError, ModelError, TargetError
from mmexplain.io import Photo
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification import Classifier

NAMES = ["cat", "dog", "bull mastiff", "tiger cat"]


class Net(nn.Module):
    """A small CNN with global average pooling, whose Grad-CAM is known in closed form."""

    def __init__(self, classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(6, classes)
        self.runs = 0

    def forward(self, images):
        self.runs += 1
        return self.head(self.features(images).mean((2, 3)))


PREPROCESS = Preprocess(resize=(32, 32))


@pytest.fixture
def photo():
    generator = torch.Generator().manual_seed(1)
    return Image.fromarray(torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8, generator=generator).numpy())


@pytest.fixture
def classifier():
    return Classifier(Net().eval(), PREPROCESS, NAMES)


@torch.no_grad()
def logits_of(classifier, photo):
    return classifier.encode(classifier.prepare(photo).inputs)


def test_scores_probabilities_and_maps_are_the_models(classifier, photo):
    explanation = classifier.explain(photo, ["dog", 3])
    logits = logits_of(classifier, photo)[0]
    torch.testing.assert_close(explanation.scores, logits[[1, 3]])
    torch.testing.assert_close(explanation.probabilities, logits.softmax(0)[[1, 3]])
    assert [target.label for target in explanation.targets] == ["dog", "tiger cat"]
    assert [target.kind for target in explanation.targets] == ["class", "class"]

    # Grad-CAM before a global average pooling: the mean gradient of channel c is the head's weight over the places.
    features = classifier.model.features(classifier.prepare(photo).inputs["image"])[0]
    weights = classifier.model.head.weight[[1, 3]] / features[0].numel()
    expected = torch.einsum("kc,chw->khw", weights, features).relu()
    torch.testing.assert_close(explanation.maps[explanation.key()], expected)
    assert explanation.layers == [classifier.default_layer()]
    assert (explanation.task, explanation.model, explanation.geometry.original) == ("classify", "Net", (40, 60))


def test_without_targets_the_likeliest_are_explained_from_the_same_forward_pass(classifier, photo):
    order = logits_of(classifier, photo)[0].argsort(descending=True).tolist()
    assert classifier.default_layer() == "features"
    before = classifier.model.runs
    explanation = classifier.explain(photo, top=3)
    assert classifier.model.runs == before + 1
    assert [target.ids[0] for target in explanation.targets] == order[:3]
    assert classifier.explain(photo).targets == explanation.targets[:1]
    assert len(classifier.explain(photo, top=99)) == 4
    with pytest.raises(InputError, match="cannot take the top 0 classes"):
        classifier.explain(photo, top=0)


def test_a_contrast_is_the_difference_of_two_classes(classifier, photo):
    both = classifier.explain(photo, ["dog", "cat"])
    contrast = classifier.explain(photo, "dog", versus="cat")
    assert contrast.targets[0].label == "dog rather than cat"
    torch.testing.assert_close(contrast.scores[0], both.scores[0] - both.scores[1])
    torch.testing.assert_close(contrast.probabilities[0], both.probabilities[0] / both.probabilities.sum())
    part = classifier.explain(photo, [classifier.contrast("dog", "cat", 0.25)])
    assert part.targets[0].label == "dog rather than 0.25 of cat"
    torch.testing.assert_close(part.scores[0], both.scores[0] - 0.25 * both.scores[1])
    torch.testing.assert_close(part.probabilities, contrast.probabilities)
    assert classifier.explain(photo, versus=[("dog", "cat", 0.25)]).targets == part.targets
    with pytest.raises(TargetError, match="0 or more"):
        classifier.contrast("dog", "cat", -1)
    mixed = classifier.explain(photo, ["cat", classifier.contrast("dog", "cat")])
    torch.testing.assert_close(mixed.scores, torch.stack([both.scores[1], contrast.scores[0]]))
    pairs = classifier.explain(photo, "cat", versus=[("dog", "cat")])
    assert pairs.targets == mixed.targets and torch.equal(pairs.scores, mixed.scores)
    assert classifier.explain([photo, photo], versus=[("dog", "cat")])[1].targets == contrast.targets
    with pytest.raises(InputError, match="one class for all targets, or pairs of them"):
        classifier.explain(photo, "cat", versus=("dog", "cat"))
    with pytest.raises(TargetError, match="'dog' cannot be held against itself"):
        classifier.explain(photo, "dog", versus=1)


def test_many_photos_at_once_are_as_one_by_one(classifier, photo):
    photos = [photo, photo.rotate(90, expand=True)]
    together = classifier.explain(photos, top=2)
    for one, explanation in zip(photos, together, strict=True):
        alone = classifier.explain(one, top=2)
        assert alone.targets == explanation.targets
        torch.testing.assert_close(alone.map(1), explanation.map(1))
    assert [e.geometry.original for e in together] == [(40, 60), (60, 40)]
    assert len(classifier.explain([photo])) == 1


def test_paths_arrays_and_tensors_are_photos_too(classifier, photo, tmp_path):
    import numpy as np

    photo.save(tmp_path / "photo.png")
    expected = classifier.explain(photo, "dog").scores
    for same in (tmp_path / "photo.png", str(tmp_path / "photo.png"), np.array(photo)):
        torch.testing.assert_close(classifier.explain(same, "dog").scores, expected)
    with pytest.raises(InputError, match="no such file"):
        classifier.explain(tmp_path / "missing.png")
    with pytest.raises(InputError, match="no photo was given"):
        classifier.explain([])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("zebr", "'zebr' is not among the model's 4 classes"),
        ("dogg", "closest: 'dog'"),
        (4, "class 4 does not exist: the model has 4 classes, 0 to 3"),
        ("17", "class 17 does not exist"),
        (-1, "class -1 does not exist"),
        (1.5, "1.5 is no class"),
        (None, "no class was named"),
    ],
)
def test_unknown_classes(classifier, photo, name, complaint):
    with pytest.raises(TargetError, match=complaint):
        classifier.explain(photo, [] if name is None else [name])


def test_numbers_as_text_and_names_that_are_numbers():
    assert Classifier(Net(), PREPROCESS, NAMES).target("2").label == "bull mastiff"
    digits = Classifier(Net(), PREPROCESS, ["3", "2", "1", "0"])
    assert digits.target("3").ids == (0,)
    assert digits.target(3).ids == (3,)


def test_without_names_classes_go_by_number(photo):
    classifier = Classifier(Net(), PREPROCESS)
    explanation = classifier.explain(photo, [2, "3"])
    assert [target.label for target in explanation.targets] == ["class 2", "class 3"]
    with pytest.raises(TargetError, match="'dog': model 'Net' has no class names; give a class number, or labels"):
        classifier.explain(photo, "dog")
    with pytest.raises(TargetError, match="class 4 does not exist: the model has 4 classes, 0 to 3"):
        classifier.explain(photo, 4)
    with pytest.raises(TargetError, match="class numbers start at 0"):
        classifier.explain(photo, -1)


def test_a_single_logit_with_two_names_is_yes_or_no(photo):
    classifier = Classifier(Net(1), PREPROCESS, {0: "no dog", 1: "dog"})
    logit = logits_of(classifier, photo)[0, 0]
    explanation = classifier.explain(photo, ["dog", "no dog"])
    torch.testing.assert_close(explanation.scores, torch.stack([logit, -logit]))
    torch.testing.assert_close(explanation.probabilities, torch.stack([logit, -logit]).sigmoid())
    likeliest = classifier.explain(photo, top=2).targets
    assert [target.label for target in likeliest] == (["dog", "no dog"] if logit > 0 else ["no dog", "dog"])
    # the two maps show the same gradients with opposite signs
    softmax = classifier.logits(logit.view(1, 1), [explanation.targets])
    torch.testing.assert_close(softmax[0, 0].softmax(0)[1], logit.sigmoid())


def test_regression_has_a_score_and_no_probability(photo):
    classifier = Classifier(Net(1), PREPROCESS, ["age"])
    explanation = classifier.explain(photo)
    assert explanation.targets[0].label == "age"
    assert explanation.probabilities is None
    torch.testing.assert_close(explanation.scores, logits_of(classifier, photo)[0])
    assert Classifier(Net(1), PREPROCESS).explain(photo).targets[0].label == "class 0"
    assert Classifier(Net(3), PREPROCESS, link="none").explain(photo).probabilities is None


def test_multi_label_models_use_the_sigmoid(photo):
    classifier = Classifier(Net(), PREPROCESS, NAMES, link="sigmoid")
    explanation = classifier.explain(photo, ["dog", "cat"])
    torch.testing.assert_close(explanation.probabilities, explanation.scores.sigmoid())
    assert classifier.logits(torch.zeros(1, 4), [explanation.targets]) is None
    with pytest.raises(InputError, match="unknown link 'probit'"):
        Classifier(Net(), link="probit")


class Wrapped(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = Net(), wrap

    def forward(self, images):
        return self.wrap(self.net(images))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: {"logits": logits},
        lambda logits: (logits.sum(), logits),
        lambda logits: SimpleNamespace(logits=logits),
    ],
)
def test_models_that_wrap_their_logits(classifier, photo, wrap):
    wrapped = Classifier(Wrapped(wrap), PREPROCESS, NAMES)
    expected = classifier.explain(photo, "dog")
    explanation = wrapped.explain(photo, "dog")
    torch.testing.assert_close(explanation.scores, expected.scores)
    torch.testing.assert_close(explanation.map(), expected.map())


def test_what_is_no_classifier_is_told_in_a_line(photo):
    with pytest.raises(ModelError, match="scores 4 classes but has 3 labels"):
        Classifier(Net(), PREPROCESS, NAMES[:3]).explain(photo)
    dense = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1))
    with pytest.raises(ModelError, match=r"no class scores \[B, N\] .* a float32 tensor \[1, 4, 16, 16\]"):
        Classifier(dense, PREPROCESS, layer="0").explain(photo)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))
    with pytest.raises(LayerError, match="model 'Sequential': no layer of this model"):
        Classifier(flat, PREPROCESS).explain(photo)


def test_a_model_that_gives_nan_is_told_in_a_line(photo):
    net = Net()
    nn.init.constant_(net.head.bias, float("nan"))
    with pytest.raises(ModelError) as caught:
        Classifier(net, PREPROCESS).explain(photo)
    assert "\n" not in str(caught.value)


def test_labels_must_be_a_gapless_list(photo):
    with pytest.raises(InputError, match="not the text 'cat dog'"):
        Classifier(Net(), PREPROCESS, "cat dog")
    with pytest.raises(InputError, match="without gaps; 0 is missing"):
        Classifier(Net(), PREPROCESS, {1: "cat", 2: "dog"})


def test_preprocessing_of_the_model_is_used_and_otherwise_imagenets():
    from torchvision.transforms._presets import ImageClassification

    net = Net()
    assert Classifier(net).preprocess == Preprocess.imagenet()
    assert Classifier(net, ImageClassification(crop_size=64, resize_size=72)).preprocess.crop == (64, 64)
    net.pretrained_cfg = {
        "input_size": (3, 48, 48),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    assert Classifier(net).preprocess.crop == (48, 48)


def test_the_model_is_left_as_it_was(photo):
    net = Net().train()
    net.head.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    classifier = Classifier(net, PREPROCESS, NAMES, model_id="mine")
    assert classifier.explain(photo, top=2).model == "mine"
    assert net.training
    assert [parameter.requires_grad for parameter in net.head.parameters()] == [False, False]
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not any(module._forward_hooks for module in net.modules())


def test_double_precision_and_parameterless_models(photo):
    double = Classifier(Net().double(), PREPROCESS, NAMES)
    assert double.prepare(photo).inputs["image"].dtype == torch.float64
    assert double.explain(photo, "dog").map().isfinite().all()

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AvgPool2d(4)

        def forward(self, images):
            return self.pool(images).mean((2, 3))

    explanation = Classifier(Plain(), PREPROCESS, ["red", "green", "blue"], layer="pool").explain(photo, "green")
    assert explanation.map().shape == (8, 8)


def test_heatmaps_of_a_photo_held_at_reduced_size_have_the_size_of_the_file(classifier, photo):
    held = Photo(photo, (photo.height * 3, photo.width * 3))
    explanation = classifier.explain(held, "dog")
    assert explanation.geometry.original == held.original
    assert explanation.heatmap().shape == held.original


def test_provenance_tells_the_model_and_the_preprocessing(classifier):
    record = classifier.provenance()
    assert json.loads(json.dumps(record)) == record
    assert record["model_class"].endswith(type(classifier.model).__name__)
    assert Preprocess.from_dict(record["preprocess"]) == classifier.preprocess


def test_two_threads_explain_with_the_same_model(classifier, photo):
    expected = {name: classifier.explain(photo, name).map() for name in NAMES}
    wrong = []

    def work(name):
        for _ in range(5):
            if not torch.allclose(classifier.explain(photo, name).map(), expected[name], atol=1e-6):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.cuda
def test_on_a_gpu_it_is_the_same(classifier, photo):
    expected = classifier.explain(photo, ["dog", "cat"])
    classifier.model.cuda()
    explanation = classifier.explain(photo, ["dog", "cat"])
    assert explanation.map().is_cuda
    torch.testing.assert_close(explanation.map().cpu(), expected.map(), rtol=1e-3, atol=1e-5)
