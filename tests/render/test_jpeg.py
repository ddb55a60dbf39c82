"""JPEGs are those that Pillow would write; a GPU's are as good."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmexplain.render import jpeg
from mmexplain.render.jpeg import jpegs


def pictures() -> Tensor:
    """Two pictures of soft colours, ``[2, 3, 75, 101]``, in memory with their colours last."""
    coarse = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0)) * 255
    fine = torch.nn.functional.interpolate(coarse, (75, 101), mode="bicubic").clamp(0, 255)
    return fine.byte().contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("has_encoder", [True, False])
@pytest.mark.parametrize("quality", [60, 88])
def test_the_files_are_pillows(quality, has_encoder, monkeypatch) -> None:
    if not has_encoder:
        monkeypatch.setattr(jpeg, "_encoder", lambda _: None)
    for picture, file in zip(pictures(), jpegs(pictures(), quality), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture.movedim(0, -1).numpy()).save(buffer, "JPEG", quality=quality)
        with Image.open(io.BytesIO(file)) as found, Image.open(buffer) as expected:
            assert (found.mode, found.size) == ("RGB", (101, 75))
            assert (np.asarray(found) == np.asarray(expected)).all()


def test_a_torchvision_without_the_encoder(monkeypatch) -> None:
    monkeypatch.delattr("torchvision.io.encode_jpeg")
    assert jpeg._encoder.__wrapped__("cpu") is None


@pytest.mark.cuda
def test_those_of_a_gpu_hold_the_same_pictures() -> None:
    for picture, file in zip(pictures(), jpegs(pictures().cuda()), strict=True):
        with Image.open(io.BytesIO(file)) as found:
            wrong = np.asarray(found).astype(float) - picture.movedim(0, -1).numpy()
        assert np.sqrt((wrong**2).mean()) < 4
