"""Devices by the word that the user typed."""

import pytest
import torch

from mmexplain.errors import DeviceError
from mmexplain.tasks.device import resolve_device


@pytest.fixture
def machine(monkeypatch):
    def have(gpus=0, apple=False, built=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)

    return have


@pytest.mark.parametrize(
    ("gpus", "apple", "name", "device"),
    [
        (0, False, "auto", "cpu"),
        (2, False, "auto", "cuda"),
        (0, True, "auto", "mps"),
        (2, True, " CUDA:1 ", "cuda:1"),
        (2, False, "cuda", "cuda"),
        (2, False, "cpu", "cpu"),
        (0, True, "mps", "mps"),
        (1, False, torch.device("cuda", 0), "cuda:0"),
    ],
)
def test_devices(machine, gpus, apple, name, device):
    machine(gpus, apple)
    assert resolve_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "built", "name", "complaint"),
    [
        (0, True, "gpu", "'gpu' is not a device: use auto, cpu, cuda, cuda:N or mps"),
        (0, True, "", "'' is not a device"),
        (0, True, "auto:1", "'auto:1' is not a device"),
        (0, True, "cuda:-1", "'cuda:-1' is not a device"),
        (0, True, "cuda", "'cuda' is not available here: no GPU is visible; use auto or cpu"),
        (0, False, "cuda:0", "'cuda:0' is not available here: this PyTorch is built without CUDA"),
        (1, True, "cuda:1", "'cuda:1' does not exist here; there is cuda:0"),
        (4, True, "cuda:4", "'cuda:4' does not exist here; there is cuda:0 to cuda:3"),
        (0, True, "mps", "'mps' is not available here: this machine has no Apple GPU"),
        (0, True, "cpu:3", "'cpu:3' does not exist: there is one cpu device"),
    ],
)
def test_devices_that_are_not_there(machine, gpus, built, name, complaint):
    machine(gpus, built=built)
    with pytest.raises(DeviceError) as caught:
        resolve_device(name)
    assert str(caught.value).startswith(complaint)
