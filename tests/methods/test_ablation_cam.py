"""Ablation-CAM against a loop over single channels, and on a model whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmexplain.errors import LayerError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.tasks.base import Batch
from tests.models import (
    ChannelsLastNet,
    GapLinear,
    LateCaptioner,
    ModelTask,
    PlainCNN,
    ResidualNet,
    TokenNet,
    VideoNet,
    classes,
    noise,
    seeded,
    word_score,
    words,
)

Zero = Callable[[Tensor, int], None]


def first(value: Tensor, channel: int) -> None:
    value[:, channel] = 0


def last(value: Tensor, channel: int) -> None:
    value[..., channel] = 0


def places(value: Tensor, channel: int) -> None:
    """The first of the tokens is the class token."""
    value[:, 1:, channel] = 0


def slow(run: Callable[[], float], module: nn.Module, zero: Zero, read: Callable[[Tensor], Tensor]) -> Tensor:
    """Eqs 5-7 of the paper for one input and one target: the whole model for each channel."""
    kept: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    y = run()
    handle.remove()
    maps = read(kept[-1])[0]
    total = torch.zeros_like(maps[0])
    for channel, values in enumerate(maps):

        def hook(_: Any, __: Any, output: Tensor, channel: int = channel) -> Tensor:
            output = output.clone()
            zero(output, channel)
            return output

        handle = module.register_forward_hook(hook)
        total += (y - run()) / abs(y) * values
        handle.remove()
    return total.clamp(min=0)


CASES = [
    (PlainCNN, "relu1", (3, 16, 16), first, lambda a: a),
    (PlainCNN, "conv2", (3, 16, 12), first, lambda a: a),
    (ResidualNet, "block1.conv2", (3, 16, 16), first, lambda a: a),
    (ResidualNet, "block2", (3, 16, 16), first, lambda a: a),
    (ChannelsLastNet, "mix", (3, 16, 16), last, lambda a: a.movedim(-1, 1)),
    (TokenNet, "blocks.1", (3, 16, 16), places, lambda a: a[:, 1:].unflatten(1, (4, 4)).movedim(-1, 1)),
    (VideoNet, "conv1", (3, 6, 12, 12), first, lambda a: a),
]


@pytest.mark.parametrize(("make", "layer", "shape", "zero", "read"), CASES, ids=lambda value: str(value)[:20])
def test_against_a_loop_over_channels(make: Any, layer: str, shape: Any, zero: Zero, read: Any) -> None:
    task = ModelTask(seeded(make), layer)
    images, targets = noise(2, *shape), [(1, 3), (0, 4)]
    found = explain(task, task.prepare(images), [classes(*row) for row in targets], methods=["ablationcam"])
    some = False
    for b, row in enumerate(targets):
        for k, number in enumerate(row):

            def run(image: Tensor = images[b : b + 1], number: int = number) -> float:
                with torch.no_grad():
                    return float(task.model(image)[0, number])

            expected = slow(run, task.model.get_submodule(layer), zero, read)
            some |= bool(expected.max() > 0)
            torch.testing.assert_close(
                found[b].maps[MapKey(layer, "ablationcam")][k],
                expected,
                rtol=1e-4,
                atol=1e-5 * float(expected.max() + 1),
            )
    assert some


def test_by_hand() -> None:
    """Behind global average pooling and a linear layer without bias a channel's weight is its share of the score."""
    model = seeded(GapLinear)
    with torch.no_grad():
        model.fc.bias.zero_()
    task = ModelTask(model, "features")
    images = noise(1, 3, 16, 16)
    (found,) = explain(task, task.prepare(images), [classes(0, 1, 2, 3, 4)], methods=["ablationcam"])
    (value,) = found.maps.values()
    with torch.no_grad():
        maps = model.features(images)[0]
        shares = model.fc.weight * maps.mean((1, 2))
        scores = shares.sum(1, keepdim=True)
        expected = torch.einsum("kc,chw->khw", shares / scores.abs(), maps).relu()
    assert (scores < 0).any() and (scores > 0).any()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


class Given(nn.Module):
    """Two channels are the input's; the score is their difference plus an offset."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.tap = nn.Identity()
        self.offset = offset

    def forward(self, images: Tensor) -> Tensor:
        maps = self.tap(images)
        return (maps[:, 0].sum((1, 2)) - maps[:, 1].sum((1, 2)))[:, None] + self.offset


@pytest.mark.parametrize("offset", [10.0, -10.0, 0.0, 1e-9])
def test_a_score_that_is_negative_or_zero_keeps_evidence_and_its_place(offset: float) -> None:
    images = torch.zeros(1, 2, 2, 2)
    images[0, 0, 0, 0] = images[0, 1, 1, 1] = 3.0
    task = ModelTask(Given(offset), "tap")
    (found,) = explain(task, task.prepare(images), [classes(0)], methods=["ablationcam"])
    (value,) = found.maps.values()
    y = abs(float(found.scores[0]))
    assert y == pytest.approx(abs(offset), abs=1e-6)
    assert float(value[0, 0, 0]) == pytest.approx(9 / max(y, 1e-6), rel=1e-5), "weight 3 / |y|, activation 3"
    assert value[0, 1, 1] == 0, "what speaks against it is no evidence, whatever the sign of the score"


class Captions(ModelTask):
    """The words of given captions; the layer is in decode and runs twice."""

    def prepare(self, image: Tensor, tokens: Tensor) -> Batch:  # type: ignore[override]
        return Batch({"image": image}, {"tokens": tokens}, [None] * len(image), [None] * len(image))  # type: ignore[list-item]

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model.encode(inputs["image"])

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Tensor:
        return self.model.decode(features, context["tokens"])

    def score(self, output: Any, targets: Any) -> Tensor:
        return word_score(output, targets)

    def probability(self, output: Any, targets: Any) -> None:
        return None


@pytest.mark.parametrize("layer", ["conv1", "twice", "conv2"])
def test_words_of_captions(layer: str) -> None:
    """Log-probabilities are negative: evidence stays evidence."""
    task = Captions(seeded(LateCaptioner), layer)
    images, tokens = noise(2, 3, 16, 16), torch.tensor([[1, 4, 2, 7], [1, 9, 3, 5]])
    rows = [words(row)[1:] for row in tokens.tolist()]
    found = explain(task, task.prepare(images, tokens), rows, methods=["ablationcam"])
    runs = 2 if layer == "twice" else 1
    for b, row in enumerate(rows):
        for k, target in enumerate(row):
            calls = 0

            def run(b: int = b, target: Any = target) -> float:
                nonlocal calls
                calls = 0
                with torch.no_grad():
                    output = task.model.decode(task.model.encode(images[b : b + 1]), tokens[b : b + 1])
                    return float(word_score(output, [[target]]))

            def zero(value: Tensor, channel: int) -> None:
                nonlocal calls
                calls += 1
                if calls == runs:
                    value[:, channel] = 0

            expected = slow(run, task.model.get_submodule(layer), zero, lambda a: a)
            torch.testing.assert_close(
                found[b].maps[MapKey(layer, "ablationcam")][k],
                expected,
                rtol=1e-3,
                atol=1e-5 * float(expected.max() + 1),
            )


def test_batches_targets_and_chunks_do_not_matter() -> None:
    task = ModelTask(seeded(ResidualNet), "block1.conv2")
    images = noise(2, 3, 16, 16)
    whole = explain(task, task.prepare(images), [classes(0, 1, 2)] * 2, methods=["ablationcam"])
    told: list[tuple[int, int]] = []
    small = explain(
        task,
        task.prepare(images),
        [classes(0, 1, 2)] * 2,
        methods=["ablationcam"],
        memory=1,
        progress=lambda *steps: told.append(steps),
    )
    assert told == [(n, 8) for n in range(1, 9)]
    for b in range(2):
        for key, value in whole[b].maps.items():
            torch.testing.assert_close(small[b].maps[key], value, rtol=1e-4, atol=1e-5)
            for k in range(3):
                alone = explain(task, task.prepare(images[b : b + 1]), [classes(k)], methods=["ablationcam"])
                torch.testing.assert_close(alone[0].maps[key][0], value[k], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near(dtype: torch.dtype) -> None:
    exact = ModelTask(seeded(PlainCNN), "relu1")
    half = ModelTask(seeded(PlainCNN).to(dtype), "relu1")
    images = noise(1, 3, 16, 16)
    (expected,) = explain(exact, exact.prepare(images), [classes(1)], methods=["ablationcam"])[0].maps.values()
    (found,) = explain(half, half.prepare(images.to(dtype)), [classes(1)], methods=["ablationcam"])[0].maps.values()
    assert found.dtype == torch.float32 and expected.max() > 0
    assert (found - expected).abs().max() < 0.1 * expected.max()


def test_frames_as_rows_are_refused() -> None:
    class ByFrames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, clip: Tensor) -> Tensor:
            frames = self.conv(clip.transpose(1, 2).flatten(0, 1))
            return frames.mean((2, 3)).unflatten(0, (len(clip), -1)).mean(1)

    task = ModelTask(seeded(ByFrames), "conv")
    clip = noise(1, 3, 6, 8, 8)
    with pytest.raises(LayerError, match="one row per input, or use 'gradcam'"):
        explain(task, task.prepare(clip), [classes(0)], methods=["ablationcam"])
    (found,) = explain(task, task.prepare(clip), [classes(0)], methods=["scorecam"])
    assert found.maps[MapKey("conv", "scorecam")].shape == (1, 6, 6, 6)
