"""Maps in pixels as captum makes them, fed with the same noise; and where torch-cam and captum are not the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from tests.models import ModelTask, class_problem, classes, noise
from tests.slow import activations_and_gradients, weighted_sum

pytestmark = pytest.mark.peers

CLASSES = (3, 7)
SIZE = 48
SAMPLES, SHARE = 5, 0.15


@pytest.fixture(scope="module")
def model() -> nn.Module:
    from torchvision.models import resnet18

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = resnet18(weights=None, num_classes=10).eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # peers save what an in-place ReLU would overwrite
    return network


def photo() -> Tensor:
    return noise(1, 3, SIZE, SIZE).float()


def ours(model: nn.Module, *methods: str, layers: list[str] | None = None) -> Explanation:
    task = ModelTask(model)
    (found,) = explain(task, task.prepare(photo()), [classes(*CLASSES)], layers=layers, methods=methods)
    return found


def map_of(explanation: Explanation, k: int, method: str | None = None) -> Tensor:
    return explanation.maps[explanation.key(method=method)][k]


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    scale = expected.abs().max()
    assert scale > 0
    assert (found - expected).abs().max() <= tolerance * scale


def draws() -> Tensor:
    """The samples that mmexplain draws with its default seed, ``[n, C, H, W]``."""
    seeds = torch.randint(2**62, (SAMPLES,), generator=torch.Generator().manual_seed(0)).tolist()
    return torch.stack(
        [torch.randn(photo().shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def spread() -> float:
    return SHARE * (photo().max() - photo().min()).item()


def test_saliency_and_input_x_gradient_as_captum(model: nn.Module) -> None:
    from captum.attr import InputXGradient, Saliency

    found = ours(model, "saliency", "input-x-gradient")
    for k, number in enumerate(CLASSES):
        expected = Saliency(model).attribute(photo().requires_grad_(), number).detach()[0]
        assert_near(map_of(found, k, "saliency"), expected.amax(0))
        expected = InputXGradient(model).attribute(photo().requires_grad_(), number).detach()[0]
        assert_near(map_of(found, k, "input-x-gradient"), expected.sum(0))


@pytest.mark.parametrize("baseline", ["grey", "black"])
def test_integrated_gradients_as_captum(model: nn.Module, baseline: str) -> None:
    from captum.attr import IntegratedGradients

    class Dark(ModelTask):
        def black(self) -> tuple[float, ...]:
            return (-2.0, -1.5, -1.0)

    task = Dark(model)
    name = f"integrated-gradients(steps=8, baseline='{baseline}')"
    (found,) = explain(task, task.prepare(photo()), [classes(*CLASSES)], methods=[name])
    start = torch.zeros(1, 3, 1, 1) if baseline == "grey" else torch.tensor(task.black()).view(1, 3, 1, 1)
    (told,) = (value for key, value in found.provenance.items() if key.startswith("integrated-gradients"))
    for k, number in enumerate(CLASSES):
        expected, delta = IntegratedGradients(model).attribute(
            photo(),
            start.expand_as(photo()),
            number,
            n_steps=8,
            method="gausslegendre",
            return_convergence_delta=True,
        )
        assert_near(map_of(found, k), expected.detach().float()[0].sum(0))
        with torch.no_grad():
            change = (model(photo()) - model(start.expand_as(photo())))[0, number].item()
        assert told["completeness_error"][k] == pytest.approx(abs(delta.item() / change), rel=1e-2, abs=1e-4)


def captums(model: nn.Module, kind: str, number: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    from captum.attr import NoiseTunnel, Saliency

    def drawn(mean: float, deviation: Tensor) -> Tensor:
        assert mean == 0 and deviation.shape == (SAMPLES, *photo().shape[1:])
        return draws() * deviation

    with monkeypatch.context() as patch:
        patch.setattr(torch, "normal", drawn)
        found = NoiseTunnel(Saliency(model)).attribute(
            photo(), nt_type=kind, nt_samples=SAMPLES, stdevs=spread(), target=number, abs=False
        )
    return found.detach()[0]


def test_smoothgrad_and_vargrad_as_captum(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """captum's variance has n below instead of n − 1."""
    names = [f"{name}(samples={SAMPLES})" for name in ("smoothgrad", "vargrad")]
    found = ours(model, *names)
    for k, number in enumerate(CLASSES):
        assert_near(map_of(found, k, names[0]), captums(model, "smoothgrad", number, monkeypatch))
        biased = captums(model, "vargrad", number, monkeypatch).sum(0)
        assert_near(map_of(found, k, names[1]), biased * SAMPLES / (SAMPLES - 1), 1e-4)


def test_captums_vargrad_can_be_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """E[g²] − E[g]² in float32 cancels where the gradient hardly varies; ours, updated after Welford, does not."""

    class Nearly(nn.Module):
        """The gradient is 10,000 + x."""

        def forward(self, x: Tensor) -> Tensor:
            return (10_000 * x + x.square() / 2).sum((1, 2, 3))[:, None].expand(-1, 10)

    theirs = captums(Nearly(), "vargrad", CLASSES[0], monkeypatch).sum(0)
    found = map_of(ours(Nearly(), f"vargrad(samples={SAMPLES})"), 0)
    exact = (draws().double() * spread()).var(0).sum(0)
    assert_near(found.double(), exact, 1e-2)
    theirs = theirs * SAMPLES / (SAMPLES - 1)
    assert (theirs - exact).abs().max() > 0.02 * exact.max()
    assert theirs.min() < 0 <= found.min()


def test_smoothgrad_campp_of_torchcam_takes_the_last_noisy_gradient(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are Σ α ReLU(g of the last sample) instead of Σ α ReLU(D₁). Besides, its α has Σ_ab A_ab D₃_ab where
    the paper has D₃_ij Σ_ab A_ab, with an eps, and its activations are those of the last sample too."""
    from torchcam.methods import SmoothGradCAMpp

    found = map_of(ours(model, f"smoothgrad-cam++(samples={SAMPLES})", layers=["layer3"]), 0)
    with SmoothGradCAMpp(model, "layer3", num_samples=SAMPLES, std=spread()) as peer:
        upcoming = iter(draws() * spread())
        monkeypatch.setattr(peer, "_distrib", Fed(upcoming))
        (raw,) = peer(CLASSES[0], model(photo()), normalized=False)
    theirs = raw[0].double()

    powers: list[Tensor] = []
    for drawn in draws():
        problem = class_problem(model, photo() + spread() * drawn)
        noisy, gradients, _ = activations_and_gradients(problem, [classes(CLASSES[0])], "layer3")
        last = gradients[0][0].double()
        powers.append(torch.stack([last, last**2, last**3]))
    mean, second, third = torch.stack(powers).mean(0)
    activations, _, _ = activations_and_gradients(class_problem(model, photo()), [classes(CLASSES[0])], "layer3")
    clean, last_seen = activations[0][0].double(), noisy[0][0].double()
    alpha = second / (2 * second + third * clean.sum((1, 2), keepdim=True))
    expected = weighted_sum((alpha * mean.relu()).sum((1, 2)).tolist(), clean)
    their_alpha = second / (2 * second + (third * clean).sum((1, 2), keepdim=True) + 1e-8)
    assert_near(found.double(), expected, 1e-4)
    assert_near(theirs, weighted_sum((their_alpha * last.relu()).sum((1, 2)).tolist(), last_seen), 1e-3)
    # What the last gradient alone does, everything else being equal.
    by_last = weighted_sum((alpha * last.relu()).sum((1, 2)).tolist(), clean)
    assert (by_last - expected).abs().max() > 0.05 * expected.max()


class Fed:
    """Stands for torch-cam's distribution: gives out what it was given, in turn."""

    def __init__(self, upcoming: Any) -> None:
        self.upcoming = upcoming

    def sample(self, size: torch.Size) -> Tensor:
        drawn: Tensor = next(self.upcoming)[None]
        assert drawn.shape == size
        return drawn
