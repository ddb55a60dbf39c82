"""torchvision's models, their weights, transforms and labels; nothing here needs a network."""

import re
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models as zoo
from torchvision.models._api import WeightsEnum

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.tasks.classification import download, torchvision_models
from mmexplain.tasks.classification.labels import imagenet
from mmexplain.tasks.classification.models import load_classifier


def randomised(name, **options):
    """A model whose batch norms have seen something, so that no two of its buffers are alike."""
    torch.manual_seed(0)
    model = zoo.get_model(name, weights=None, **options)
    for value in model.buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@torch.no_grad()
def test_a_file_of_ones_own_weights(tmp_path, suffix):
    theirs = randomised("squeezenet1_1")
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path)
    model_id = f"torchvision:squeezenet1_1@{path}"
    classifier = load_classifier(model_id)
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(classifier.model(images), theirs(images))
    assert list(classifier.labels) == list(imagenet())
    assert classifier.model_id == model_id
    assert not classifier.model.training


def test_ones_own_classes_and_names(tmp_path):
    path = tmp_path / "pets.safetensors"
    save_file(randomised("squeezenet1_1", num_classes=2).state_dict(), path)
    assert load_classifier(f"torchvision:squeezenet1_1@{path}").labels is None
    path.with_suffix(".json").write_text('{"labels": ["cat", "dog"]}')
    assert list(load_classifier(f"torchvision:squeezenet1_1@{path}").labels) == ["cat", "dog"]
    path.with_suffix(".json").write_text('{"labels": ["cat"], "architecture": "torchvision:squeezenet1_1"}')
    with pytest.raises(CheckpointError, match="has 2 classes but names 1"):
        load_classifier(str(path))


def test_a_file_may_say_its_architecture(tmp_path):
    path = tmp_path / "pets.safetensors"
    state = randomised("squeezenet1_1", num_classes=2).state_dict()
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"does not say which architecture .* 'torchvision:NAME@.*pets.safetens"):
        load_classifier(str(path))
    save_file(state, path, {"json": '{"architecture": "torchvision:squeezenet1_1", "labels": ["cat", "dog"]}'})
    classifier = load_classifier(str(path))
    assert (list(classifier.labels), classifier.model_id) == (["cat", "dog"], str(path))
    save_file(state, path, {"json": '{"architecture": "show-attend-tell"}'})
    with pytest.raises(CheckpointError, match="holds 'show-attend-tell', which is no classifier"):
        load_classifier(str(path))


def test_a_misfit_is_told_in_one_line(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(randomised("resnet18").state_dict(), path)
    with pytest.raises(CheckpointError, match=r"does not fit 'torchvision:resnet34': missing 'layer1\.2\.conv1\.wei"):
        load_classifier(f"torchvision:resnet34@{path}")


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize("name", ["googlenet", "densenet121", "inception_v3", "squeezenet1_1", "mobilenet_v2"])
@torch.no_grad()
def test_published_weights_give_the_model_that_torchvision_builds(name, monkeypatch):
    auxiliary = {"aux_logits": True} if name in ("googlenet", "inception_v3") else {}
    state = randomised(name, **auxiliary).state_dict()
    if name == "densenet121":  # as in the published file
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
        state = {re.sub(r"(denselayer\d+\.\w+)([12]\.)", r"\1.\2", key): value for key, value in state.items()}
        assert "features.denseblock1.denselayer1.norm.1.weight" in state
    asked = []

    def get_state_dict(self, *args, **kwargs):
        asked.append(kwargs)
        return dict(state)

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
    monkeypatch.setattr(torchvision_models, "require_network", lambda *_: None)
    weights = zoo.get_model_weights(name).DEFAULT
    theirs = zoo.get_model(name, weights=weights).eval()
    classifier = load_classifier(f"torchvision:{name}")
    assert asked[-1]["weights_only"] is True
    size = classifier.preprocess.size
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(classifier.model(images), theirs(images), rtol=0, atol=0)
    assert list(classifier.labels) == weights.meta["categories"]
    assert size == (weights.transforms().crop_size[0],) * 2


def test_weights_are_chosen_by_name_and_files_by_their_namesake(tmp_path):
    published = zoo.ResNet50_Weights
    assert torchvision_models._namesake(published, "resnet50", {}, "resnet50-0676ba61.pth") is published.IMAGENET1K_V1
    assert torchvision_models._namesake(published, "resnet50", {}, "mine.pth") is published.DEFAULT
    tokens = {"encoder.pos_embedding": torch.zeros(1, 1 + 24 * 24, 8), "conv_proj.weight": torch.zeros(8, 3, 16, 16)}
    vit = zoo.ViT_B_16_Weights
    assert torchvision_models._namesake(vit, "vit_b_16", tokens, "mine.pth") is vit.IMAGENET1K_SWAG_E2E_V1  # 384
    with pytest.raises(ModelError, match="no weights 'IMAGENET22K'; there are: IMAGENET1K_V1, IMAGENET1K_V2, or give"):
        load_classifier("torchvision:resnet50@IMAGENET22K")
    with pytest.raises(CheckpointError, match="no such file"):
        load_classifier("torchvision:resnet50@missing.pth")
    with pytest.raises(ModelError, match="after '@' stands a file"):
        load_classifier("torchvision:resnet50@")


def test_unknown_names_offer_the_closest():
    with pytest.raises(ModelError, match="torchvision has no classifier 'resnet51'; closest: 'resnet5"):
        load_classifier("torchvision:resnet51")
    with pytest.raises(ModelError, match="no classifier 'fasterrcnn_resnet50_fpn'"):
        load_classifier("torchvision:fasterrcnn_resnet50_fpn")


def test_without_a_network_one_line_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(download.socket, "create_connection", refuse)
    with pytest.raises(ModelError) as caught:
        load_classifier("torchvision:resnet18")
    assert str(caught.value) == (
        "the weights of 'torchvision:resnet18' are not on this machine and could not be downloaded from "
        "download.pytorch.org (Name or service not known); with the file at hand: 'torchvision:resnet18@FILE'"
    )


def test_a_download_that_fails_halfway_is_told_in_a_line(monkeypatch):
    def break_off(*_, **__):
        raise urllib.error.URLError("connection\nreset")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", break_off)
    monkeypatch.setattr(torchvision_models, "require_network", lambda *_: None)
    with pytest.raises(ModelError, match=r"could not be downloaded from download\.pytorch\.org \(<urlopen error conn"):
        load_classifier("torchvision:resnet18")
