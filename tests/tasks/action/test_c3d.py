"""C3D on small checkpoints by the names of each public port, against the network written out with functions."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from mmexplain.errors import CheckpointError, ModelError
from mmexplain.tasks.action.c3d import C3D, CONVOLUTIONS, LINEAR, load_c3d

WIDTHS = (4, 4, 5, 5, 6, 6, 7, 8, 9, 10)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return {name: value * 3 for name, value in C3D(5, WIDTHS).state_dict().items()}


def written_out(state, x, end_padding=False):
    def conv(x, name):
        return F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()

    def fc(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    x = F.max_pool3d(conv(x, "conv1"), (1, 2, 2), (1, 2, 2))
    x = F.max_pool3d(conv(x, "conv2"), 2, 2)
    for a, b in (("conv3a", "conv3b"), ("conv4a", "conv4b")):
        x = F.max_pool3d(conv(conv(x, a), b), 2, 2)
    x = conv(conv(x, "conv5a"), "conv5b")
    assert x.shape[2:] == (2, 7, 7)
    x = F.max_pool3d(F.pad(x, (0, 1, 0, 1) if end_padding else (1, 0, 1, 0)), 2, 2)  # never negative: 0 pads as -inf
    return fc(fc(fc(x.flatten(1), "fc6").relu(), "fc7").relu(), "fc8")


def renamed(state, names):
    ours = dict(zip((*CONVOLUTIONS, *LINEAR), names, strict=True))
    return {f"{ours[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()}


PORTS = {
    "paper": [*CONVOLUTIONS, *LINEAR],
    "caffe": [*(f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)), *(f"classifier.{i}" for i in (0, 3, 6))],
    "mmaction2": [
        *(f"backbone.conv{n}.conv" for n in ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")),
        *("backbone.fc6", "backbone.fc7", "cls_head.fc_cls"),
    ],
}


@pytest.mark.parametrize("port", PORTS)
@torch.no_grad()
def test_the_names_of_every_port(tmp_path, state, port):
    path = tmp_path / "c3d.pth"
    torch.save({"state_dict": renamed(state, PORTS[port])}, path)
    loaded = load_c3d(str(path), "mine")
    clip = torch.randn(2, 3, 16, 112, 112)
    wanted = written_out(state, clip if port == "mmaction2" else clip[:, [2, 1, 0]])
    torch.testing.assert_close(loaded.model(clip), wanted, rtol=1e-4, atol=1e-5)
    assert (loaded.frames, loaded.labels, loaded.any_length, loaded.model.training) == (16, None, False, False)
    assert dict(loaded.model.named_modules())[loaded.layer] is loaded.model.relu5b


@torch.no_grad()
def test_the_card_says_how_it_was_trained(tmp_path, state):
    path = tmp_path / "c3d.safetensors"
    card = '{"labels": ["a", "b", "c", "d", "e"], "channels": "rgb", "mean": [1, 2, 3], "end_padding": true}'
    save_file(state, path, {"json": card})
    loaded = load_c3d(str(path))
    assert loaded.labels == list("abcde")
    clip = torch.randn(1, 3, 16, 112, 112)
    torch.testing.assert_close(loaded.model(clip), written_out(state, clip, end_padding=True), rtol=1e-4, atol=1e-5)
    values, _ = loaded.preprocess(grey(200, 300, 50))
    assert torch.allclose(values[:, 50, 50], torch.tensor([49.0, 48, 47]), atol=1e-4)
    for card, message in {
        '{"channels": "xyz"}': "says channels 'xyz'; there are: 'rgb', 'bgr'",
        '{"mean": 3}': "says mean 3; three numbers",
        '{"labels": ["a"]}': "has 5 classes but names 1",
    }.items():
        save_file(state, path, {"json": card})
        with pytest.raises(CheckpointError, match=message):
            load_c3d(str(path))


def grey(height, width, value):
    from PIL import Image

    return Image.fromarray(np.full((height, width, 3), value, np.uint8))


def test_frames_are_squashed_cropped_and_lose_the_mean(tmp_path, state):
    path = tmp_path / "c3d.safetensors"
    save_file(state, path)
    values, geometry = load_c3d(str(path)).preprocess(grey(240, 320, 110))
    assert values.shape == (3, 112, 112)
    assert torch.allclose(values.mean(dim=(1, 2)), torch.tensor([110.0 - 102, 110 - 98, 110 - 90]), atol=1e-4)
    assert geometry.original == (240, 320)


def test_what_cannot_be_used(tmp_path, state):
    with pytest.raises(ModelError, match="comes without weights; give a file of your own: 'c3d@FILE'"):
        load_c3d(None)
    path = tmp_path / "c3d.safetensors"
    save_file({name: value for name, value in state.items() if not name.startswith("conv4")}, path)
    with pytest.raises(CheckpointError, match=r"does not fit 'c3d': missing 'conv4a\.weight' and 3 more"):
        load_c3d(str(path))
    save_file(state, path)
    with pytest.raises(ModelError, match=r"takes clips of \[3, 16, 112, 112\], got \[3, 8, 112, 112\]"):
        load_c3d(str(path)).model(torch.zeros(1, 3, 8, 112, 112))


def test_published_size():
    """Eight convolutions of 3 x 3 x 3 and three linear layers, of the widths in figure 3."""
    with torch.device("meta"):
        model = C3D()
    convolutions = 27 * (3 * 64 + 64 * 128 + 128 * 256 + 256**2 + 256 * 512 + 3 * 512**2) + 64 + 128 + 2 * 256 + 4 * 512
    linear = 8192 * 4096 + 4096 * 4096 + 4096 * 487 + 2 * 4096 + 487
    assert sum(parameter.numel() for parameter in model.parameters()) == convolutions + linear
    pools = [name for name, _ in model.named_children() if name.startswith("pool")]
    assert pools == ["pool1", "pool2", "pool3", "pool4", "pool5"]
