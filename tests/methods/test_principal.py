"""Eigen-CAM against the singular value decomposition of the paper, in float64, and its sign, speed-ups and limits."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mmexplain.explainer import explain
from mmexplain.methods import eigencam, eigengradcam, hirescam, principal
from tests.models import ModelTask, PlainCNN, VideoNet, classes, noise, seeded

NAMES = ["eigencam", "eigengradcam"]


def slow(values: Tensor) -> Tensor:
    """X v_1 by the whole decomposition of X ``[places, channels]``, for ``[C, *S]``; the sign that agrees with Σ_k."""
    x = values.double().flatten(1).T
    _, _, vh = torch.linalg.svd(x, full_matrices=False)
    found = x @ vh[0]
    if found @ x.sum(1) < 0:
        found = -found
    return found.unflatten(0, values.shape[1:])


@pytest.mark.parametrize("shape", [(3, 4, 5), (30, 4, 5), (2, 3, 2, 4), (90, 11, 10), (150, 3, 6, 5), (300, 9, 9)])
@pytest.mark.parametrize("rectified", [True, False], ids=["after a ReLU", "negative activations"])
def test_against_the_whole_decomposition(shape: tuple[int, ...], rectified: bool) -> None:
    """More places than channels and fewer; Gram matrices on both sides of what is decomposed as a whole."""
    activations, gradients = noise(2, 1, *shape), noise(2, 3, *shape, seed=1)
    if rectified:
        activations = activations.relu()
    flat, weighted = eigencam(activations, gradients), eigengradcam(activations, gradients)
    assert flat.dtype == torch.float64
    for b, k in itertools.product(range(2), range(3)):
        torch.testing.assert_close(flat[b, k], slow(activations[b, 0]), rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(weighted[b, k], slow(gradients[b, k] * activations[b, 0]), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shape", [(64, 5, 5), (100, 12, 12)])
@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e15])
def test_float32_is_right_to_rounding_at_every_scale(shape: tuple[int, ...], scale: float) -> None:
    activations = noise(1, 1, *shape).abs().float() * scale
    gradients = noise(1, 2, *shape, seed=1).abs().float() * scale
    for values, found in (
        (activations[0, 0], eigencam(activations, gradients)[0, 1]),
        (activations[0, 0] * gradients[0, 1], eigengradcam(activations, gradients)[0, 1]),
    ):
        assert found.dtype == torch.float32
        expected = slow(values.double() / values.abs().max())
        torch.testing.assert_close(found.double() / values.abs().max().double(), expected, rtol=1e-4, atol=1e-5)


def test_rank_one_by_hand() -> None:
    """X = u vᵀ with v = (3, 4): L = 5 u."""
    u = torch.tensor([[1.0, 0.0], [2.0, 0.5]])
    activations = torch.stack([3 * u, 4 * u])[None, None]
    torch.testing.assert_close(eigencam(activations, activations)[0, 0], 5 * u)
    torch.testing.assert_close(eigencam(-activations, activations)[0, 0], -5 * u)


def test_the_sign_is_that_of_the_sum_and_else_of_the_largest_value() -> None:
    u = torch.tensor([[1.0, -3.0], [2.0, 0.5]])
    for one, other in ((1, -1), (-1, 1)):
        found = eigencam(torch.stack([one * u, other * u])[None, None], u[None, None, None])[0, 0]
        torch.testing.assert_close(found, -(2**0.5) * u, msg="3 is the largest, and the channels sum to zero")


def test_after_a_relu_no_value_is_negative() -> None:
    activations = noise(3, 1, 80, 9, 9).relu()
    found = eigencam(activations, activations)
    assert found.min() > -1e-9 and found.max() > 0


def test_eigengradcam_has_the_sign_of_what_hirescam_says() -> None:
    activations, gradients = noise(2, 1, 5, 4, 4).relu(), noise(2, 4, 5, 4, 4, seed=1)
    found, evidence = eigengradcam(activations, gradients), hirescam(activations, gradients)
    assert bool(((found * evidence).sum((2, 3)) > 0).all())
    torch.testing.assert_close(eigengradcam(activations, -gradients), -found)


@pytest.mark.parametrize("shape", [(4, 3, 3), (70, 9, 9)])
def test_nothing_there_is_zero(shape: tuple[int, ...]) -> None:
    zero = torch.zeros(2, 1, *shape)
    zero[1] += 1
    found = eigencam(zero, zero.expand(-1, 2, *shape))
    assert not found[0].any() and bool((found[1] > 0).all())
    assert not eigengradcam(zero, torch.zeros(2, 2, *shape)).any()


def test_what_is_not_finite_stays_so_for_the_engine_to_tell() -> None:
    gradients = torch.ones(2, 1, 3, 4, 4)
    gradients[1, 0, 0, 0, 0] = torch.inf
    assert bool(eigengradcam(torch.ones(2, 1, 3, 4, 4), gradients)[1].isnan().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    activations = noise(1, 1, 20, 5, 5).abs().to(dtype)
    gradients = (noise(1, 2, 20, 5, 5, seed=1).abs() * 2.2e-4).to(dtype)
    for method in (eigencam, eigengradcam):
        found, expected = method(activations, gradients), method(activations.double(), gradients.double())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 * expected.max().item())


# -- the iteration ----------------------------------------------------------------------------------------------------


def spectrum(*values: float, size: int = 80) -> Tensor:
    """A symmetric matrix with these eigenvalues, and zeros."""
    q, _ = torch.linalg.qr(noise(size, size))
    return q[:, : len(values)] * torch.tensor(values, dtype=torch.float64) @ q[:, : len(values)].T


@pytest.mark.parametrize(
    "values",
    [(1.0,), (1.0, 0.5), (1.0, 0.999, 0.998), tuple(1 - n / 500 for n in range(79))],
    ids=["rank one", "gap", "near", "slow decay"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_iteration_finds_the_leading_eigenvector(values: tuple[float, ...], dtype: torch.dtype) -> None:
    gram = spectrum(*values).to(dtype)
    vector = principal._iterated(gram[None])[0].double()
    exact = torch.linalg.eigh(gram.double()).eigenvectors[:, -1]
    gap = (values[0] - values[1]) / values[0] if len(values) > 1 else 1
    assert 1 - float((vector @ exact).abs()) <= (1e3 * torch.finfo(dtype).eps / gap) ** 2 + 4 * torch.finfo(dtype).eps


def test_what_does_not_converge_is_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principal, "RESTARTS", 1)
    monkeypatch.setattr(principal, "STEPS", 2)
    grams = torch.stack([spectrum(1.0), spectrum(*(1 - n / 500 for n in range(79)))])
    _, _, residual = principal._krylov(grams, noise(2, 80, 1))
    assert residual[0] < 1e-12 < 1e-4 < residual[1]
    for vector, gram in zip(principal._iterated(grams), grams, strict=True):
        exact = torch.linalg.eigh(gram).eigenvectors[:, -1]
        torch.testing.assert_close(vector * (vector @ exact).sign(), exact)


@pytest.mark.parametrize("shape", [(2, 3, 2), (5, 2, 1)])
def test_differentiable(shape: tuple[int, ...]) -> None:
    a, g = noise(1, 1, *shape).abs().requires_grad_(), noise(1, 2, *shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, g: eigencam(a, g.detach()), (a, g.detach()))
    assert torch.autograd.gradcheck(eigengradcam, (a, g))


def test_dead_channels_do_not_spoil_the_derivative() -> None:
    """They make equal eigenvalues, between which the derivative of ``eigh`` divides by zero."""
    activations = noise(1, 1, 6, 4, 4).relu()
    activations[0, 0, 2:5] = 0
    activations.requires_grad_()
    (gradient,) = torch.autograd.grad(eigencam(activations, activations.detach()).sum(), activations)
    assert bool(gradient.isfinite().all()) and gradient.abs().max() > 0


# -- in the package ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "layer", "shape"), [(PlainCNN, "conv2", (3, 16, 12)), (VideoNet, "conv2", (3, 4, 12, 8))]
)
def test_batches_targets_and_chunks_are_as_one_by_one(make, layer: str, shape: tuple[int, ...]) -> None:
    task, images = ModelTask(seeded(make)), noise(2, *shape)

    def maps(rows: slice, targets: list[int], **options: int) -> Tensor:
        batch = task.prepare(images[rows])
        found = explain(task, batch, [classes(*targets)] * len(images[rows]), layers=[layer], methods=NAMES, **options)
        return torch.stack([torch.stack(list(one.maps.values())) for one in found])

    whole = maps(slice(None), [0, 3, 4])
    assert torch.equal(whole[:, 0, 0], whole[:, 0, 2]), "Eigen-CAM knows no target"
    assert not torch.allclose(whole[:, 1, 0], whole[:, 1, 2])
    for b in range(2):
        torch.testing.assert_close(maps(slice(b, b + 1), [0, 3, 4])[0], whole[b])
    for k, number in enumerate([0, 3, 4]):
        torch.testing.assert_close(maps(slice(None), [number])[:, :, 0], whole[:, :, k])
    torch.testing.assert_close(maps(slice(None), [0, 3, 4], memory=1), whole)
