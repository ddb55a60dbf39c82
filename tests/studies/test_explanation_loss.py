"""Maps that are trained through, against the papers' formulas, plain autograd and finite differences."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mmexplain.errors import InputError, MethodError
from mmexplain.studies.distil.explanation_loss import ExplanationLoss, alike, class_maps
from mmexplain.studies.distil.wide_resnet import WideResNet
from tests import slow
from tests.models import PlainCNN, ResidualNet, class_problem, classes, noise, seeded

TRUE = torch.tensor([3, 0, 4])


def photos():
    return noise(3, 3, 12, 12)


@pytest.mark.parametrize("method", ["gradcam-no-relu", "gradcam++", "gradcam++-normalized"])
def test_maps_of_a_batch_are_the_papers_for_each_photo(method):
    model = seeded(PlainCNN)
    problem = class_problem(model, photos())
    rows = [classes(number) for number in TRUE.tolist()]
    activations, gradients, scores = slow.activations_and_gradients(problem, rows, "relu2")
    found = class_maps(model.train(), photos(), TRUE, "relu2", method)
    for b in range(3):
        a, g = activations[b][0], gradients[b][0]
        if method == "gradcam-no-relu":
            expected = slow.gradcam(a, g, relu=False)
        else:
            weights = slow.gradcam_pp_weights(a, g, scores[b][0], normalize="normalized" in method)
            expected = slow.weighted_sum(weights, a)
        torch.testing.assert_close(found.maps[b], expected)
    torch.testing.assert_close(found.logits, model.eval()(photos()))
    assert found.maps.any() and not found.maps.requires_grad


def by_autograd(model, teacher, method):
    """The loss written straight from the paper: the model in eval mode, its gradient with a graph of its own."""

    def maps(network, kept):
        features = network.relu(network.bn(network.blocks(network.conv(photos()))))
        features = features.clone()
        score = network.fc(features.mean((2, 3)))[range(3), TRUE].sum()
        (g,) = torch.autograd.grad(score, features, create_graph=kept)
        if method == "gradcam":
            weights = g.mean((2, 3), keepdim=True)
        else:
            alpha = g**2 / (2 * g**2 + features.sum((2, 3), keepdim=True) * g**3)
            weights = (alpha * g.relu()).sum((2, 3), keepdim=True)
        return (weights * features).sum(1).relu()

    return (maps(model, True) - maps(teacher, False).detach()).pow(2).sum((1, 2)).mean()


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_gradients_of_all_weights_are_those_of_plain_autograd(method):
    student, teacher = seeded(WideResNet, 10, 1, 5), seeded(WideResNet, 10, 2, 5, seed=1)
    expected = torch.autograd.grad(by_autograd(student, teacher, method), list(student.parameters()), allow_unused=True)
    loss = ExplanationLoss("relu", method=method)(student.train(), teacher, photos(), TRUE)
    found = torch.autograd.grad(loss, list(student.parameters()), allow_unused=True)
    for (name, _), one, other in zip(student.named_parameters(), found, expected, strict=True):
        if name == "fc.bias":
            assert one is None and other is None
        else:
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
            assert one.any()
    assert all(weight.grad is None for weight in (*student.parameters(), *teacher.parameters()))


METHODS = ["gradcam", "gradcam++", "gradcam++-normalized", "gradcam-no-relu", "hirescam", "layercam", "xgradcam"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", ["raw", "unit"])
def test_second_order_gradients_are_those_of_finite_differences(method, scale):
    """Along one random direction through all weights, those before and those after the layer."""
    student, teacher = seeded(PlainCNN), seeded(PlainCNN, channels=6, seed=2)
    explanations = ExplanationLoss("conv2", method=method, scale=scale)
    wanted = class_maps(teacher, photos(), TRUE, "conv2", method).maps
    weights = list(student.parameters())
    directions = [noise(*weight.shape, seed=number) for number, weight in enumerate(weights)]

    def loss():
        return explanations.distance(explanations.student_maps(student, photos(), TRUE), wanted)

    found = torch.autograd.grad(loss(), weights, allow_unused=True)
    slope = sum((g * d).sum() for g, d in zip(found, directions, strict=True) if g is not None).item()
    step, values = 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, direction in zip(weights, directions, strict=True):
                weight += sign * step * direction
        values.append(loss().item())
    assert abs(slope) > 1e-6
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=2e-4)


def test_a_batch_is_the_mean_of_its_photos_and_models_come_back_as_they_were():
    student, teacher = seeded(PlainCNN).train(), seeded(ResidualNet)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    explanations = ExplanationLoss("relu2", "block2")
    state = torch.get_rng_state()
    together = explanations(student, teacher, photos(), TRUE)
    apart = [explanations(student, teacher, photos()[b : b + 1], TRUE[b : b + 1]) for b in range(3)]
    torch.testing.assert_close(together, torch.stack(apart).mean())
    assert student.training and student.dropout.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_distances_by_hand():
    wanted = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    raw, unit = ExplanationLoss("x"), ExplanationLoss("x", scale="unit")
    assert raw.distance(torch.tensor([[[2.0]], [[0.0]]]), wanted).item() == pytest.approx((1 + 0 + 1 + 4) / 2)
    # a map of twos has cosine (2 + 4 + 6 + 8) / (4 √30) with the first; two maps of zeros are as they should be
    cosine = 20 / (4 * 30**0.5)
    maps = torch.stack([torch.full((2, 2), 2.0), torch.zeros(2, 2)])
    assert unit.distance(maps, wanted).item() == pytest.approx((2 - 2 * cosine) / 2)
    assert unit.distance(7 * wanted, wanted).item() == pytest.approx(0, abs=1e-9)


def test_likeness_is_the_correlation_over_places():
    maps, others = noise(4, 5, 5), noise(4, 5, 5, seed=1)
    others[1] = 3 - 2 * maps[1]
    others[2] = 7.0
    expected = [
        np.corrcoef(one.flatten(), other.flatten())[0, 1]
        for one, other in zip(maps, others, strict=True)
        if other.std()
    ]
    found = alike(maps, others)
    assert found[[0, 1, 3]].tolist() == pytest.approx(expected) and found[1].item() == pytest.approx(-1)
    assert found[2].isnan()
    # maps of half the size are enlarged
    assert alike(noise(2, 3, 3), noise(2, 6, 6, seed=2)).abs().max() < 1


def test_a_student_can_be_made_to_look_elsewhere():
    torch.manual_seed(0)
    student, teacher = WideResNet(10, 1, 5), WideResNet(10, 1, 5)
    explanations, seen = ExplanationLoss("relu", scale="unit"), photos().float()
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = explanations(student, teacher, seen, TRUE)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_with_cross_entropy_in_train_mode_both_gradients_add_up():
    student, teacher = seeded(PlainCNN).train(), seeded(PlainCNN, seed=1)
    student.dropout = nn.Identity()
    explanations, weights = ExplanationLoss("relu2"), list(student.parameters())

    def gradients(*terms):
        fresh = {"ce": lambda: functional.cross_entropy(student(photos()), TRUE)}
        fresh["maps"] = lambda: explanations(student, teacher, photos(), TRUE)
        return torch.autograd.grad(sum(fresh[term]() for term in terms), weights, allow_unused=True)

    student.norm.momentum = 0.0  # the running means stay, so that the terms can be had one by one
    both, first, second = gradients("ce", "maps"), gradients("ce"), gradients("maps")
    for one, a, b in zip(both, first, second, strict=True):
        torch.testing.assert_close(one, a if b is None else a + b)


@pytest.mark.parametrize("method", ["gradcam++-softmax", "gradcam-guided-relu", "eigencam", "occlusion", "saliency"])
def test_maps_that_cannot_be_trained_through_are_refused(method):
    with pytest.raises(MethodError, match=r"cannot be trained through; use 'gradcam\+\+'"):
        ExplanationLoss("relu", method=method)


def test_what_does_not_exist_is_refused():
    with pytest.raises(MethodError, match="gradcam"):
        ExplanationLoss("relu", method="gradcamm")
    with pytest.raises(InputError, match="raw, unit"):
        ExplanationLoss("relu", scale="max")
