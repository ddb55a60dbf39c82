"""Where a peer is not what the paper says, in numbers: if one of these fails, the peer has been mended."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmexplain.explainer import explain
from tests import slow
from tests.models import ModelTask, classes, noise

pytestmark = pytest.mark.peers


class TwoChannels(nn.Module):
    """Activations are the input after a ReLU; the logits are the given weights times the activations."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.tap = nn.ReLU()
        self.weight = nn.Parameter(weight)
        self.one = nn.Parameter(torch.ones(()))  # peers want a graph before the layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,vchw->bv", self.tap(x * self.one), self.weight)


def toy(scale: float) -> tuple[TwoChannels, Tensor]:
    """Two channels that light up in halves of the map; eq. 19 weighs the first about twice as much."""
    image = torch.zeros(1, 2, 2, 4)
    image[0, 0, :, :2] = 1
    image[0, 1, :, 2:] = 1
    weight = torch.zeros(2, 2, 2, 4)
    weight[0, 0, :, :] = 2 * scale
    weight[0, 1, :, :] = scale
    return TwoChannels(weight), image


def our_map(model: nn.Module, image: Tensor, method: str = "gradcam++") -> Tensor:
    task = ModelTask(model)
    (found,) = explain(task, task.prepare(image), [classes(0)], layers=["tap"], methods=[method])
    (value,) = found.maps.values()
    return value[0]


def test_gradcam_pp_of_pytorch_grad_cam_depends_on_the_size_of_the_gradients() -> None:
    from pytorch_grad_cam import GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    ratios: dict[str, list[float]] = {"ours": [], "theirs": [], "paper": []}
    for scale in (1e-1, 1e-3, 1e-4, 1e-6):
        model, image = toy(scale)
        map_ = our_map(model, image)
        ratios["ours"].append((map_[0, 0] / map_[0, 3]).item())
        with GradCAMPlusPlus(model, [model.tap]) as peer:
            peer(image.clone(), [ClassifierOutputTarget(0)])
            store = peer.activations_and_grads
            a, g = store.activations[0].numpy(), store.gradients[0].numpy()
            raw = peer.get_cam_image(image, model.tap, None, a, g)[0]
        ratios["theirs"].append(float(raw[0, 0] / raw[0, 3]))
        weights = slow.gradcam_pp_weights(image[0].double(), model.weight[0].detach().double(), 0)
        ratios["paper"].append(weights[0] / weights[1])
    assert ratios["ours"] == pytest.approx(ratios["paper"], rel=1e-5)
    assert ratios["paper"][-1] == pytest.approx(2, rel=1e-3)
    assert ratios["theirs"][0] == pytest.approx(ratios["paper"][0], rel=1e-3)
    assert ratios["theirs"][-1] > 3.5 * ratios["paper"][-1]


def test_gradcam_pp_of_torchcam_is_not_eq_19() -> None:
    from torchcam.methods import GradCAMpp

    model = TwoChannels(noise(2, 3, 4, 4, seed=1).float())
    image = noise(1, 3, 4, 4).abs().float()
    with GradCAMpp(model, "tap") as peer:
        (raw,) = peer(0, model(image), normalized=False)
    gradients = model.weight[0].detach()
    expected = slow.weighted_sum(slow.gradcam_pp_weights(image[0].double(), gradients.double(), 0), image[0])
    torch.testing.assert_close(our_map(model, image).double(), expected, rtol=1e-5, atol=1e-5)
    theirs = raw[0].double()
    # The division of α acts on a copy, and what is left is Σ ReLU(g)³.
    torch.testing.assert_close(theirs, slow.weighted_sum(gradients.relu().pow(3).sum((1, 2)).tolist(), image[0]))
    assert (theirs / theirs.max() - expected / expected.max()).abs().max() > 0.05


def test_an_in_place_relu_after_the_layer_spoils_what_peers_save() -> None:
    """VGG's way: captum and pytorch-grad-cam see the activation after the ReLU, not what the layer put out."""
    from captum.attr import LayerActivation
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    image = noise(1, 3, 8, 8).float()
    with GradCAM(model, [model[0]]) as peer:
        peer(image, [ClassifierOutputTarget(0)])
        assert peer.activations_and_grads.activations[0].min() == 0
    assert model[0](image).min() < -0.5
    assert LayerActivation(model, model[0]).attribute(image).min() < 0  # captum has mended it for activations
