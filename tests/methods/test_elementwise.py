"""HiResCAM, LayerCAM and XGrad-CAM against loops over single numbers, values worked by hand, and what they promise."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from mmexplain.explainer import explain
from mmexplain.methods import gradcam, hirescam, layercam, xgradcam
from tests.models import GapLinear, ModelTask, PlainCNN, VideoNet, classes, noise, seeded

METHODS = [hirescam, layercam, xgradcam]
NAMES = ["hirescam", "layercam", "xgradcam"]


def slow(name: str, activations: Tensor, gradients: Tensor) -> Tensor:
    """Each formula in float64, for ``[C, *S]``, one number after the other."""
    channels, places = len(activations), list(itertools.product(*map(range, activations.shape[1:])))
    found = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for k in range(channels):
        total = math.fsum(activations[(k, *place)].item() for place in places)
        weight = 0.0
        for place in places:
            a, g = activations[(k, *place)].item(), gradients[(k, *place)].item()
            if name == "hirescam":
                found[place] += g * a
            elif name == "layercam":
                found[place] += max(g, 0.0) * a
            elif total:
                weight += a / total * g
        for place in places:
            found[place] += weight * activations[(k, *place)].item()
    return found if name == "hirescam" else found.clamp(min=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 2, 4)], ids=["photo", "clip"])
@pytest.mark.parametrize("rectified", [True, False], ids=["after a ReLU", "negative activations"])
def test_against_slow_formulas(name: str, shape: tuple[int, ...], rectified: bool) -> None:
    activations, gradients = noise(2, 1, *shape), noise(2, 3, *shape, seed=1)
    if rectified:
        activations = activations.relu()
        activations[1, 0, 0] = 0  # a dead channel
    found = METHODS[NAMES.index(name)](activations, gradients)
    for b, k in itertools.product(range(2), range(3)):
        torch.testing.assert_close(found[b, k], slow(name, activations[b, 0], gradients[b, k]))


def test_two_channels_by_hand() -> None:
    activations = torch.tensor([[[1.0, 3.0]], [[2.0, 0.0]]])[None, None]
    gradients = torch.tensor([[[2.0, -1.0]], [[-3.0, 5.0]]])[None, None]
    assert hirescam(activations, gradients).tolist() == [[[[-4.0, -3.0]]]]
    assert hirescam(activations, gradients, relu=True).tolist() == [[[[0.0, 0.0]]]]
    assert layercam(activations, gradients).tolist() == [[[[2.0, 0.0]]]]
    # w = 1/4 · 2 − 3/4 · 1 = −1/4 and −3.
    assert xgradcam(activations, gradients, relu=False).tolist() == [[[[-6.25, -0.75]]]]
    assert not xgradcam(activations, gradients).any()


def test_a_channel_whose_activations_sum_to_zero_has_no_weight() -> None:
    activations = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])[None, None]
    gradients = torch.tensor([[[7.0, 7.0]], [[2.0, 4.0]]])[None, None]
    assert xgradcam(activations, gradients).tolist() == [[[[3.0, 3.0]]]]
    activations[0, 0, 0] = torch.tensor([[1.0, -1.0]])
    assert xgradcam(activations, gradients).tolist() == [[[[3.0, 3.0]]]]


@pytest.mark.parametrize("scale", [1e-3, 1e-9, 1e-25])
def test_xgradcam_of_faint_channels_keeps_their_weight(scale: float) -> None:
    """The weight is a mean of gradients: it does not depend on the size of the activations, nor do they underflow."""
    activations, gradients = noise(1, 1, 2, 3, 3).abs(), noise(1, 1, 2, 3, 3, seed=1) * scale
    expected = slow("xgradcam", activations[0, 0], gradients[0, 0] / scale)
    found = xgradcam(activations.float() * scale, gradients.float())[0, 0].double()
    if scale > 1e-20:
        torch.testing.assert_close(found / scale**2, expected, rtol=1e-5, atol=1e-6)
    found = xgradcam(activations.float(), gradients.float())[0, 0].double()
    torch.testing.assert_close(found / scale, expected, rtol=1e-5, atol=1e-6)


def test_hirescam_sums_to_the_score_where_a_linear_layer_follows() -> None:
    """Faithfulness, theorem of the paper: the map holds all of the score but the bias; Grad-CAM's is the same there."""
    model, image = seeded(GapLinear), noise(2, 3, 16, 12)
    task = ModelTask(model)
    found = explain(
        task, task.prepare(image), [classes(0, 3)] * 2, layers=["features"], methods=["hirescam", "gradcam-no-relu"]
    )
    for one in found:
        by_name = {key.method: value for key, value in one.maps.items()}
        total = by_name["hirescam"].sum((1, 2)) + model.fc.bias.detach()[[0, 3]]
        torch.testing.assert_close(total.float(), one.scores)
        torch.testing.assert_close(by_name["hirescam"], by_name["gradcam-no-relu"])


def test_xgradcam_is_gradcam_where_gradients_do_not_vary() -> None:
    activations = noise(2, 1, 3, 4, 4).abs()
    gradients = noise(2, 2, 3, 1, 1, seed=1).expand(-1, -1, -1, 4, 4)
    torch.testing.assert_close(xgradcam(activations, gradients), gradcam(activations, gradients))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(method, dtype: torch.dtype) -> None:
    activations = noise(1, 1, 40, 3, 3).abs().to(dtype)
    gradients = (noise(1, 2, 40, 3, 3, seed=1) * 2.2e-4).to(dtype)
    found = method(activations, gradients)
    expected = method(activations.double(), gradients.double())
    assert found.dtype == torch.float32 and found.abs().max() > 0
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("method", METHODS)
def test_differentiable(method) -> None:
    a, g = noise(1, 1, 2, 2, 2).abs().requires_grad_(), noise(1, 2, 2, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(method, (a, g))


@pytest.mark.parametrize(
    ("make", "layer", "shape"), [(PlainCNN, "conv2", (3, 16, 12)), (VideoNet, "conv2", (3, 4, 12, 8))]
)
def test_batches_targets_and_chunks_are_as_one_by_one(make, layer: str, shape: tuple[int, ...]) -> None:
    task, images = ModelTask(seeded(make)), noise(2, *shape)

    def maps(rows: slice, targets: list[int], **options: int) -> Tensor:
        batch = task.prepare(images[rows])
        found = explain(task, batch, [classes(*targets)] * len(images[rows]), layers=[layer], methods=NAMES, **options)
        assert [key.method for key in found[0].maps] == NAMES
        return torch.stack([torch.stack(list(one.maps.values())) for one in found])

    whole = maps(slice(None), [0, 3, 4])
    assert whole.flatten(3).abs().amax(3).min() > 0
    for b in range(2):
        torch.testing.assert_close(maps(slice(b, b + 1), [0, 3, 4])[0], whole[b])
    for k, number in enumerate([0, 3, 4]):
        torch.testing.assert_close(maps(slice(None), [number])[:, :, 0], whole[:, :, k])
    torch.testing.assert_close(maps(slice(None), [0, 3, 4], memory=1), whole)


def test_maps_can_be_trained_through() -> None:
    task = ModelTask(seeded(PlainCNN))
    (found,) = explain(
        task, task.prepare(noise(1, 3, 8, 8)), [classes(1)], layers=["conv2"], methods=NAMES, create_graph=True
    )
    for value in found.maps.values():
        (gradient,) = torch.autograd.grad(value.sum(), task.model.conv1.weight, retain_graph=True)
        assert gradient.abs().max() > 0
