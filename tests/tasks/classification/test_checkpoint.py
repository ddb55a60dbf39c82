"""Weights are read strictly, and nothing in a file is executed."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmexplain.errors import CheckpointError
from mmexplain.tasks.classification.checkpoint import build_and_fit, fit, read_card, read_state


def net(num_classes=3):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, num_classes))


@pytest.fixture
def state():
    return net().state_dict()


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.pth", lambda state: state),
        ("w.pt", lambda state: {"state_dict": state, "epoch": 3}),
        ("w.ckpt", lambda state: {"model": state}),
        ("w.bin", lambda state: {f"module.{name}": value for name, value in state.items()}),
    ],
)
def test_pickled_weights_in_their_usual_wrappers(tmp_path, state, name, wrap):
    torch.save(wrap(state), tmp_path / name)
    assert same(read_state(tmp_path / name), state)


def test_safetensors(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    read = read_state(tmp_path / "w.safetensors")
    assert same(dict(sorted(read.items())), dict(sorted(state.items())))


class Attack:
    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("whole_model", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, whole_model):
    attack = Attack()
    attack.path = str(tmp_path / "owned")
    torch.save(net() if whole_model else {"a": attack}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"runs no code from a checkpoint: save model\.state_dict\(\)"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off", b"<html></html>"])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_state(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"w\.pth"):
        read_state(tmp_path / "w.pth")


def test_what_is_no_checkpoint(tmp_path):
    for path, complaint in [
        (tmp_path / "missing.pth", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "photo.jpg", "should end in .safetensors"),
    ]:
        if path.suffix == ".jpg":
            path.write_bytes(b"x")
        with pytest.raises(CheckpointError, match=complaint):
            read_state(path)
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_state(tmp_path / "w.pth")


def test_the_card_beside_the_file_and_in_its_header(tmp_path, state):
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    assert read_card(path) == {}
    path.with_suffix(".json").write_text(json.dumps({"architecture": "old", "licence": "MIT"}))
    assert read_card(path) == {"architecture": "old", "licence": "MIT"}
    save_file(state, path, {"json": json.dumps({"architecture": "new"})})
    assert read_card(path) == {"architecture": "new", "licence": "MIT"}
    path.with_suffix(".json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        read_card(path)
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        read_card(path)


def test_a_misfit_is_told_in_one_line(state):
    state = {f"x.{name}" if name.startswith("3") else name: value for name, value in state.items()}
    state["0.weight"] = torch.zeros(4, 1, 3, 3)
    with pytest.raises(CheckpointError) as caught:
        fit(net(), state, "w.pth", "torchvision:net")
    assert str(caught.value) == (
        "'w.pth' does not fit 'torchvision:net': missing '3.weight' and 1 more; unexpected 'x.3.weight' and 1 more; "
        "'0.weight' is [4, 1, 3, 3], not [4, 3, 3, 3]"
    )


def test_half_precision_and_old_batch_norms_are_fine(state):
    half = {name: value.half() for name, value in state.items() if "num_batches" not in name}
    model = net()
    fit(model, half, "w.pth", "net")
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, state["0.weight"].half().float())


def test_the_number_of_classes_is_that_of_the_weights():
    theirs = net(5)
    model, classes = build_and_fit(net, theirs.state_dict(), "w.pth", "net")
    assert classes == 5
    assert same(model.state_dict(), theirs.state_dict())
    assert not model.training


def test_building_leaves_the_random_numbers_alone(state):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build_and_fit(net, state, "w.pth", "net")
    assert torch.equal(torch.rand(1), expected)
