"""Occlusion, Score-CAM and Ablation-CAM against captum, pytorch-grad-cam and torch-cam: the same where these are right;
where one is not what the paper says, in numbers. If one of the latter fails, the peer has been mended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmexplain.explainer import explain
from tests.models import ModelTask, PlainCNN, classes, noise, seeded

pytestmark = pytest.mark.peers

NUMBERS = (1, 3)


class FullSize(nn.Module):
    """Maps as large as the photo: nothing is upsampled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu2(self.conv2(self.relu1(self.conv1(x)))).amax((2, 3)))


def single(make: Any) -> nn.Module:
    model = seeded(make).float()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def ours(model: nn.Module, image: Tensor, method: str, layer: str | None = None, task: Any = ModelTask) -> Tensor:
    made = task(model, layer)
    (found,) = explain(made, made.prepare(image), [classes(*NUMBERS)], methods=[method])
    (value,) = found.maps.values()
    return value


def gradcam_weights(kind: Any, model: nn.Module, layer: str, image: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """pytorch-grad-cam's weights ``[C]`` and the activations ``[C, h, w]`` that they are for."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = model.get_submodule(layer)
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        model(image)
    handle.remove()
    with kind(model, [module]) as peer:
        weights = peer.get_cam_weights(image, module, [ClassifierOutputTarget(number)], seen[0].numpy(), None)
    return torch.as_tensor(weights[0]), seen[0][0]


def combined(weights: Tensor, maps: Tensor) -> Tensor:
    return torch.einsum("c,chw->hw", weights, maps).relu()


def apart(found: Tensor, expected: Tensor) -> float:
    """Largest difference of two maps that are scaled to a maximum of one."""
    return float((found / found.max().clamp(min=1e-12) - expected / expected.max().clamp(min=1e-12)).abs().max())


@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (4, 2), (6, 5)])
def test_occlusion_as_captum(patch: int, stride: int) -> None:
    from captum.attr import Occlusion

    model, image = single(PlainCNN), noise(1, 3, 16, 16).float()
    found = ours(model, image, f"occlusion(patch={patch}, stride={stride})")
    for k, number in enumerate(NUMBERS):
        expected = Occlusion(model).attribute(image, (3, patch, patch), (3, stride, stride), baselines=0, target=number)
        torch.testing.assert_close(found[k], expected[0, 0], rtol=1e-4, atol=1e-5)


def test_the_last_patch_of_captum_is_a_smaller_one() -> None:
    """Where the stride does not lead to the edge captum's last patch hangs over it and covers fewer pixels; ours is
    moved back, so that all are of one size."""
    from captum.attr import Occlusion

    model, image = single(PlainCNN), noise(1, 3, 16, 16).float()
    found = ours(model, image, "occlusion(patch=6, stride=4)")
    expected = Occlusion(model).attribute(image, (3, 6, 6), (3, 4, 4), baselines=0, target=NUMBERS[0])[0, 0]
    torch.testing.assert_close(found[0, :10, :10], expected[:10, :10], rtol=1e-4, atol=1e-5)
    assert (found[0] - expected).abs().max() > 0.01 * expected.abs().max()


@pytest.mark.parametrize("layer", ["conv2", "relu1"])
def test_score_cam_as_pytorch_grad_cam_where_nothing_is_upsampled(layer: str) -> None:
    from pytorch_grad_cam import ScoreCAM

    model, image = single(FullSize), noise(1, 3, 12, 12).float()
    found = ours(model, image, "scorecam", layer)
    for k, number in enumerate(NUMBERS):
        expected = combined(*gradcam_weights(ScoreCAM, model, layer, image, number))
        torch.testing.assert_close(found[k], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["conv2", "relu1"])
def test_score_cam_as_torchcam_where_nothing_is_upsampled(layer: str) -> None:
    from torchcam.methods import ScoreCAM

    model, image = single(FullSize), noise(1, 3, 12, 12).float()
    found = ours(model, image, "scorecam", layer)
    with ScoreCAM(model, layer) as peer:
        for k, number in enumerate(NUMBERS):
            (raw,) = peer(number, model(image), normalized=False)
            torch.testing.assert_close(found[k], raw[0].detach(), rtol=1e-4, atol=1e-5)


def test_score_cam_of_peers_masks_the_normalised_tensor() -> None:
    """Zero in the model's input is the mean colour; the paper darkens the photo. It matters once black is not zero."""
    from pytorch_grad_cam import ScoreCAM

    class Dark(ModelTask):
        def black(self) -> list[float]:
            return [-2.1, -2.0, -1.8]  # of the usual statistics of ImageNet

    model, image = single(FullSize), noise(1, 3, 12, 12).float()
    found = ours(model, image, "scorecam", "conv2", Dark)
    differences = [
        apart(found[k], combined(*gradcam_weights(ScoreCAM, model, "conv2", image, number)))
        for k, number in enumerate(NUMBERS)
    ]
    assert max(differences) > 0.05


def test_score_cam_of_pytorch_grad_cam_gives_constant_channels_a_weight() -> None:
    """A channel that is the same everywhere masks nothing. There it counts as a photo that is masked altogether, takes
    its share of the softmax, and adds a constant to the map."""
    from pytorch_grad_cam import ScoreCAM

    model, image = single(FullSize), noise(1, 3, 12, 12).float()
    with torch.no_grad():
        model.conv2.weight[2] = 0
        model.conv2.bias[2] = 1.0
    weights, maps = gradcam_weights(ScoreCAM, model, "conv2", image, NUMBERS[0])
    assert maps[2].max() == maps[2].min() and weights[2] > 0.01
    without = torch.cat([weights[:2], weights[3:]])
    expected = combined(without / without.sum(), torch.cat([maps[:2], maps[3:]]))
    torch.testing.assert_close(ours(model, image, "scorecam", "conv2")[0], expected, rtol=1e-4, atol=1e-5)


def test_masks_of_peers_where_maps_are_upsampled() -> None:
    """pytorch-grad-cam aligns the corners of map and photo, which moves every mask towards the middle; torch-cam scales
    to 0..1 before it upsamples, so that its masks need not reach 1. The paper upsamples, then scales."""
    from pytorch_grad_cam import ScoreCAM as AlignedCAM
    from torchcam.methods import ScoreCAM as ScaledCAM

    model, image = single(PlainCNN), 3 * noise(1, 3, 16, 16).float()
    # Gains tell small differences of scores apart.
    with torch.no_grad():
        model.fc2.weight.mul_(20)
    found = ours(model, image, "scorecam", "conv1")
    weights, maps = gradcam_weights(AlignedCAM, model, "conv1", image, NUMBERS[0])
    assert apart(found[0], combined(weights, maps)) > 0.01
    with ScaledCAM(model, "conv1") as peer:
        (raw,) = peer(NUMBERS[0], model(image), normalized=False)
    assert apart(found[0], raw[0].detach()) > 0.01


def positive(model: nn.Module, by: float) -> nn.Module:
    with torch.no_grad():
        model.fc.bias.add_(by)
    return model


def test_ablation_cam_as_pytorch_grad_cam_behind_a_relu() -> None:
    from pytorch_grad_cam import AblationCAM

    model, image = positive(single(FullSize), 5.0), noise(1, 3, 12, 12).float()
    found = ours(model, image, "ablationcam", "relu2")
    assert found.amax((1, 2)).min() > 0
    for k, number in enumerate(NUMBERS):
        weights, maps = gradcam_weights(AblationCAM, model, "relu2", image, number)
        torch.testing.assert_close(found[k], combined(weights, maps), rtol=1e-3, atol=1e-5)


def test_ablation_cam_of_pytorch_grad_cam_without_a_relu_is_not_the_papers() -> None:
    """Where a layer puts out negative values it "ablates" with the minimum less ten million instead of zero. A ReLU
    hides that; between two linear layers the scores are of an input that no model ever sees."""
    from pytorch_grad_cam import AblationCAM

    model, image = positive(single(FullSize), 5.0), noise(1, 3, 12, 12).float()
    model.relu1 = nn.Identity()
    weights, maps = gradcam_weights(AblationCAM, model, "conv1", image, NUMBERS[0])
    with torch.no_grad():
        whole = model(image)[0, NUMBERS[0]]
        expected = []
        for channel in range(4):
            kept = maps.clone()
            kept[channel] = 0
            rest = model.fc(model.relu2(model.conv2(model.relu1(kept[None]))).amax((2, 3)))
            expected.append((whole - rest[0, NUMBERS[0]]) / whole)
    torch.testing.assert_close(
        ours(model, image, "ablationcam", "conv1")[0], combined(torch.stack(expected), maps), rtol=1e-3, atol=1e-5
    )
    assert torch.stack(expected).abs().max() < 1 and weights.abs().max() > 1e4


def test_ablation_cam_of_pytorch_grad_cam_turns_evidence_round_where_the_score_is_negative() -> None:
    from pytorch_grad_cam import AblationCAM

    image = noise(1, 3, 12, 12).float()
    above, below = positive(single(FullSize), 5.0), positive(single(FullSize), -5.0)
    found = [ours(model, image, "ablationcam", "relu2")[0] for model in (above, below)]
    theirs = [gradcam_weights(AblationCAM, model, "relu2", image, NUMBERS[0])[0] for model in (above, below)]
    assert apart(*found) < 1e-3, "an offset of the score changes the scale of the map alone"
    assert (theirs[0].sign() == -theirs[1].sign())[theirs[0] != 0].all()
