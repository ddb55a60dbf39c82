"""Score-CAM against a loop over single channels, and on a model whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from tests.models import ChannelsLastNet, ModelTask, PlainCNN, TokenNet, VideoNet, classes, noise, seeded


class Dark(ModelTask):
    """The test's task with a preprocessing that makes black another number in each channel."""

    def black(self) -> list[float]:
        return [-1.5, -0.5, 0.25]


def slow(
    task: ModelTask, image: Tensor, maps: Tensor, number: int, probability: bool = False, only: Any = None
) -> Tensor:
    """Algorithm 1 of the paper (or the authors' loop) for one input and one class: a channel at a time, float64."""
    weights = []
    black = torch.tensor(task.black(), dtype=torch.float64).view(-1, *[1] * (image.ndim - 1))
    for channel, values in enumerate(maps):
        mode = "bilinear" if values.ndim == 2 else "trilinear"
        up = F.interpolate(values[None, None], image.shape[1:], mode=mode, align_corners=False)[0, 0]
        if up.max() == up.min() or (only is not None and channel not in only):
            weights.append(None)
            continue
        mask = (up - up.min()) / (up.max() - up.min())
        with torch.no_grad():
            output = task.model(((image - black) * mask + black)[None])[0]
        weights.append(float((output.softmax(0) if probability else output)[number]))
    if not probability:
        exps = [0.0 if weight is None else torch.tensor(weight).exp().item() for weight in weights]
        weights = [value / sum(exps) if sum(exps) else 0.0 for value in exps]
    total = sum((weight or 0.0) * values for weight, values in zip(weights, maps, strict=True))
    assert isinstance(total, Tensor)
    return total.clamp(min=0)


def activations(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[-1]


@pytest.mark.parametrize("probability", [False, True])
@pytest.mark.parametrize("layer", ["conv1", "relu1", "relu2"])
def test_against_a_loop_over_channels(layer: str, probability: bool) -> None:
    task = Dark(seeded(PlainCNN), layer)
    images = noise(2, 3, 16, 12)
    name = "scorecam(weights='probability')" if probability else "scorecam"
    found = explain(task, task.prepare(images), [classes(1, 3), classes(0, 4)], methods=[name])
    maps = activations(task.model, layer, images)
    for b, numbers in enumerate([(1, 3), (0, 4)]):
        value = found[b].maps[MapKey(layer, name)]
        for k, number in enumerate(numbers):
            expected = slow(task, images[b], maps[b], number, probability)
            assert expected.max() > 0
            torch.testing.assert_close(value[k], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "layer", "shape", "read"),
    [
        (ChannelsLastNet, "mix", (3, 16, 16), lambda a: a.movedim(-1, 1)),
        (TokenNet, "blocks.1", (3, 16, 16), lambda a: a[:, 1:].unflatten(1, (4, 4)).movedim(-1, 1)),
        (VideoNet, "conv2", (3, 6, 12, 12), lambda a: a),
    ],
)
def test_every_layout(make: Any, layer: str, shape: tuple[int, ...], read: Any) -> None:
    task = ModelTask(seeded(make), layer)
    images = noise(1, *shape)
    (found,) = explain(task, task.prepare(images), [classes(2)], methods=["scorecam"])
    maps = read(activations(task.model, layer, images))[0]
    torch.testing.assert_close(
        found.maps[MapKey(layer, "scorecam")][0], slow(task, images[0], maps, 2), rtol=1e-5, atol=1e-6
    )


class Corners(nn.Module):
    """Two channels, the left and the right half of the input; a third is constant. Class 0 is the sum of the left half,
    class 1 ten times that of the right half."""

    def __init__(self) -> None:
        super().__init__()
        self.tap = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[-1] // 2
        side = torch.zeros_like(images[0, 0])
        side[:, :half] = 1
        ones = torch.ones_like(side)
        self.tap(torch.stack([side, 1 - side, ones])[None].expand(len(images), -1, -1, -1))
        left, right = images[..., :half].sum((1, 2, 3)), images[..., half:].sum((1, 2, 3))
        return torch.stack([left, 10 * right], 1)


def test_by_hand() -> None:
    """A 1 × 2 × 2 photo of ones: masked with the left half the scores are 2 and 0, with the right half 0 and 20."""
    task = ModelTask(Corners(), "tap")
    (found,) = explain(task, task.prepare(torch.ones(1, 1, 2, 2)), [classes(0, 1)], methods=["scorecam"])
    (value,) = found.maps.values()
    share = torch.tensor([2.0, 0.0]).softmax(0)
    torch.testing.assert_close(value[0], share.expand(2, 2))
    torch.testing.assert_close(value[1], torch.tensor([0.0, 20.0]).softmax(0).expand(2, 2))


def test_what_says_nothing_has_no_weight() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tap = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            self.tap(torch.ones(len(images), 2, 3, 3))
            return images.sum((1, 2, 3))[:, None]

    task = ModelTask(Flat(), "tap")
    for name in ("scorecam", "scorecam(weights='probability')"):
        (found,) = explain(task, task.prepare(torch.ones(1, 3, 6, 6)), [classes(0)], methods=[name])
        assert found.maps[MapKey("tap", name)].tolist() == torch.zeros(1, 3, 3).tolist()


def test_only_the_channels_that_vary_most() -> None:
    task = ModelTask(seeded(PlainCNN), "relu2")
    images = noise(2, 3, 16, 16)
    found = explain(task, task.prepare(images), [classes(1)] * 2, methods=["scorecam(channels=2)"])
    maps = activations(task.model, "relu2", images)
    for b in range(2):
        only = maps[b].flatten(1).var(1).topk(2).indices.tolist()
        (value,) = found[b].maps.values()
        torch.testing.assert_close(value[0], slow(task, images[b], maps[b], 1, only=only), rtol=1e-5, atol=1e-6)
    every = explain(task, task.prepare(images), [classes(1)] * 2, methods=["scorecam", "scorecam(channels=99)"])[0]
    assert torch.equal(*every.maps.values())


def test_batches_targets_and_chunks_do_not_matter() -> None:
    task = ModelTask(seeded(PlainCNN), "relu1")
    images = noise(2, 3, 16, 16)
    whole = explain(task, task.prepare(images), [classes(0, 1, 2)] * 2, methods=["scorecam"], layers=["relu1", "relu2"])
    told: list[tuple[int, int]] = []
    small = explain(
        task,
        task.prepare(images),
        [classes(0, 1, 2)] * 2,
        methods=["scorecam"],
        layers=["relu1", "relu2"],
        memory=1,
        progress=lambda *steps: told.append(steps),
    )
    assert told[-1] == (12, 12) and len(told) == 8 + 12
    for b in range(2):
        for key, value in whole[b].maps.items():
            torch.testing.assert_close(small[b].maps[key], value)
            for k in range(3):
                task_alone = explain(
                    task, task.prepare(images[b : b + 1]), [classes(k)], methods=["scorecam"], layers=[key.layer]
                )
                torch.testing.assert_close(task_alone[0].maps[key][0], value[k])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near(dtype: torch.dtype) -> None:
    exact = ModelTask(seeded(PlainCNN), "relu2")
    half = ModelTask(seeded(PlainCNN).to(dtype), "relu2")
    images = noise(1, 3, 16, 16)
    (expected,) = explain(exact, exact.prepare(images), [classes(1)], methods=["scorecam"])[0].maps.values()
    (found,) = explain(half, half.prepare(images.to(dtype)), [classes(1)], methods=["scorecam"])[0].maps.values()
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.03 * expected.max()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scorecam(channels=-1)", "0 for all, not -1"),
        ("scorecam(weights='mean')", "'softmax' or 'probability', not 'mean'"),
        ("scorecam(patch=1)", "no parameter 'patch'"),
    ],
)
def test_wrong_parameters_are_told(name: str, message: str) -> None:
    task = ModelTask(seeded(PlainCNN), "relu2")
    with pytest.raises(MethodError, match=message):
        explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], methods=[name])


def test_a_model_without_probabilities() -> None:
    class Bare(ModelTask):
        def probability(self, output: Any, targets: Any) -> None:
            return None

    task = Bare(seeded(PlainCNN), "relu2")
    with pytest.raises(MethodError, match="use weights='softmax'"):
        explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], methods=["scorecam(weights='probability')"])
