"""Maps against values worked by hand, the papers' own numbers, slow formulas, and derivatives taken by autograd."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from mmexplain.engine import run
from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.methods import (
    cam,
    counterfactual_gradcam,
    gradcam,
    gradcam_pp,
    gradcam_pp_normalized,
)
from tests import slow
from tests.models import (
    GapLinear,
    GapMLP,
    Head,
    ModelTask,
    OneConv,
    PlainCNN,
    ResidualNet,
    VideoNet,
    class_problem,
    classes,
    noise,
    seeded,
)

ARANGE = torch.arange(16.0).view(1, 1, 4, 4)


def maps_of(model: nn.Module, layer: str, *methods: str, image: Tensor = ARANGE, targets=((0,),)) -> list[Tensor]:
    task = ModelTask(model)
    found = explain(task, task.prepare(image), [classes(*row) for row in targets], layers=[layer], methods=methods)
    return [found[0].maps[key] for key in found[0].maps]


# -- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradcam_of_captums_net(inplace, frozen):
    """conv1 puts out [-5 4; 31 40] and [-30 -21; 6 15], the gradients behind relu1 are all 1 and [1 -1; -1 -1]."""
    model = OneConv(inplace).requires_grad_(not frozen)
    (found,) = maps_of(model, "conv1", "gradcam")
    torch.testing.assert_close(found[0], torch.tensor([[11.25, 13.5], [20.25, 22.5]]))
    (found,) = maps_of(model, "relu1", "gradcam")
    torch.testing.assert_close(found[0], torch.tensor([[0, 4], [28, 32.5]]))


def test_the_authors_figure_2():
    """Three objects of 15, 4 and 2 of 80 places, gradient 1 where the activation is 1: the weight of each channel."""
    activations = torch.zeros(1, 1, 3, 80)
    for channel, (start, stop) in enumerate([(0, 15), (20, 24), (30, 32)]):
        activations[:, :, channel, start:stop] = 1
    activations = activations.view(1, 1, 3, 8, 10)
    for method, expected in [
        (gradcam, [15 / 80, 4 / 80, 2 / 80]),
        (gradcam_pp, [15 / 17, 4 / 6, 2 / 4]),
        (gradcam_pp_normalized, [1.0, 1.0, 1.0]),
    ]:
        found = method(activations, activations.clone())[0, 0].flatten()
        torch.testing.assert_close(found[[0, 20, 30]], torch.tensor(expected))
        assert found[[15, 25, 40]].tolist() == [0, 0, 0]


def test_channel_weights_of_a_toy_of_four_channels():
    """y = ½ ΣA², so that g = A: a full channel, a half, one that speaks against the class, and a single place."""
    gradients = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [-1.5, 0, 0, 0], [0.5, 0, 0, 0]]).view(1, 1, 4, 2, 2)
    total = torch.tensor([4, 2, 1.5, 0.5])
    # Activations that show one channel's weight each: a map of them alone.
    for channel in range(4):
        activations = torch.zeros(1, 1, 4, 2, 2)
        activations[0, 0, channel] = total[channel] / 4
        value = total[channel] / 4
        for method, expected in [
            (gradcam, [1, 0.5, -0.375, 0.125]),
            (gradcam_pp, [2 / 3, 1 / 2, 0, 2 / 9]),
            (gradcam_pp_normalized, [1, 1, 0, 0.5]),
        ]:
            found = method(activations, gradients, relu=False)
            torch.testing.assert_close(found, (expected[channel] * value).expand(1, 1, 2, 2))
        absolute = gradcam(activations, gradients, absolute=True)
        torch.testing.assert_close(absolute, ([1, 0.5, 0.375, 0.125][channel] * value).expand(1, 1, 2, 2))


def test_ablations():
    activations, gradients = noise(2, 1, 3, 4, 5), noise(2, 4, 3, 4, 5, seed=1)
    for b, k in itertools.product(range(2), range(4)):
        a, g = activations[b, 0], gradients[b, k]
        signed = slow.weighted_sum(g.mean((1, 2)).tolist(), a, relu=False)
        torch.testing.assert_close(gradcam(activations, gradients)[b, k], signed.clamp(min=0))
        torch.testing.assert_close(gradcam(activations, gradients, relu=False)[b, k], signed)
        torch.testing.assert_close(counterfactual_gradcam(activations, gradients)[b, k], (-signed).clamp(min=0))
        torch.testing.assert_close(
            gradcam(activations, gradients, absolute=True)[b, k], slow.weighted_sum(g.abs().mean((1, 2)).tolist(), a)
        )
        torch.testing.assert_close(
            gradcam(activations, gradients, pooling="max")[b, k], slow.weighted_sum(g.amax((1, 2)).tolist(), a)
        )


# -- against the formulas, number by number -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 2, 4)], ids=["photo", "clip"])
@pytest.mark.parametrize("rectified", [True, False], ids=["after a ReLU", "negative activations"])
def test_against_slow_formulas(shape, rectified):
    activations, gradients = noise(2, 1, *shape), noise(2, 3, *shape, seed=1)
    if rectified:
        activations = activations.relu()
    for b, k in itertools.product(range(2), range(3)):
        a, g = activations[b, 0], gradients[b, k]
        torch.testing.assert_close(gradcam(activations, gradients)[b, k], slow.gradcam(a, g))
        for normalize in (False, True):
            weights = slow.gradcam_pp_weights(a, g, score=1.7, normalize=normalize)
            found = gradcam_pp(activations, gradients, normalize_alpha=normalize, relu=False)[b, k]
            torch.testing.assert_close(found, slow.weighted_sum(weights, a, relu=False))


def test_gradcam_pp_where_the_exponential_is_differentiated():
    model, image = seeded(Head), noise(2, 3, 3, 3)
    rows = [classes(0, 3), classes(4, 1)]
    result = run(class_problem(model, image), rows, ["tap"], lambda _, a, g: {"map": gradcam_pp(a, g)})
    for b, row in enumerate(rows):
        for k, target in enumerate(row):

            def exponential(a: Tensor, target=target) -> Tensor:
                return model.after(a[None])[0, target.ids[0]].exp()

            expected = slow.gradcam_pp(exponential, image[b].relu())
            assert expected.max() > 0
            # exp(S) cancels from α and scales the map.
            found = result.reduced["tap"]["map"][b, k] * result.scores[b, k].double().exp()
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


# -- small numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1e-7, 1e-12, 1e-30])
def test_no_underflow(scale):
    """The ratio of channels does not depend on how small the gradients are; g² and g³ are zero in float32."""
    activations = noise(1, 1, 4, 3, 3).abs().float()
    gradients = noise(1, 1, 4, 3, 3, seed=1).float() * scale
    weights = slow.gradcam_pp_weights(activations[0, 0].double(), gradients[0, 0].double() / scale, 0)
    if scale <= 1e-7:  # there g ΣA is nothing beside 2, and α is one half
        weights = [(g.clamp(min=0).double() / scale / 2).sum().item() for g in gradients[0, 0]]
    else:
        weights = [w / scale for w in slow.gradcam_pp_weights(activations[0, 0].double(), gradients[0, 0].double(), 0)]
    expected = slow.weighted_sum(weights, activations[0, 0])
    torch.testing.assert_close(gradcam_pp(activations, gradients)[0, 0].double() / scale, expected, rtol=1e-5, atol=0)
    plain = slow.gradcam(activations[0, 0].double(), gradients[0, 0].double() / scale)
    torch.testing.assert_close(gradcam(activations, gradients)[0, 0].double() / scale, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """g = 2.2e-4 squared is a denormal in fp16 and cubed it is zero."""
    activations = noise(1, 1, 4, 3, 3).abs().to(dtype)
    gradients = (noise(1, 2, 4, 3, 3, seed=1) * 2.2e-4).to(dtype)
    for method in (gradcam, gradcam_pp, gradcam_pp_normalized, counterfactual_gradcam):
        found = method(activations, gradients)
        assert found.dtype == torch.float32
        expected = method(activations.double(), gradients.double())
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.max().item())
        assert found.amax() > 0


def test_denominator_at_zero_stays_finite():
    activations = torch.tensor([-2.0, -1.0]).view(1, 1, 1, 1, 2)
    gradients = torch.tensor([2 / 3, 0.0]).view(1, 1, 1, 1, 2)  # 2 + g ΣA = 0 in exact arithmetic
    for normalize in (False, True):
        assert torch.isfinite(gradcam_pp(activations, gradients, relu=False, normalize_alpha=normalize)).all()
    for method in (gradcam, gradcam_pp, gradcam_pp_normalized, cam):
        assert not method(activations, torch.zeros_like(gradients)).any()


def test_differentiable():
    a, g = noise(1, 1, 2, 2, 2).requires_grad_(), noise(1, 2, 2, 2, 2, seed=1).requires_grad_()
    for method in (gradcam, gradcam_pp, gradcam_pp_normalized):
        assert torch.autograd.gradcheck(lambda a, g, method=method: method(a, g, relu=False), (a, g))


# -- CAM ------------------------------------------------------------------------------------------------------------


def test_cam_is_the_weighted_sum_of_the_paper_and_gradcam_is_proportional_to_it():
    model, image = seeded(GapLinear), noise(2, 3, 16, 12)
    task = ModelTask(model)
    rows = [classes(0, 3), classes(4, 1)]
    found = explain(task, task.prepare(image), rows, layers=["features"], methods=["cam", "gradcam-no-relu", "gradcam"])
    with torch.no_grad():
        features = model.features(image)
    for b, row in enumerate(rows):
        by_name = {key.method: value for key, value in found[b].maps.items()}
        for k, target in enumerate(row):
            expected = (model.fc.weight[target.ids[0]].detach()[:, None, None] * features[b]).sum(0)
            torch.testing.assert_close(by_name["cam"][k], expected)
            torch.testing.assert_close(by_name["gradcam-no-relu"][k] * expected.numel(), expected)
            torch.testing.assert_close(by_name["gradcam"][k] * expected.numel(), expected.clamp(min=0))


@pytest.mark.parametrize(
    ("make", "layer", "size"),
    [
        (PlainCNN, "relu2", (16, 16)),
        (ResidualNet, "block2", (12, 12)),
        (GapLinear, "features.0", (16, 16)),
        (GapMLP, "features", (16, 16)),
        (VideoNet, "conv2", (4, 8, 8)),
    ],
)
def test_cam_refuses_another_head(make, layer, size):
    with pytest.raises(MethodError, match=r"CAM|'cam'.*use 'gradcam'"):
        maps_of(seeded(make), layer, "cam", image=noise(1, 3, *size))


def test_cam_looks_at_each_target_for_itself():
    activations, gradients = torch.ones(1, 1, 2, 3, 3), torch.ones(1, 2, 2, 3, 3)
    gradients[0, 0] *= 1e6
    cam(activations, gradients)
    gradients[0, 1, 0, 1, 1] = 2
    with pytest.raises(MethodError, match="CAM is defined only"):
        cam(activations, gradients)
