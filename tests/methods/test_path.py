"""Integrated gradients against polynomials that can be integrated by hand and a slow midpoint sum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation, MapKey
from mmexplain.methods.path import ERROR, completeness_error, gauss_legendre
from mmexplain.taps import INPUT
from tests.models import ModelTask, PlainCNN, VideoNet, classes, noise, seeded


class Smooth(nn.Module):
    """Two convolutions with softplus between: an integrand without kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 3, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(self.conv2(F.softplus(self.conv1(x)))).sum((2, 3))


class Powers(nn.Module):
    """Class n is Σ x^(n+1)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([(x ** (n + 1)).sum((1, 2, 3)) for n in range(4)], 1)


class DarkTask(ModelTask):
    """Black is −2, −1 and 0.5 in the three channels of the model's input."""

    def black(self) -> tuple[float, ...]:
        return (-2.0, -1.0, 0.5)


def map_of(explanation: Explanation) -> Tensor:
    (value,) = explanation.maps.values()
    return value


def slow(model: nn.Module, image: Tensor, start: Tensor, number: int, steps: int) -> Tensor:
    """The midpoint rule."""
    middles = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    at = (start + middles.view(-1, 1, 1, 1) * (image - start)).requires_grad_()
    (gradients,) = torch.autograd.grad(model(at)[:, number].sum(), at)
    return (gradients.mean(0) * (image - start)).sum(0)


def test_powers_by_hand() -> None:
    """∫₀¹ (n+1)(αx)ⁿ x dα = x^(n+1): two steps are exact up to x⁴."""
    image = torch.tensor([0.5, -1.0, 2.0, 3.0], dtype=torch.float64).view(1, 1, 2, 2)
    task = ModelTask(Powers())
    (found,) = explain(
        task, task.prepare(image), [classes(0, 1, 2, 3)], methods=["integrated-gradients(steps=2, baseline='grey')"]
    )
    for n, value in enumerate(map_of(found)):
        torch.testing.assert_close(value, image[0, 0] ** (n + 1))
    errors = found.provenance["integrated-gradients(steps=2, baseline='grey')"][ERROR]
    assert errors == pytest.approx([0.0] * 4, abs=1e-6)


def test_the_error_is_told_where_the_steps_are_too_few() -> None:
    """One step is the midpoint: of x⁴ it finds 4 (x/2)³ x = x⁴ / 2, so that half is missing; x³ lacks a quarter."""
    task = ModelTask(Powers())
    name = "integrated-gradients(steps=1)"
    (found,) = explain(task, task.prepare(torch.full((1, 1, 2, 2), 2.0)), [classes(0, 2, 3)], methods=[name])
    assert found.provenance[name][ERROR] == pytest.approx([0.0, 0.25, 0.5])


@pytest.mark.parametrize("baseline", ["black", "grey"])
def test_against_a_slow_sum(baseline: str) -> None:
    task = DarkTask(seeded(Smooth))
    images, rows = noise(2, 3, 7, 6), [classes(0, 2), classes(1, 0)]
    black = torch.tensor(task.black(), dtype=torch.float64).view(3, 1, 1)
    start = (black if baseline == "black" else torch.zeros_like(black)).expand(3, 7, 6)
    found = explain(
        task, task.prepare(images), rows, methods=[f"integrated-gradients(steps=24, baseline='{baseline}')"]
    )
    for b, row in enumerate(rows):
        for k, target in enumerate(row):
            expected = slow(task.model, images[b], start, target.ids[0], 500)
            torch.testing.assert_close(map_of(found[b])[k], expected, rtol=1e-5, atol=1e-7)
            with torch.no_grad():
                change = (task.model(images[b : b + 1]) - task.model(start[None]))[0, target.ids[0]]
            torch.testing.assert_close(map_of(found[b])[k].sum(), change, rtol=1e-6, atol=1e-9)
        (told,) = (value for key, value in found[b].provenance.items() if key.startswith("integrated-gradients"))
        assert max(told[ERROR]) < 1e-5


@pytest.mark.parametrize(("make", "shape"), [(PlainCNN, (3, 8, 8)), (VideoNet, (3, 4, 6, 6))], ids=["photo", "clip"])
def test_batches_targets_and_chunks_agree(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    """Two photos as one by one, two targets as one by one, a row at a time as all at once."""
    task = ModelTask(seeded(make))
    images, rows = noise(2, *shape), [classes(0, 3), classes(4, 1)]
    name = "integrated-gradients(steps=5)"
    whole = explain(task, task.prepare(images), rows, methods=[name], memory=2**30)
    steps: list[tuple[int, int]] = []
    parts = explain(task, task.prepare(images), rows, methods=[name], memory=1, progress=lambda *at: steps.append(at))
    assert steps == [(n, 10) for n in range(1, 11)]
    for b in range(2):
        assert map_of(whole[b]).abs().max() > 0
        torch.testing.assert_close(map_of(parts[b]), map_of(whole[b]))
        for k in range(2):
            (alone,) = explain(task, task.prepare(images[b : b + 1]), [rows[b][k : k + 1]], methods=[name])
            torch.testing.assert_close(map_of(alone)[0], map_of(whole[b])[k])
            error = whole[b].provenance[name][ERROR][k]
            assert alone.provenance[name][ERROR] == pytest.approx([error], abs=1e-4)


def test_rows_of_targets_of_unequal_length() -> None:
    task = ModelTask(seeded(Smooth))
    found = explain(
        task, task.prepare(noise(2, 3, 7, 6)), [classes(0, 1, 2), classes(1)], methods=["integrated-gradients"]
    )
    assert [len(one.provenance["integrated-gradients"][ERROR]) for one in found] == [3, 1]
    assert [len(map_of(one)) for one in found] == [3, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Summed in float32; the model's own rounding is what is left."""
    model, image = seeded(Smooth), noise(1, 3, 7, 6)
    exact, half = ModelTask(model), ModelTask(seeded(Smooth).to(dtype))
    maps = []
    for task, value in ((exact, image), (half, image.to(dtype))):
        (found,) = explain(task, task.prepare(value), [classes(1)], methods=["integrated-gradients"])
        maps.append(map_of(found))
    assert maps[1].dtype == torch.float32
    assert (maps[1] - maps[0]).abs().max() < 0.05 * maps[0].abs().max()


def test_saved_and_loaded(tmp_path: object) -> None:
    from tests.render.conftest import build

    explanation = build()
    explanation.maps = {MapKey(INPUT, "integrated-gradients"): torch.ones(len(explanation.targets), 48, 48)}
    errors = [0.25 + n for n in range(len(explanation.targets))]
    explanation.provenance["integrated-gradients"] = {ERROR: errors}
    path = explanation.save(f"{tmp_path}/x.safetensors")
    again = Explanation.load(path)
    assert [entry["checks"] for entry in again.to_json()["targets"]] == [{ERROR: error} for error in errors]
    assert "checks" not in build().to_json()["targets"][0]
    html = explanation.save(f"{tmp_path}/x.html").read_text(encoding="utf-8")
    assert "completeness_error" in html


def test_completeness_error_by_hand() -> None:
    scores = torch.tensor([[1.0, 3.0], [5.0, 5.0]])
    parts = torch.tensor([[1.0, 0.5], [1.0, -1.0]])
    assert completeness_error(parts, scores).tolist() == [0.25, 0.0]


def test_points_are_inside_and_weigh_one() -> None:
    points = gauss_legendre(7)
    assert all(0 < alpha < 1 for alpha, _ in points) and sum(weight for _, weight in points) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("integrated-gradients(steps=0)", "1 step or more"),
        ("integrated-gradients(baseline='white')", "'black' or 'grey', not baseline='white'"),
    ],
)
def test_wrong_parameters_are_told(name: str, message: str) -> None:
    task = ModelTask(seeded(Smooth))
    with pytest.raises(MethodError, match=message):
        explain(task, task.prepare(noise(1, 3, 7, 6)), [classes(0)], methods=[name])
