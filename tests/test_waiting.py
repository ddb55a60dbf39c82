"""How often a GPU would have to be waited for while a batch is explained: once, when the maps are looked at."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmexplain import strategies
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.captioning import CaptionerAdapter, Captioning, WordList
from mmexplain.tasks.classification import Classifier

PLAIN = Preprocess(resize=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}
"""Operators that need a value on the host."""


class Looks(TorchDispatchMode):
    """Counts them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.partition(".")[0]
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += name in WAITS or by_mask
        return function(*args, **(kwargs or {}))


class Says(CaptionerAdapter):
    """A CNN and an LSTM."""

    def __init__(self):
        super().__init__()
        self.vocabulary = WordList(["<end>", *"abcdefg"], end=0)
        self.cnn, self.see = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 10)
        self.embed, self.lstm = nn.Embedding(8, 10), nn.LSTM(10, 10, batch_first=True)
        self.speak = nn.Linear(10, 8)

    def encode(self, images):
        return self.cnn(images).relu()

    def decode(self, features, tokens):
        photo = self.see(features.mean((2, 3)))[:, None]
        return self.speak(self.lstm(torch.cat([photo, self.embed(tokens[:, :-1])], 1))[0])


def classifier():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    return Classifier(net, PLAIN, list("abcd"), layer="0")


def photos(count):
    noise = torch.rand(count, 40, 40, 3, generator=torch.Generator().manual_seed(0)) * 255
    return [Image.fromarray(one.byte().numpy()) for one in noise]


@contextmanager
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(strategies, "_on_cpu", lambda _: False)
    monkeypatch.setattr("mmexplain.surroundings.fast_layers", lambda _: nullcontext())
    with Looks() as looks:
        yield looks


@pytest.mark.parametrize("methods", [["gradcam"], ["gradcam", "gradcam++", "layercam", "guided-backprop"]])
@pytest.mark.parametrize("count", [1, 4])
def test_classes_that_are_named(monkeypatch, methods, count):
    task = classifier()
    batch = task.prepare(photos(count))
    with as_on_a_gpu(monkeypatch) as looks:
        found = task.explain(batch, ["a", "c", "d"], versus=[("a", "b", 0.5)], methods=methods)
    # guided gradients are a pass of their own
    assert looks.count == (2 if "guided-backprop" in methods else 1) and len(found) == count


def test_the_likeliest_classes_are_looked_at_besides(monkeypatch):
    task = classifier()
    batch = task.prepare(photos(3))
    with as_on_a_gpu(monkeypatch) as looks:
        task.explain(batch, top=2)
    # one list of numbers for each photo and class is read out of memory that was fetched at once
    assert looks.count <= 2


@pytest.mark.parametrize("whole", [True, False])
def test_words_that_are_given(monkeypatch, whole):
    torch.manual_seed(0)
    task = Captioning(Says(), PLAIN, layer="cnn")
    batch = task.prepare(photos(2))
    with as_on_a_gpu(monkeypatch) as looks:
        task.explain(batch, ["a b c d", "e f"], whole=whole, methods=["gradcam", "layercam"])
    assert looks.count == 1


@pytest.mark.cuda
@pytest.mark.parametrize("make", [classifier, lambda: Captioning(Says(), PLAIN, layer="cnn")])
def test_on_a_gpu(make):
    torch.manual_seed(0)
    task = make()
    task.model.cuda()
    batch = task.prepare(photos(2))
    told = (["a b c", "d e"],) if isinstance(task, Captioning) else (["a", "c"],)
    task.explain(batch, *told)
    waited = []
    finite = torch.Tensor.__bool__

    def look(value):
        torch.cuda.set_sync_debug_mode("default")
        waited.append(value)
        try:
            return finite(value)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "__bool__", look)
        torch.cuda.set_sync_debug_mode("error")
        try:
            task.explain(batch, *told)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(waited) == 1
