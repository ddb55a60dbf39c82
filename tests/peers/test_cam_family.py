"""HiResCAM, LayerCAM, XGrad-CAM, Eigen-CAM and Finer-CAM beside pytorch-grad-cam and torch-cam: the same maps where
those are right, and in numbers where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmexplain.explainer import explain
from mmexplain.methods import eigencam, fused, layercam, xgradcam
from tests.models import ModelTask, classes, noise

pytestmark = pytest.mark.peers

CLASSES = (3, 7)


def resnet() -> tuple[nn.Module, tuple[str, ...]]:
    from torchvision.models import resnet18

    return resnet18(weights=None, num_classes=10), ("layer2", "layer4")


def efficientnet() -> tuple[nn.Module, tuple[str, ...]]:
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=10), ("blocks.2", "bn2")


@pytest.fixture(scope="module", params=[resnet, efficientnet], ids=lambda make: make.__name__)
def network(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, tuple[str, ...]]]:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, layers = request.param()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
            if hasattr(module, "inplace"):
                module.inplace = False  # peers save what a ReLU after the layer would overwrite
        yield model.eval(), layers


def photo() -> Tensor:
    return noise(1, 3, 64, 64).float()


def ours(model: nn.Module, layers: tuple[str, ...], *methods: str) -> dict[tuple[str, str], Tensor]:
    task = ModelTask(model)
    (found,) = explain(task, task.prepare(photo()), [classes(*CLASSES)], layers=layers, methods=methods)
    return {(key.layer, key.method): value for key, value in found.maps.items()}


def pytorch_grad_cam(method: str, model: nn.Module, layer: str, number: int, image: Tensor | None = None) -> Tensor:
    """Its raw map: before its ReLU, normalisation and resizing."""
    import pytorch_grad_cam as peers
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    image = photo() if image is None else image
    with getattr(peers, method)(model, [model.get_submodule(layer)]) as cam:
        # Eigen-CAM takes no gradients unless it is told to.
        cam.uses_gradients = True
        targets = [ClassifierOutputTarget(number)]
        cam(image, targets)
        store = cam.activations_and_grads
        a, g = store.activations[0].numpy(), store.gradients[0].numpy()
        raw = cam.get_cam_image(image, cam.target_layers[0], targets, a, g, False)
    return torch.from_numpy(raw[0])


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    scale = expected.abs().max()
    assert scale > 0
    assert (found - expected).abs().max() <= tolerance * scale


# -- the same --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "peer"), [("hirescam", "HiResCAM"), ("layercam", "LayerCAM"), ("xgradcam", "XGradCAM")]
)
def test_elementwise_as_pytorch_grad_cam(network: Any, method: str, peer: str) -> None:
    """Their ReLU comes after the raw map."""
    model, layers = network
    found = ours(model, layers, method)
    for layer in layers:
        for k, number in enumerate(CLASSES):
            raw = pytorch_grad_cam(peer, model, layer, number)
            expected = raw if method == "hirescam" else raw.relu()
            assert (found[layer, method][k] - expected).abs().max() <= 2e-5 * raw.abs().max()


@pytest.mark.parametrize(("method", "peer"), [("layercam", "LayerCAM"), ("xgradcam", "XGradCAM")])
def test_elementwise_as_torchcam(network: Any, method: str, peer: str) -> None:
    from torchcam import methods as peers

    model, layers = network
    found = ours(model, layers, method)
    for layer in layers:
        with getattr(peers, peer)(model, layer) as cam:
            for k, number in enumerate(CLASSES):
                (raw,) = cam(number, model(photo()), normalized=False)
                scale = max(raw.abs().max(), found[layer, method][k].abs().max())
                assert (found[layer, method][k] - raw[0]).abs().max() <= 2e-5 * scale


def test_finer_as_torchcam(network: Any) -> None:
    """The same classes and the plain mean."""
    from torchcam import methods as peers

    model, layers = network
    options = {"finercam(strength=0.6)": (0.6, 3), "finercam(classes=2)": (1.0, 2)}
    found = ours(model, layers, *options, "gradcam-no-relu")
    largest = 0.0
    for layer in layers:
        for name, (gamma, count) in options.items():
            with peers.FinerCAM(model, layer, gamma=gamma, num_references=count) as cam:
                for k, number in enumerate(CLASSES):
                    (raw,) = cam(number, model(photo()), normalized=False)
                    scale = found[layer, "gradcam-no-relu"][k].abs().max()
                    assert (found[layer, name][k] - raw[0]).abs().max() <= 1e-4 * scale
                    largest = max(largest, float(raw.max() / scale))
    assert largest > 0.1


# -- where they are not what the paper says ---------------------------------------------------------------------------


class Weighted(nn.Module):
    """Activations are the input after a ReLU; the logits are the given weights times them."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.tap = nn.ReLU()
        self.weight = nn.Parameter(weight)
        self.one = nn.Parameter(torch.ones(()))  # peers want a graph before the layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,vchw->bv", self.tap(x * self.one), self.weight)


def test_pytorch_grad_cam_centres_what_the_paper_does_not() -> None:
    """Both channels light up everywhere, and most on the left: the first component of the activations says so. Centred,
    the map sums to zero, half of it is negative and lost in a ReLU, and its sign is whatever LAPACK returns."""
    image = torch.tensor([[[4.0, 3, 2, 1]], [[3.0, 3, 2, 2]]])[None]
    raw = pytorch_grad_cam("EigenCAM", Weighted(torch.ones(2, 2, 1, 4)), "tap", 0, image)
    assert abs(float(raw.sum())) < 1e-5 and raw.min() < -0.5
    found = eigencam(image[:, None], image[:, None])[0, 0]
    x = image[0, :, 0].T.double()
    _, _, vh = torch.linalg.svd(x)
    assert_near(found[0].double(), (x @ vh[0]).abs())
    assert found.min() > 0.4 * found.max() and bool((found[0, 1:] < found[0, :-1]).all())
    # What it computes is the paper's formula of the centred activations.
    centred = x - x.mean(0)
    _, _, vh = torch.linalg.svd(centred)
    assert_near(raw[0].double().abs(), (centred @ vh[0]).abs())


def test_eigencam_of_centred_activations_is_that_of_pytorch_grad_cam(network: Any) -> None:
    """Apart from the centring and the sign there is no difference."""
    model, layers = network
    seen: list[Tensor] = []
    handle = model.get_submodule(layers[0]).register_forward_hook(lambda *args: seen.append(args[2].detach()))
    raw = pytorch_grad_cam("EigenCAM", model, layers[0], 0)
    handle.remove()
    centred = (seen[0] - seen[0].mean((2, 3), keepdim=True))[:, None]
    assert_near(eigencam(centred, centred)[0, 0].abs(), raw.abs(), 1e-3)
    weighted = pytorch_grad_cam("EigenGradCAM", model, layers[0], CLASSES[0])
    assert abs(float(weighted.mean())) < 1e-4 * weighted.abs().max()


@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_constants_in_the_denominator_take_weight_from_faint_channels(scale: float) -> None:
    """Two channels whose gradients are alike have the same weight, however faint they are; a constant of 1e-7 (1e-8 in
    torch-cam) counts where the activations are as small."""
    activations = torch.tensor([[[1.0, 0.0]], [[0.0, scale]]])[None]
    model = Weighted(torch.ones(2, 2, 1, 2))
    raw = pytorch_grad_cam("XGradCAM", model, "tap", 0, activations)
    found = xgradcam(activations[:, None], torch.ones(1, 1, 2, 1, 2))[0, 0]
    torch.testing.assert_close(found, torch.tensor([[1.0, scale]]), rtol=1e-5, atol=0)
    theirs = float(raw[0, 1]) / scale
    assert theirs == pytest.approx(1.0 if scale == 1 else 0.5, rel=1e-3)


def test_torchcam_scales_every_layer_before_it_fuses() -> None:
    """tanh on the coarsest map as well, where eq. 9 is for shallow layers, and on maps that are not divided by their
    maximum unless they were normalised: raw ones, which are small, all but vanish or saturate."""
    from torchcam.methods import LayerCAM

    shallow, deep = noise(1, 1, 4, 4).abs().float(), noise(1, 1, 2, 2, seed=1).abs().float()
    shallow, deep = shallow / shallow.max(), deep / deep.max()
    theirs = LayerCAM.fuse_cams([shallow[0], deep[0]])
    grown = nn.functional.interpolate(deep, size=(4, 4), mode="bilinear")
    found = fused([shallow, deep])
    torch.testing.assert_close(found, torch.maximum(torch.tanh(2 * shallow), grown))
    grown = nn.functional.interpolate(torch.tanh(2 * deep), size=(4, 4), mode="bilinear")
    torch.testing.assert_close(theirs, torch.maximum(torch.tanh(2 * shallow), grown)[0])
    tiny = LayerCAM.fuse_cams([shallow[0], 1e-4 * deep[0]])
    torch.testing.assert_close(tiny, torch.tanh(2 * shallow)[0])
    torch.testing.assert_close(fused([shallow, 1e-4 * deep]), found)


def test_pytorch_grad_cam_differentiates_the_weights_of_finer_cam() -> None:
    """Its weights are probabilities, and their own gradient joins in: the class that is compared with is no longer
    weighed by −w alone, and classes that were not chosen are weighed too."""
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    from mmexplain.methods.finer import _distinctive

    logits = torch.tensor([2.0, 1.5, 1.0, -3.0], requires_grad=True)
    theirs_score = FinerWeightedTarget(0, [1, 2], 1.0)(logits)
    ours_score = _distinctive(logits[None, None], [classes(0)], 2, 1.0, "softmax")
    assert ours_score.item() == pytest.approx(theirs_score.item())
    (theirs,) = torch.autograd.grad(theirs_score, logits)
    (found,) = torch.autograd.grad(ours_score.sum(), logits)
    share = torch.tensor([1.5, 1.0]).softmax(0)
    torch.testing.assert_close(found, torch.tensor([1.0, -share[0], -share[1], 0.0]))
    extra = share[0] * share[1] * 0.5
    torch.testing.assert_close(theirs, found + torch.tensor([0.0, -extra, extra, 0.0]), rtol=1e-4, atol=1e-6)


def test_a_class_of_the_same_logit_displaces_the_target_in_pytorch_grad_cam() -> None:
    """It takes the first of the classes sorted by distance for the target, which a tie decides."""
    from pytorch_grad_cam import FinerCAM

    weight = torch.zeros(3, 2, 1, 2)
    weight[0, 0] = weight[1, 1] = 1.0  # classes 0 and 1 have the same logit, from channels of their own
    image = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])[None]
    model = Weighted(weight)
    with FinerCAM(model, [model.tap]) as cam:
        theirs = torch.from_numpy(cam(image, None, target_idx=1, comparison_categories=[1]))[0]
    assert theirs[0, 0] > theirs[0, 1], "the map of class 0"
    task = ModelTask(model)
    (found,) = explain(task, task.prepare(image), [classes(1)], layers=["tap"], methods=["finercam(classes=1)"])
    (value,) = found.maps.values()
    assert value[0, 0, 0] == 0 and value[0, 0, 1] > 0
    raw = layercam(image[:, None], weight[1][None, None])[0, 0]
    assert bool((raw > 0).eq(value[0] > 0).all())
