"""SmoothGrad, VarGrad and Smooth Grad-CAM++ against loops over the samples, and on models whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.methods.noise import weighted
from tests import slow
from tests.models import Head, ModelTask, PlainCNN, VideoNet, class_problem, classes, noise, seeded

METHODS = ("smoothgrad", "vargrad", "smoothgrad-cam++")


def map_of(explanation: Explanation) -> Tensor:
    (value,) = explanation.maps.values()
    return value


def draws(samples: int, shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """The standard normal noise of each sample, as the module documents it: a seed for each sample, from one seed."""
    seeds = torch.randint(2**62, (samples,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [torch.randn(shape, generator=torch.Generator().manual_seed(one)).double() for one in seeds]


def noisy(image: Tensor, samples: int, share: float, seed: int = 0) -> list[Tensor]:
    spread = share * (image.max() - image.min())
    return [image + spread * drawn for drawn in draws(samples, tuple(image.shape), seed)]


def gradients_at(model: nn.Module, images: list[Tensor], number: int) -> list[Tensor]:
    found = []
    for image in images:
        at = image[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.eval()(at)[0, number], at)
        found.append(gradient[0])
    return found


class Squares(nn.Module):
    """Class 0 is Σ x² / 2, whose gradient is x itself; class 1 is Σ x, whose gradient is 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.square().sum((1, 2, 3)) / 2, x.sum((1, 2, 3))], 1)


# -- the mean and the variance --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape"), [(PlainCNN, (3, 8, 8)), (VideoNet, (3, 4, 6, 6))], ids=["photo", "clip"])
def test_against_loops_over_samples(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    """A loop over samples in float64; two photos, two targets each, whose ranges differ."""
    task = ModelTask(seeded(make).requires_grad_(False))
    images, rows = (
        noise(2, *shape) * torch.tensor([1.0, 3.0]).view(2, *[1] * len(shape)),
        [classes(0, 3), classes(4, 1)],
    )
    with torch.no_grad():
        for method in ("smoothgrad", "vargrad"):
            found = explain(task, task.prepare(images), rows, methods=[f"{method}(samples=6, noise=0.2)"], seed=5)
            for b, row in enumerate(rows):
                for k, target in enumerate(row):
                    with torch.enable_grad():
                        each = gradients_at(task.model, noisy(images[b], 6, 0.2, seed=5), target.ids[0])
                    mean = sum(each[1:], each[0]) / 6
                    if method == "vargrad":
                        expected = sum(((g - mean) ** 2).sum(0) for g in each) / 5
                    else:
                        expected = mean
                        assert (each[-1] - mean).abs().max() > 0.1 * mean.abs().max(), "the last one is not the mean"
                    torch.testing.assert_close(map_of(found[b])[k], expected)


def test_moments_of_a_square() -> None:
    """The gradient at x + ε is x + ε: mean x, variance σ² in each of three channels, with statistical tolerance.

    Over 400 samples and 300 values: the mean of the error has standard deviation σ / √(400 · 300), that of the variance
    is relative √(2 / (400 · 300)); five of them are allowed."""
    task, image = ModelTask(Squares()), noise(1, 3, 10, 10)
    sigma = 0.1 * (image.max() - image.min())
    names = ["smoothgrad(samples=400, noise=0.1)", "vargrad(samples=400, noise=0.1)"]
    (found,) = explain(task, task.prepare(image), [classes(0, 1)], methods=names)
    mean, variance = (found.maps[found.key(method=name)] for name in names)
    assert mean.shape == (2, 3, 10, 10) and variance.shape == (2, 10, 10)
    error = (mean[0] - image[0]) / sigma
    assert abs(error.mean()) < 5 / math.sqrt(400 * 300)
    assert error.std() == pytest.approx(1 / math.sqrt(400), rel=0.2)
    assert variance[0].mean() / (3 * sigma**2) == pytest.approx(1, abs=5 * math.sqrt(2 / (400 * 300)))
    torch.testing.assert_close(mean[1], torch.ones_like(mean[1]))
    assert variance[1].abs().max() == 0, "of a constant gradient"
    assert found.pixel_methods == {names[0]}


def test_without_noise_all_samples_are_alike() -> None:
    task = ModelTask(seeded(PlainCNN), "conv2")
    batch, rows = task.prepare(noise(1, 3, 8, 8)), [classes(0, 3)]
    names = ["input-x-gradient", "smoothgrad(samples=3, noise=0)", "vargrad(samples=3, noise=0)"]
    (found,) = explain(task, batch, rows, methods=names)
    product, gradient, variance = found.maps.values()
    torch.testing.assert_close((gradient * batch.inputs["image"]).sum(1), product)
    assert product.abs().max() > 0 and variance.abs().max() < 1e-30 * gradient.abs().max()


def test_small_variances_beside_large_means() -> None:
    """In float32 E[g²] − E[g]², as captum has it, loses a variance of 1e-6 beside a mean of 1e3; it can be negative."""

    task, image = ModelTask(Squares()), noise(1, 1, 6, 6).float() * 1e-3 + 1000
    (found,) = explain(task, task.prepare(image), [classes(0)], methods=["vargrad(samples=20, noise=0.2)"])
    each = torch.stack([one.float() for one in noisy(image[0], 20, 0.2)])
    exact = each.double().var(0)[0]
    naive = (each.square().mean(0) - each.mean(0).square())[0]
    assert (map_of(found)[0] - exact).abs().max() < 0.05 * exact.max()
    assert (naive - exact).abs().max() > 100 * exact.max()
    assert map_of(found).min() >= 0


# -- Smooth Grad-CAM++ ----------------------------------------------------------------------------------------------


def slow_map(model: nn.Module, image: Tensor, layer: str, number: int, samples: int, share: float) -> Tensor:
    """From the formula, place by place."""
    powers = []
    for one in noisy(image, samples, share):
        _, gradients, _ = slow.activations_and_gradients(class_problem(model, one[None]), [classes(number)], layer)
        powers.append([gradients[0][0] ** power for power in (1, 2, 3)])
    d1, d2, d3 = (sum(one[p] for one in powers) / samples for p in range(3))
    activations, _, _ = slow.activations_and_gradients(class_problem(model, image[None]), [classes(number)], layer)
    a = activations[0][0]
    weights = []
    for k in range(len(a)):
        total, weight = a[k].sum().item(), 0.0
        for one, two, three in zip(*(d[k].flatten().tolist() for d in (d1, d2, d3)), strict=True):
            below = 2 * two + total * three
            weight += (two / below if below else 0.0) * max(one, 0.0)
        weights.append(weight)
    return slow.weighted_sum(weights, a)


@pytest.mark.parametrize(
    ("make", "layers", "shape"),
    [(PlainCNN, ["relu1", "relu2"], (3, 8, 8)), (VideoNet, ["conv1"], (3, 4, 6, 6))],
    ids=["photo", "clip"],
)
def test_smooth_gradcam_pp_against_its_formula(
    make: type[nn.Module], layers: list[str], shape: tuple[int, ...]
) -> None:
    task = ModelTask(seeded(make))
    images, rows = noise(2, *shape), [classes(0, 3), classes(4, 1)]
    name = "smoothgrad-cam++(samples=4, noise=0.1)"
    found = explain(task, task.prepare(images), rows, layers=layers, methods=[name])
    for b, row in enumerate(rows):
        assert found[b].layers == layers
        for layer in layers:
            for k, target in enumerate(row):
                expected = slow_map(task.model, images[b], layer, target.ids[0], 4, 0.1)
                value = found[b].map(k, layer)
                torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9 * max(1, expected.max().item()))
    assert max(found[b].map(k, layer).max() for b in range(2) for k in range(2) for layer in layers) > 0


def test_one_sample_without_noise_is_gradcam_pp() -> None:
    task = ModelTask(seeded(Head))
    names = ["gradcam++", "smoothgrad-cam++(samples=1, noise=0)"]
    (found,) = explain(task, task.prepare(noise(1, 3, 3, 3)), [classes(0, 3)], layers=["tap"], methods=names)
    plain, smooth = found.maps.values()
    assert plain.max() > 0
    torch.testing.assert_close(smooth, plain)


def test_smooth_gradcam_pp_by_hand() -> None:
    """A = (1, 3); two samples, g = (1, 2) and (3, −2): D₁ = (2, 0), D₂ = (5, 4), D₃ = (14, 0), ΣA = 4.
    α = (5 / (10 + 56), ·), w = 2 · 5 / 66."""
    a = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    first, second, third = (
        torch.tensor(values, dtype=torch.float64).view(1, 1, 1, 1, 2) for values in ([2.0, 0], [5.0, 4], [14.0, 0])
    )
    torch.testing.assert_close(weighted(a, first, second, third)[0, 0, 0], 10 / 66 * a[0, 0, 0])
    zero = torch.zeros_like(first)
    assert not weighted(a, first, zero, zero).any(), "a denominator of zero"


class Scaled(nn.Module):
    """Scores, and so gradients, as small as wanted."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = seeded(Head).float(), scale

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale


@pytest.mark.parametrize("scale", [1e-7, 1e-14, 1e-30])
def test_no_underflow(scale: float) -> None:
    """In float32 g³ is zero from 1e-15 on. There D₃ ΣA is nothing beside D₂: α is one half."""
    task, image = ModelTask(Scaled(scale)), noise(1, 3, 3, 3).float()
    name = "smoothgrad-cam++(samples=4, noise=0.1)"
    (found,) = explain(task, task.prepare(image), [classes(0)], layers=["inner.tap"], methods=[name])
    each = []
    for one in noisy(image[0].double(), 4, 0.1):
        at = one.relu()[None].float().requires_grad_()
        each.append(torch.autograd.grad(task.model.inner.after(at)[0, 0], at)[0].detach().double())
    weights = (sum(each[1:], each[0]) / 4).relu().sum((2, 3)) / 2
    expected = slow.weighted_sum(weights[0].tolist(), image[0].relu())
    assert expected.max() > 0
    torch.testing.assert_close(map_of(found)[0].double() / scale, expected, rtol=1e-4, atol=1e-6)


# -- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("make", "shape"), [(PlainCNN, (3, 8, 8)), (VideoNet, (3, 4, 6, 6))], ids=["photo", "clip"])
def test_batches_targets_and_chunks_agree(method: str, make: type[nn.Module], shape: tuple[int, ...]) -> None:
    task = ModelTask(seeded(make), "conv2")
    images, rows = noise(2, *shape), [classes(0, 3), classes(4, 1)]
    name = f"{method}(samples=3)"
    whole = explain(task, task.prepare(images), rows, methods=[name], memory=2**30)
    steps: list[tuple[int, int]] = []
    parts = explain(task, task.prepare(images), rows, methods=[name], memory=1, progress=lambda *at: steps.append(at))
    # Sums of gradients at a layer are held for one target at a time.
    total = 12 if method == "smoothgrad-cam++" else 6
    assert steps == [(n, total) for n in range(1, total + 1)]
    for b in range(2):
        torch.testing.assert_close(map_of(parts[b]), map_of(whole[b]))
        for k in range(2):
            (alone,) = explain(task, task.prepare(images[b : b + 1]), [rows[b][k : k + 1]], methods=[name])
            torch.testing.assert_close(map_of(alone)[0], map_of(whole[b])[k])
    assert map_of(whole[0]).abs().max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides(method: str) -> None:
    task = ModelTask(seeded(PlainCNN), "conv2")
    batch, rows = task.prepare(noise(1, 3, 8, 8)), [classes(0, 3)]
    state = torch.get_rng_state()
    maps = [
        map_of(explain(task, batch, rows, methods=[f"{method}(samples=3)"], seed=seed)[0]) for seed in (None, 0, 1, 1)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[2], maps[3])
    assert not torch.allclose(maps[1], maps[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision(method: str, dtype: torch.dtype) -> None:
    """The same noise as in float64; what is left is the model's own rounding."""
    maps = []
    for kind in (torch.float64, dtype):
        task = ModelTask(seeded(Head).to(kind), "tap")
        image = noise(1, 3, 3, 3).to(dtype).to(kind)
        maps.append(map_of(explain(task, task.prepare(image), [classes(0)], methods=[f"{method}(samples=4)"])[0]))
    assert maps[1].dtype == torch.float32
    assert (maps[1] - maps[0]).abs().max() <= 0.2 * maps[0].abs().max()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smoothgrad(samples=0)", r"1 noisy sample\(s\) or more, not samples=0"),
        ("vargrad(samples=1)", r"2 noisy sample\(s\) or more"),
        ("smoothgrad-cam++(noise=-0.1)", "share of the input's range"),
        ("smoothgrad(noise='much')", "noise of 'smoothgrad' is like 0.15"),
    ],
)
def test_wrong_parameters_are_told(name: str, message: str) -> None:
    task = ModelTask(seeded(PlainCNN), "conv2")
    with pytest.raises(MethodError, match=message):
        explain(task, task.prepare(noise(1, 3, 8, 8)), [classes(0)], methods=[name])


def test_targets_go_in_parts_where_their_sums_would_not_fit() -> None:
    task = ModelTask(seeded(PlainCNN, 12))
    batch, targets = task.prepare(noise(2, 3, 16, 16)), [classes(*range(12))] * 2
    options = {"layers": ["conv1", "conv2"], "methods": ["smoothgrad-cam++(samples=3)"]}
    whole = explain(task, batch, targets, **options)
    runs: list[int] = []
    handle = task.model.fc2.register_forward_hook(lambda module, args, output: runs.append(len(output)))
    parts = explain(task, batch, targets, memory=400_000, **options)
    handle.remove()
    assert len(runs) > 12, "several parts of the targets"
    for one, other in zip(whole, parts, strict=True):
        for key, value in one.maps.items():
            torch.testing.assert_close(value, other.maps[key])
