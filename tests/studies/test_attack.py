"""Targeted PGD against optima worked by hand and a loop written from the paper; noise; pixels in a model's input."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmexplain.errors import InputError
from mmexplain.preprocess import Preprocess
from mmexplain.studies.robustness.attack import RELATIVE_STEP, Pixels, TargetedPGD
from mmexplain.tasks.classification.task import Classifier
from tests.evaluate.objects import colours
from tests.models import PlainCNN, seeded

NORMALISED = Preprocess(resize=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), scale=2.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def photos(count=3, side=16):
    drawn = torch.randint(0, 256, (count, side, side, 3), generator=generator(5), dtype=torch.uint8)
    return [Image.fromarray(pixels.numpy()) for pixels in drawn]


def convolutional(preprocess=NORMALISED):
    """Random weights in float64, whose logits are far enough apart to be sure of a class."""
    model = seeded(PlainCNN)
    with torch.no_grad():
        model.fc2.weight.mul_(8)
    return Classifier(model, preprocess, list("abcde"), model_id="random")


def test_pixels_of_a_normalised_input():
    task = convolutional()
    pixels = Pixels.of(task)
    assert pixels.black.flatten().tolist() == pytest.approx(NORMALISED.black)
    white = [(1 - mean) / std * 2 for mean, std in zip(NORMALISED.mean, NORMALISED.std, strict=True)]
    assert pixels.white.flatten().tolist() == pytest.approx(white)
    files = photos()
    images = task.prepare(files).inputs["image"]
    read = pixels.read(images)
    own = torch.stack([torch.from_numpy(np.array(file)).permute(2, 0, 1) for file in files]) / 255
    torch.testing.assert_close(read, own.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(pixels.write(read), images, atol=1e-5, rtol=0)
    linf, l2 = pixels.distances(pixels.write(read.clamp(0.25, 0.75)), images)
    apart = (read.clamp(0.25, 0.75) - read).flatten(1)
    torch.testing.assert_close(linf, apart.abs().max(1).values, atol=1e-6, rtol=0)
    torch.testing.assert_close(l2, (apart**2).sum(1).sqrt(), atol=1e-5, rtol=0)


def test_a_linear_model_is_taken_to_the_corner_of_the_ball():
    """Of a linear model every gradient has one sign: each pixel ends at ε, or at black or white if these are nearer."""
    task = colours()
    images = task.prepare([Image.new("RGB", (32, 32), colour) for colour in ((10, 200, 250), (128, 0, 128))])
    images = images.inputs["image"]
    found = TargetedPGD(epsilon=0.1).attack(task, images, [task.target("blue")] * 2, generator())
    corner = images.clone()
    corner[:, :2] -= 0.1
    corner[:, 2] += 0.1
    torch.testing.assert_close(found.images, corner.clamp(0, 1), atol=1e-6, rtol=0)
    logits = corner.clamp(0, 1).mean((2, 3))
    torch.testing.assert_close(found.probability, logits.softmax(1)[:, 2], atol=1e-6, rtol=0)
    assert found.steps.tolist() == [40, 40] and not found.reached.any()


def by_the_paper(model, preprocess, image, target, attack, start):
    """One photo, one step after the other."""
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (preprocess.mean, preprocess.std)
    )
    clean = image / preprocess.scale * std + mean
    x = (clean + attack.epsilon * (2 * start.double() - 1)).clamp(0, 1)
    for number in range(attack.steps + 1):
        x.requires_grad_()
        loss = nn.functional.cross_entropy(model(((x - mean) / std * preprocess.scale)[None]), torch.tensor([target]))
        if loss.neg().exp() > attack.confidence or number == attack.steps:
            return x.detach(), number
        (gradient,) = torch.autograd.grad(loss, x)
        x = x.detach() - RELATIVE_STEP * attack.epsilon / attack.steps * gradient.sign()
        x = torch.max(torch.min(x, clean + attack.epsilon), clean - attack.epsilon).clamp(0, 1)
    raise AssertionError


def test_against_a_loop_written_from_the_paper():
    task, attack = convolutional(), TargetedPGD(epsilon=0.3, confidence=0.9, steps=25)
    images = task.prepare(photos()).inputs["image"]
    targets = [task.target(name) for name in "bca"]
    found = attack.attack(task, images, targets, generator(1))
    starts = torch.rand(images.shape, generator=generator(1))
    read = Pixels.of(task).read(found.images)
    for number, target in enumerate(targets):
        expected, steps = by_the_paper(task.model, NORMALISED, images[number], target.ids[0], attack, starts[number])
        torch.testing.assert_close(read[number], expected, atol=1e-5, rtol=0)
        assert found.steps[number] == steps
    assert found.reached.any() and len(set(found.steps.tolist())) > 1, "photos stop one by one"


def test_what_is_reached_holds_and_stays_in_the_ball():
    task, attack = convolutional(), TargetedPGD(epsilon=0.3, confidence=0.9, steps=25)
    images = task.prepare(photos()).inputs["image"]
    found = attack.attack(task, images, [task.target("b")] * 3, generator(2))
    probability = task.model(found.images).softmax(1)[:, 1].float()
    torch.testing.assert_close(found.probability, probability.detach(), atol=1e-5, rtol=0)
    assert found.reached.tolist() == [value > 0.9 for value in probability.tolist()]
    linf, _ = Pixels.of(task).distances(found.images, images)
    assert (linf <= 0.3 + 1e-6).all()
    read = Pixels.of(task).read(found.images)
    assert read.min() >= 0 and read.max() <= 1
    again = attack.attack(task, images, [task.target("b")] * 3, generator(2))
    assert torch.equal(again.images, found.images)
    assert not torch.equal(attack.attack(task, images, [task.target("b")] * 3, generator(3)).images, found.images)


def test_an_input_that_is_upside_down():
    """Where white is less than black in the model's input, up is down."""
    task = colours()
    task.preprocess = Preprocess(resize=(32, 32), scale=-1.0)
    task.model.fc.weight.data.neg_()  # and so red is red again
    images = task.prepare([Image.new("RGB", (32, 32), (200, 100, 50))]).inputs["image"]
    found = TargetedPGD(epsilon=0.1).attack(task, images, [task.target("blue")], generator())
    change = (Pixels.of(task).read(found.images) - Pixels.of(task).read(images)).mean((0, 2, 3))
    assert change.tolist() == pytest.approx([-0.1, -0.1, 0.1], abs=1e-6)


def test_the_model_comes_back_as_it_was():
    task = convolutional()
    task.model.train()
    task.model.norm.eval()
    task.model.conv1.weight.requires_grad_(False)
    task.model.fc1.weight.grad = torch.ones_like(task.model.fc1.weight)
    before = copy.deepcopy(task.model.state_dict())
    flags = [(module.training, [p.requires_grad for p in module.parameters()]) for module in task.model.modules()]
    state = torch.get_rng_state()
    images = task.prepare(photos(1)).inputs["image"]
    TargetedPGD(steps=2).attack(task, images, [task.target("b")], generator())
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert flags == [(m.training, [p.requires_grad for p in m.parameters()]) for m in task.model.modules()]
    assert [p.grad is not None for p in task.model.parameters()].count(True) == 1
    assert (task.model.fc1.weight.grad == 1).all() and torch.equal(torch.get_rng_state(), state)


def test_noise_is_uniform_in_its_bounds():
    task = convolutional()
    images = task.prepare([Image.new("RGB", (64, 64), (128, 128, 128)), Image.new("RGB", (64, 64))]).inputs["image"]
    pixels = Pixels.of(task)
    noise = pixels.read(pixels.noisy(images, torch.tensor([0.1, 0.2]), generator())) - pixels.read(images)
    assert 0.098 < noise[0].abs().max() <= 0.1 + 1e-6 and float(noise[0].mean()) == pytest.approx(0, abs=0.01)
    assert float(noise[0].std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert noise[1].min() == 0 and (noise[1] == 0).float().mean() == pytest.approx(0.5, abs=0.06), "black stays black"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epsilon": 0}, "epsilon=0"),
        ({"epsilon": 8}, "epsilon=8: pixels run from 0 to 1"),
        ({"confidence": 1.0}, "confidence=1"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_options_out_of_range(options, told):
    with pytest.raises(InputError, match=told):
        TargetedPGD(**options)
