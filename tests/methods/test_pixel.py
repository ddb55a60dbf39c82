"""Saliency and input × gradient against loops in float64, together with layer methods in one pass."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from mmexplain.explainer import explain
from mmexplain.explanation import Explanation, MapKey
from mmexplain.methods import get, input_x_gradient, saliency
from mmexplain.render.heat import heat
from mmexplain.taps import INPUT
from mmexplain.tasks.base import Batch
from tests.models import ModelTask, PlainCNN, VideoNet, classes, noise, seeded
from tests.render.conftest import build

METHODS = ("saliency", "input-x-gradient")


def slow_gradient(model: nn.Module, image: Tensor, number: int) -> Tensor:
    """``[C, *P]`` of one input and one class."""
    with torch.enable_grad():
        image = image[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.eval()(image)[0, number], image)
    return gradient[0]


def slow_map(method: str, image: Tensor, gradient: Tensor) -> Tensor:
    found = torch.zeros(image.shape[1:], dtype=torch.float64)
    for place in itertools.product(*map(range, image.shape[1:])):
        pairs = [(image[(c, *place)].item(), gradient[(c, *place)].item()) for c in range(len(image))]
        found[place] = max(abs(g) for _, g in pairs) if method == "saliency" else sum(x * g for x, g in pairs)
    return found


def test_by_hand() -> None:
    inputs = torch.tensor([2.0, -1.0, 3.0]).view(1, 1, 3, 1, 1)
    gradients = torch.tensor([[0.5, -4.0, 1.0], [0.0, 0.0, -2.0]]).view(1, 2, 3, 1, 1)
    assert saliency(inputs, gradients).flatten().tolist() == [4.0, 2.0]
    assert input_x_gradient(inputs, gradients).flatten().tolist() == [8.0, -6.0]
    assert saliency(inputs, gradients).shape == (1, 2, 1, 1)


@pytest.mark.parametrize(("make", "shape"), [(PlainCNN, (3, 10, 8)), (VideoNet, (3, 4, 6, 8))], ids=["photo", "clip"])
def test_against_loops_together_with_a_layer(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    """Two photos, two targets each, one pass for pixels and layers; frozen and under no_grad."""
    task = ModelTask(seeded(make).requires_grad_(False))
    images, rows = noise(2, *shape), [classes(0, 3), classes(4, 1)]
    names = ["gradcam", *METHODS]
    with torch.no_grad():
        found = explain(task, task.prepare(images), rows, layers=["conv2"], methods=names)
    alone = explain(task, task.prepare(images), rows, layers=["conv2"], methods=["gradcam"])
    for b, row in enumerate(rows):
        assert list(found[b].maps) == [MapKey("conv2", "gradcam"), *(MapKey(INPUT, name) for name in METHODS)]
        torch.testing.assert_close(found[b].map(1, method="gradcam"), alone[b].map(1))
        for k, target in enumerate(row):
            gradient = slow_gradient(task.model, images[b], target.ids[0])
            assert gradient.abs().max() > 0
            for name in METHODS:
                torch.testing.assert_close(found[b].map(k, method=name), slow_map(name, images[b], gradient))


def test_one_forward_pass_for_all() -> None:
    task = ModelTask(seeded(PlainCNN))
    runs = []
    task.model.conv1.register_forward_hook(lambda *_: runs.append(1))
    explain(task, task.prepare(noise(1, 3, 8, 8)), [classes(0, 1)], layers=["conv2"], methods=["gradcam", *METHODS])
    assert len(runs) == 1


def test_a_chunk_of_targets_after_the_other() -> None:
    task = ModelTask(seeded(PlainCNN))
    batch, rows = task.prepare(noise(2, 3, 8, 8)), [classes(0, 1, 2), classes(4, 3, 2)]
    whole, parts = (explain(task, batch, rows, methods=METHODS, memory=memory) for memory in (2**30, 1))
    for one, other in zip(whole, parts, strict=True):
        for key in one.maps:
            torch.testing.assert_close(one.maps[key], other.maps[key])


class TwoInputs(nn.Module):
    """The photo is weighed by a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, image: Tensor, weight: Tensor) -> Tensor:
        return (self.conv(image * weight[:, :, None, None]).tanh()).sum((2, 3))


class TwoInputsTask(ModelTask):
    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model(inputs["image"], inputs["weight"])


def several(model: nn.Module, images: Tensor, weights: Tensor, method: str) -> list[Explanation]:
    task = TwoInputsTask(model)
    blank = [None] * len(images)
    batch = Batch({"image": images, "weight": weights}, {}, blank, blank)  # type: ignore[arg-type]
    return explain(task, batch, [classes(0, 1)] * len(images), methods=[method])


@pytest.mark.parametrize(
    "method",
    [*METHODS, "integrated-gradients(steps=3)", "smoothgrad(samples=3)", "vargrad(samples=3)"],
)
def test_a_model_with_two_inputs(method: str) -> None:
    """Each photo is differentiated with the second input that is its own."""
    model, images, weights = seeded(TwoInputs), noise(2, 3, 5, 4), noise(2, 3, seed=1)
    both = several(model, images, weights, method)
    for b in range(2):
        (alone,) = several(model, images[b : b + 1], weights[b : b + 1], method)
        torch.testing.assert_close(both[b].maps[both[b].key()], alone.maps[alone.key()])
    swapped = several(model, images, weights.flip(0), method)
    first = both[0].map()
    assert (swapped[0].map() - first).abs().max() > 0.1 * first.abs().max()
    if method == "input-x-gradient":
        model.requires_grad_(False)
        gradient = slow_gradient(lambda_model(model, weights[1:]), images[1], 1)
        torch.testing.assert_close(both[1].map(1), slow_map(method, images[1], gradient))


def lambda_model(model: nn.Module, weight: Tensor) -> nn.Module:
    class Bound(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return model(image, weight)

    return Bound()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    """2048 + 1 − 2048 is 1, and 0 in float16."""
    inputs = torch.tensor([2048.0, 1.0, -2048.0], dtype=dtype).view(1, 1, 3, 1, 1)
    ones = torch.ones(1, 1, 3, 1, 1, dtype=dtype)
    assert input_x_gradient(inputs, ones).item() == 1.0
    assert saliency(inputs, ones).dtype == input_x_gradient(inputs, ones).dtype == torch.float32


def test_relus_without_biases_add_up_to_the_score() -> None:
    """For a function that is homogeneous of degree 1, Σ x · ∂S/∂x = S (Euler)."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2, bias=False))
    task = ModelTask(model.double())
    (found,) = explain(task, task.prepare(noise(1, 3, 6, 6)), [classes(0, 1)], methods=["input-x-gradient"])
    torch.testing.assert_close(found.maps[found.key()].sum((1, 2)).float(), found.scores)


def test_maps_can_be_trained_through() -> None:
    model = seeded(PlainCNN)
    task = ModelTask(model)
    (found,) = explain(
        task, task.prepare(noise(1, 3, 8, 8)), [classes(2)], methods=["input-x-gradient"], create_graph=True
    )
    found.map().square().sum().backward()
    assert model.conv1.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", METHODS)
def test_what_the_registry_says(name: str) -> None:
    method = get(name)
    assert (method.space, method.colour, method.signed) == ("pixel", False, name == "input-x-gradient")


def test_one_bright_pixel_does_not_darken_the_picture() -> None:
    """The long tail of a map in pixels is cut off in the picture, not in the map."""
    explanation = build(geometry="squashed")
    value = torch.full((len(explanation.targets), 48, 48), 0.5)
    value[:, :, 24:] = 1.0
    value[:, 0, 0] = 1e6
    explanation.maps = {MapKey(INPUT, "saliency"): value, MapKey(INPUT, "occlusion"): value}
    assert heat(explanation, 0).values[:, -1].max() == pytest.approx(1.0)
    assert heat(explanation, 0).values[30, 1] == pytest.approx(0.5)
    assert heat(explanation, 0, method="occlusion").values[30, 1] == pytest.approx(5e-7)
    assert explanation.map(0).max() == 1e6
    value[:, :, :] = 0
    value[:, 20, 20] = 3.0
    assert heat(explanation, 0).values.max() == pytest.approx(1.0), "few pixels that are not zero"
