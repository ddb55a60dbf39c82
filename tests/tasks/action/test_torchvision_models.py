"""torchvision's video models, their weights, transforms and labels; nothing here needs a network."""

import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights, list_models, video
from torchvision.models._api import WeightsEnum

from mmexplain import taps
from mmexplain.errors import CheckpointError, ModelError
from mmexplain.reader import reader_for
from mmexplain.tasks.action.labels import kinetics400
from mmexplain.tasks.action.loading import load_action_model
from mmexplain.tasks.action.names import TORCHVISION
from mmexplain.tasks.action.torchvision_models import FAMILIES, RESNETS, load
from mmexplain.tasks.classification import download


def saved(path, name, **options):
    torch.manual_seed(0)
    model = get_model(name, weights=None, **options).eval()
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return model


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@torch.no_grad()
def test_a_file_of_ones_own_weights(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    theirs = saved(path, "mc3_18", num_classes=3)
    loaded = load_action_model(f"torchvision:mc3_18@{path}")
    clip = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(loaded.model(clip), theirs(clip))
    assert (loaded.labels, loaded.model.training) == (None, False)


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_layer_is_the_last_grid_of_space_and_time(name):
    """Shapes alone, on the meta device: these networks take seconds to be drawn and run."""
    family = FAMILIES.get(name) or FAMILIES[name.partition("_")[0]]
    size = 112 if family is RESNETS else 224
    clip = torch.empty(1, 3, family.frames, size, size, device="meta")
    with torch.device("meta"):
        model = get_model(name, weights=None).eval()
    found = {}
    layer = model.get_submodule(family.layer)
    layer.register_forward_hook(lambda _, __, output: found.update(shape=taps.first_tensor(output).shape))
    assert model(clip).shape == (1, 400)
    reader = reader_for(found["shape"], clip.shape[2:])
    maps = reader(torch.empty(found["shape"], device="meta")).shape
    steps = {"mc3_18": 16, "s3d": 16, "swin3d_t": 16, "swin3d_s": 16, "swin3d_b": 16, "mvit_v1_b": 8, "mvit_v2_s": 8}
    assert maps[2:] == (steps.get(name, 2), 7, 7)


def test_kinetics_and_other_classes(tmp_path):
    path = tmp_path / "w.safetensors"
    saved(path, "mc3_18")
    loaded = load("mc3_18", str(path), "mine")
    assert loaded.labels == kinetics400() == get_model_weights("mc3_18").DEFAULT.meta["categories"]
    assert (loaded.frames, loaded.stride, loaded.layer, loaded.model_id) == (16, 2, "layer4", "mine")
    saved(path, "mc3_18", num_classes=2)
    path.with_suffix(".json").write_text('{"labels": ["run", "sit"], "architecture": "torchvision:mc3_18"}')
    assert load_action_model(str(path)).labels == ["run", "sit"]
    path.with_suffix(".json").write_text('{"labels": ["run"]}')
    with pytest.raises(CheckpointError, match="has 2 classes but names 1"):
        load("mc3_18", str(path), "mine")
    with pytest.raises(CheckpointError, match="does not say which architecture"):
        load_action_model(str(path))
    with pytest.raises(CheckpointError, match="does not fit 'torchvision:r3d_18'"):
        load("r3d_18", str(path), "mine")


def test_frames_are_prepared_as_torchvision_evaluates(tmp_path):
    name, path = "mc3_18", tmp_path / "w.safetensors"
    saved(path, name, num_classes=2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 150, 231, 3), np.uint8)
    theirs = get_model_weights(name).DEFAULT.transforms()(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    preprocess = load(name, str(path), "mine").preprocess
    ours = torch.stack([preprocess(Image.fromarray(frame))[0] for frame in pixels], dim=1)
    step = 1.01 / 255 / 0.21  # one grey level: which way a half is rounded is torch's affair
    torch.testing.assert_close(ours, theirs, rtol=0, atol=step)
    assert ((ours - theirs).abs() < 1e-5).float().mean() > 0.99


def test_published_weights(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints"
    path.mkdir()
    weights = get_model_weights("mc3_18").DEFAULT
    theirs = saved(path / weights.url.rsplit("/", 1)[-1], "mc3_18")
    monkeypatch.setattr("mmexplain.tasks.action.torchvision_models.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("mmexplain.tasks.classification.torchvision_models.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: theirs.state_dict())
    for version in (None, "KINETICS400_V1"):
        loaded = load("mc3_18", version, "mine")
        assert torch.equal(loaded.model.fc.weight, theirs.fc.weight)


def test_what_cannot_be_loaded(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no video classifier 'r3d_19'; closest: 'r3d_18'"):
        load("r3d_19", None, "mine")
    with pytest.raises(ModelError, match="has no weights 'IMAGENET'; there are: KINETICS400_V1, or give a file"):
        load("r3d_18", "IMAGENET", "mine")
    with pytest.raises(CheckpointError, match="no such file"):
        load_action_model(f"torchvision:r3d_18@{tmp_path / 'gone.pth'}")
    with pytest.raises(ModelError, match="after '@' stands a file"):
        load_action_model("torchvision:r3d_18@")
    with pytest.raises(ModelError, match=r"unknown action model 'i3d'; closest: 'i3d-kinetics400'"):
        load_action_model("i3d")

    def no_network(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("mmexplain.tasks.classification.torchvision_models.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(download.socket, "create_connection", no_network)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", no_network)
    with pytest.raises(ModelError, match=r"'torchvision:r3d_18' are not on this machine .*'torchvision:r3d_18@FILE'"):
        load_action_model("torchvision:r3d_18")


def test_every_video_model_of_torchvision_is_named():
    assert sorted(TORCHVISION) == list_models(module=video)
