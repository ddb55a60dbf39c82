"""The networks of "Wide Residual Networks": published sizes, the order of their layers, files."""

import pytest
import torch
from safetensors.torch import save_file

from mmexplain.errors import CheckpointError, InputError
from mmexplain.studies.distil.wide_resnet import WideResNet, depth_and_width
from tests.models import noise, seeded


@pytest.mark.parametrize(
    ("depth", "width", "millions"),
    [  # as the paper tells them; 16-1 and 16-2: Zagoruyko & Komodakis, "Paying more attention to attention"
        (40, 1, 0.6),
        (40, 2, 2.2),
        (40, 4, 8.9),
        (28, 10, 36.5),
        (22, 8, 17.2),
        (16, 8, 11.0),
        (16, 10, 17.1),
        (16, 2, 0.7),
        (16, 1, 0.2),
    ],
)
def test_as_many_weights_as_published(depth, width, millions):
    with torch.device("meta"):
        count = sum(weight.numel() for weight in WideResNet(depth, width, 10).parameters())
    assert round(count / 1e6, 1) == millions


def test_maps_are_a_quarter_of_the_photo_and_not_negative():
    model = seeded(WideResNet, 10, 2, 4)
    seen = []
    model.relu.register_forward_hook(lambda *call: seen.append(call[2]))
    logits = model(noise(2, 3, 32, 32))
    assert logits.shape == (2, 4) and seen[0].shape == (2, 128, 8, 8) and seen[0].min() == 0
    torch.testing.assert_close(logits, seen[0].mean((2, 3)) @ model.fc.weight.T + model.fc.bias)


def test_blocks_add_to_what_they_are_given_before_it_is_activated():
    """Without its last convolution a block of one width hands its input on, negative numbers and all."""
    model = seeded(WideResNet, 16, 1, 4)
    x = noise(1, 16, 8, 8)
    changed = torch.relu(model.blocks[2].bn1(x))
    for block in model.blocks:
        torch.nn.init.zeros_(block.conv2.weight)
    torch.testing.assert_close(model.blocks[1](x), x)
    torch.testing.assert_close(model.blocks[2](x), model.blocks[2].shortcut(changed))
    assert [block.conv1.stride[0] for block in model.blocks] == [1, 1, 2, 1, 2, 1]


def test_files(tmp_path):
    model = seeded(WideResNet, 10, 1, 3).float()
    model.save(tmp_path / "a.safetensors", why="a test")
    again = WideResNet.load(tmp_path / "a.safetensors")
    assert again.name == "WRN-10-1" and not again.training
    seen = noise(2, 3, 16, 16).float()
    torch.testing.assert_close(again(seen), model(seen), rtol=0, atol=0)


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "b.safetensors"
    with pytest.raises(CheckpointError, match="no weights"):
        WideResNet.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no wide residual network"):
        WideResNet.load(path)


@pytest.mark.parametrize("text", ["40", "40x2", "-4-2", "12-1", "40-0", "4-1", ""])
def test_there_is_no_such_network(text):
    with pytest.raises(InputError, match="40"):
        depth_and_width(text)


def test_names_of_networks():
    assert depth_and_width("WRN-40-2") == (40, 2) and depth_and_width(" 16-10 ") == (16, 10)
