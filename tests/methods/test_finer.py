"""Finer-CAM against Grad-CAM of a difference of logits that is formed by hand, one input and target at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.methods.finer import _distinctive
from mmexplain.problem import Problem
from mmexplain.targets import Target, contrast
from tests import slow
from tests.models import AttentiveCaptioner, ModelTask, PlainCNN, TokenNet, VideoNet, classes, noise, seeded, words


def nearest(logits: list[float], own: int, count: int) -> list[int]:
    others = [number for number in range(len(logits)) if number != own]
    return sorted(others, key=lambda number: (abs(logits[number] - logits[own]), number))[:count]


def expected(model: nn.Module, layer: str, image: Tensor, own: int, count: int, strength: float, kind: str) -> Tensor:
    """Grad-CAM by loops, of y_c − γ Σ w y_d with classes and weights taken as numbers beforehand."""
    with torch.no_grad():
        logits = model(image[None])[0]
    similar = nearest(logits.tolist(), own, count)
    shares = logits.softmax(0)[similar] if kind == "softmax" else torch.ones(len(similar), dtype=torch.float64)
    shares = shares / shares.sum()

    def score(output: Tensor, rows: Any) -> Tensor:
        total = output[:, own]
        for share, number in zip(shares.tolist(), similar, strict=True):
            total = total - strength * share * output[:, number]
        return total[:, None]

    problem = Problem(model, lambda inputs: model(inputs["image"]), lambda f, _: f, score, {"image": image[None]})
    activations, gradients, _ = slow.activations_and_gradients(problem, [classes(own)], layer)
    return slow.gradcam(activations[0][0], gradients[0][0])


@pytest.mark.parametrize(
    ("options", "count", "strength", "kind"),
    [
        ("", 3, 1.0, "mean"),
        ("(classes=1, strength=0.6)", 1, 0.6, "mean"),
        ("(weights='softmax')", 3, 1.0, "softmax"),
        ("(classes=90, strength=2)", 4, 2.0, "mean"),
        ("(strength=0.0)", 3, 0.0, "mean"),
    ],
)
@pytest.mark.parametrize(
    ("make", "layer", "shape"), [(PlainCNN, "conv2", (3, 16, 12)), (VideoNet, "conv2", (3, 4, 12, 8))]
)
def test_against_a_difference_formed_by_hand(make, layer, shape, options, count, strength, kind) -> None:
    task, images = ModelTask(seeded(make)), noise(2, *shape)
    found = explain(task, task.prepare(images), [classes(0, 3, 2)] * 2, layers=[layer], methods=["finercam" + options])
    for b, one in enumerate(found):
        ((key, maps),) = one.maps.items()
        assert key.layer == layer and key.method.startswith("finercam")
        for k, number in enumerate([0, 3, 2]):
            wanted = expected(task.model, layer, images[b], number, count, strength, kind)
            torch.testing.assert_close(maps[k], wanted, rtol=1e-6, atol=1e-9)
    assert max(value.max() for one in found for value in one.maps.values()) > 0


def test_without_strength_it_is_gradcam() -> None:
    task = ModelTask(seeded(PlainCNN))
    methods = ["gradcam", "finercam(strength=0.0)", "finercam"]
    (found,) = explain(task, task.prepare(noise(1, 3, 16, 12)), [classes(0, 3)], layers=["conv2"], methods=methods)
    plain, none, full = found.maps.values()
    torch.testing.assert_close(none, plain)
    assert not torch.allclose(full, plain)


def test_the_nearest_logits_are_taken_on_both_sides() -> None:
    """By hand: for logit 2 of [5, 2, 2.5, 1, 2] the nearest are class 4 (0), 2 (0.5), 3 (1), 0 (3)."""
    logits = torch.tensor([[[5.0, 2.0, 2.5, 1.0, 2.0]]], requires_grad=True)
    for count, others in [(1, [4]), (2, [4, 2]), (3, [4, 2, 3]), (4, [4, 2, 3, 0])]:
        score = _distinctive(logits, [classes(1)], count, 0.5, "mean")
        mean = sum(logits[0, 0, other].item() for other in others) / count
        assert score.item() == pytest.approx(2 - 0.5 * mean)
        (gradient,) = torch.autograd.grad(score.sum(), logits)
        wanted = torch.zeros(5)
        wanted[1] = 1
        wanted[others] = -0.5 / count
        torch.testing.assert_close(gradient[0, 0], wanted)


def test_a_class_with_the_same_logit_does_not_take_the_targets_place() -> None:
    logits = torch.ones(1, 2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(_distinctive(logits, [classes(2, 1)], 1, 1.0, "mean").sum(), logits)
    assert gradient[0].tolist() == [[-1, 0, 1], [-1, 1, 0]]


def test_softmax_weights_are_shares_of_the_chosen_and_constants() -> None:
    logits = torch.tensor([[[0.0, 1.0, 0.5, -9.0]]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(_distinctive(logits, [classes(0)], 2, 1.0, "softmax").sum(), logits)
    share = logits.detach()[0, 0].softmax(0)
    pair = share[1] + share[2]
    wanted = torch.stack([torch.ones_like(pair), -share[1] / pair, -share[2] / pair, torch.zeros_like(pair)])
    torch.testing.assert_close(gradient[0, 0], wanted)


@pytest.mark.parametrize("strategy", ["expand", "vjp", "loop"])
def test_targets_batches_chunks_and_strategies_agree(strategy: str) -> None:
    task, images = ModelTask(seeded(PlainCNN)), noise(2, 3, 16, 12)

    def maps(rows: slice, targets: list[int], layers: Sequence[str] = ("conv1", "conv2"), **options: Any) -> list[Any]:
        batch = task.prepare(images[rows])
        return [
            list(one.maps.values())
            for one in explain(
                task, batch, [classes(*targets)] * len(images[rows]), layers=layers, methods=["finercam"], **options
            )
        ]

    whole = maps(slice(None), [0, 3, 4])
    torch.testing.assert_close(maps(slice(None), [0, 3, 4], strategy=strategy), whole)
    torch.testing.assert_close(maps(slice(None), [0, 3, 4], memory=1), whole)
    for b in range(2):
        torch.testing.assert_close(maps(slice(b, b + 1), [0, 3, 4])[0], whole[b])
        for k, number in enumerate([0, 3, 4]):
            alone = maps(slice(b, b + 1), [number])[0]
            torch.testing.assert_close(alone, [value[k : k + 1] for value in whole[b]])


def test_token_models() -> None:
    task = ModelTask(seeded(TokenNet))
    (found,) = explain(
        task, task.prepare(noise(1, 3, 16, 12)), [classes(1, 2)], layers=["blocks.1"], methods=["finercam"]
    )
    assert found.maps[MapKey("blocks.1", "finercam")].shape == (2, 4, 3)


class Captions(ModelTask):
    """Words of a caption, each one outcome of a softmax over the vocabulary at its place."""

    tokens = torch.tensor([[3, 5, 1]])

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model.encode(inputs["image"])  # type: ignore[operator, no-any-return]

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Tensor:
        return self.model.decode(features, self.tokens.expand(len(features), -1))  # type: ignore[operator, no-any-return]

    def score(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        ids = torch.tensor([[target.ids[0] for target in row] for row in targets])
        return self.logits(output, targets).gather(2, ids.unsqueeze(2)).squeeze(2)

    def probability(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        return self.score(output, targets).exp()

    def logits(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        places = torch.tensor([[target.index for target in row] for row in targets])
        return output[torch.arange(len(targets))[:, None], places]


def test_words_of_a_caption() -> None:
    task = Captions(seeded(AttentiveCaptioner))
    image, said = noise(1, 3, 12, 8), words([3, 5, 1])
    (found,) = explain(task, task.prepare(image), [said], layers=["conv2"], methods=["finercam"])
    maps = found.maps[MapKey("conv2", "finercam")]
    for place, word in enumerate(said):

        class At(nn.Module):
            def __init__(self, place: int) -> None:
                super().__init__()
                self.captioner, self.place = task.model, place

            def forward(self, x: Tensor) -> Tensor:
                return task.decode(task.encode({"image": x}), {})[:, self.place]

        wanted = expected(At(place), "captioner.conv2", image[0], word.ids[0], 3, 1.0, "mean")
        torch.testing.assert_close(maps[place], wanted, rtol=1e-6, atol=1e-9)


# -- what cannot be compared ------------------------------------------------------------------------------------------


class NoSoftmax(ModelTask):
    def logits(self, output: Any, targets: Sequence[Sequence[Target]]) -> None:  # type: ignore[override]
        return None


def refused(task: ModelTask, targets: list[Target], method: str = "finercam", **options: Any) -> None:
    explain(task, task.prepare(noise(1, 3, 8, 8)), [targets], layers=["conv2"], methods=[method], **options)


def test_what_is_no_outcome_of_a_softmax_is_told() -> None:
    task = ModelTask(seeded(PlainCNN))
    dog, cat = classes(0, 1)
    with pytest.raises(MethodError, match="not 'class 0 rather than class 1'; use 'gradcam', which takes spans"):
        refused(task, [dog, contrast(dog, cat)])
    with pytest.raises(MethodError, match="not 'red ball'; use 'gradcam'"):
        refused(task, [Target("red ball", "span", (1, 2), 0)])
    with pytest.raises(MethodError, match="ends in a softmax over two classes or more; use 'gradcam'"):
        refused(NoSoftmax(seeded(PlainCNN)), [dog, cat])
    with pytest.raises(MethodError, match="ends in a softmax over two classes or more; use 'gradcam'"):
        refused(ModelTask(seeded(PlainCNN, 1)), [dog])
    with pytest.raises(MethodError, match="cannot be trained through"):
        refused(task, [dog], create_graph=True)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("finercam(classes=0)", "1 class or more at a strength of 0 or more, not classes=0"),
        ("finercam(strength=-1)", "strength=-1"),
        ("finercam(weights='max')", "by 'mean' or 'softmax', not 'max'"),
        ("finercam(gamma=1)", "no parameter 'gamma'.*classes=3"),
    ],
)
def test_wrong_parameters_are_told(method: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        refused(ModelTask(seeded(PlainCNN)), classes(0), method)
