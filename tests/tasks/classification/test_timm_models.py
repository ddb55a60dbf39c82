"""timm's models, their preprocessing and labels; nothing here needs a network."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.tasks.classification import download
from mmexplain.tasks.classification.labels import imagenet, imagenet_subset
from mmexplain.tasks.classification.models import load_classifier

timm = pytest.importorskip("timm")
NAME = "test_resnet"


def saved(path, **options):
    torch.manual_seed(0)
    model = timm.create_model(NAME, **options).eval()
    save_file(model.state_dict(), path)
    return model


@torch.no_grad()
def test_a_file_of_ones_own_weights(tmp_path):
    theirs = saved(tmp_path / "w.safetensors")
    classifier = load_classifier(f"timm:{NAME}.r160_in1k@{tmp_path / 'w.safetensors'}")
    images = torch.randn(1, 3, 160, 160)
    assert torch.equal(classifier.model(images), theirs(images))
    assert list(classifier.labels) == list(imagenet())
    config = timm.data.resolve_model_data_config(theirs)
    assert classifier.preprocess.size == config["input_size"][1:]
    assert (classifier.preprocess.mean, classifier.preprocess.std) == (config["mean"], config["std"])
    assert classifier.default_layer()


def test_ones_own_number_of_classes(tmp_path):
    saved(tmp_path / "w.safetensors", num_classes=3)
    assert load_classifier(f"timm:{NAME}@{tmp_path / 'w.safetensors'}").labels is None


@torch.no_grad()
def test_published_weights(tmp_path, monkeypatch):
    theirs = saved(tmp_path / "w.safetensors")
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        assert pretrained
        return create(name, pretrained_cfg_overlay={"file": str(tmp_path / "w.safetensors")}, pretrained=True)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("mmexplain.tasks.classification.timm_models.require_network", lambda *_: None)
    classifier = load_classifier(f"timm:{NAME}")
    images = torch.randn(1, 3, 160, 160)
    assert torch.equal(classifier.model(images), theirs(images))


def test_larger_class_sets_have_names():
    names = imagenet_subset("imagenet-12k")
    assert len(names) == 11821
    assert names.find("n02123159") == names.find("tiger cat")
    assert imagenet_subset("imagenet-3k") is None


@pytest.mark.parametrize(
    ("model_id", "complaint"),
    [
        ("timm:resnet51", "timm has no model 'resnet51'; closest: 'resnet"),
        (f"timm:{NAME}.a1_in1k", f"timm has no weights '{NAME}.a1_in1k'; there are: {NAME}.r160_in1k"),
        ("timm:resnet200", "timm publishes no weights for 'resnet200'; with a file at hand: 'timm:resnet200@FILE'"),
    ],
)
def test_unknown_names(model_id, complaint):
    with pytest.raises(ModelError, match=complaint):
        load_classifier(model_id)


def test_weights_that_do_not_fit(tmp_path):
    saved(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="does not fit 'timm:test_vit': missing 'cls_token' and"):
        load_classifier(f"timm:test_vit@{tmp_path / 'w.safetensors'}")


def test_without_timm_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"'timm:resnet18' needs the package timm, .*: pip install timm"):
        load_classifier("timm:resnet18")


def test_without_a_network_one_line_at_once(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(download.socket, "create_connection", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError, match=f"'timm:{NAME}' are not on this machine .*'timm:{NAME}@FILE'"):
        load_classifier(f"timm:{NAME}")
