"""Photos on their way to the model: pinned where it is on a GPU, and nowhere else."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmexplain.preprocess import Preprocess
from mmexplain.tasks.base import photo_batch
from mmexplain.transfer import sent

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
PREPROCESS = Preprocess(resize=(32, 32))


@pytest.fixture
def moves(monkeypatch):
    """What is asked of tensors that are pinned or sent to a GPU; there need be none."""
    told, to = [], Tensor.to

    def pin(self):
        told.append(("pin", self.dtype))
        return self

    def send(self, *arguments, **options):
        if torch.device("cuda", 0) in arguments:
            told.append(("send", self.dtype, options))
            return self
        return to(self, *arguments, **options)

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", send)
    return told


def test_nothing_is_pinned_on_a_cpu(moves):
    batch = photo_batch([PHOTO, PHOTO], PREPROCESS, "cpu")
    expected, _ = PREPROCESS(Image.fromarray(PHOTO))
    assert moves == [] and batch.inputs["image"].shape == (2, 3, 32, 32)
    assert (batch.inputs["image"] == expected).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_is_sent_pinned_memory_and_not_waited_for(moves, dtype):
    photo_batch([PHOTO], PREPROCESS, torch.device("cuda", 0), dtype)
    assert moves == [("pin", dtype), ("send", dtype, {"non_blocking": True})]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_arrives_is_what_was_sent(dtype):
    values = torch.rand(2, 3, 32, 32)
    found = sent(values, torch.device("cuda"), dtype)
    assert found.is_cuda and (found.cpu() == values.to(dtype)).all()
