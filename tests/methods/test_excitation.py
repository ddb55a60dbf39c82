"""Excitation backprop against loops over single units, its conservation of probability, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.targets import Target
from tests.models import (
    Captioner,
    GapLinear,
    ModelTask,
    PlainCNN,
    ResidualNet,
    TokenNet,
    VideoNet,
    classes,
    noise,
    seeded,
)

NAMES = ("excitation-backprop", "c-mwp")


def maps(model: nn.Module, images: Tensor, layer: str, targets: Sequence[int] = (1, 3), **options: Any) -> Tensor:
    """``[B, 2, K, *S]``: MWP and c-MWP."""
    task = ModelTask(model)
    rows = [classes(*targets)] * len(images)
    found = explain(task, task.prepare(images), rows, layers=[layer], methods=NAMES, **options)
    return torch.stack([torch.stack([one.maps[MapKey(layer, name)] for name in NAMES]) for one in found])


# -- the paper's sums, one unit at a time ----------------------------------------------------------------------------


def down(weights: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Eqs 1 and 4-5: P(a_j) = Σ_i P(a_j | a_i) P(a_i), P(a_j | a_i) = x_j w_ij / Σ_k x_k w_ik over w > 0. ``weights``
    ``[above, below]``."""
    found, x, p = [0.0] * len(below), below.tolist(), above.tolist()
    for i, row in enumerate(weights.tolist()):
        parents = [j for j, weight in enumerate(row) if weight > 0 and x[j] > 0]
        total = sum(row[j] * x[j] for j in parents)
        for j in parents:
            found[j] += row[j] * x[j] / total * p[i]
    return torch.tensor(found, dtype=torch.float64)


def matrix_of(layer: Any, shape: tuple[int, ...]) -> Tensor:
    """A linear layer on ``shape`` as a matrix, without its bias, by its answers to each unit alone."""
    size = torch.Size(shape).numel()
    zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    units = torch.eye(size, dtype=torch.float64).view(size, *shape)
    return torch.stack([layer(unit[None]).flatten() - zero for unit in units], 1)


def slow(model: PlainCNN, image: Tensor, target: int, sign: int = 1) -> tuple[Tensor, Tensor]:
    """P over the units of ``relu2`` and ``relu1`` of a PlainCNN; ``sign`` −1 for the dual unit."""
    with torch.no_grad():
        first = F.relu(model.conv1(image[None]))[0]
        normed = lambda x: model.norm(model.conv2(x))  # noqa: E731
        second = F.relu(normed(first[None]))[0]
        pooled = F.adaptive_avg_pool2d(second, 4).flatten()
        hidden = F.relu(model.fc1(pooled))
        unit = torch.zeros(5, dtype=torch.float64)
        unit[target] = 1
        p = down(sign * model.fc2.weight, hidden, unit)
        p = down(model.fc1.weight, pooled, p)
        p = down(matrix_of(lambda x: F.adaptive_avg_pool2d(x, 4), second.shape), second.flatten(), p)
        upper = p.view_as(second)
        lower = down(matrix_of(normed, first.shape), first.flatten(), p).view_as(first)
    return upper, lower


def test_against_a_loop_over_units() -> None:
    """Convolution with batch norm folded in, average pooling, linear layers; half of the norm's scales negative."""
    model, images = seeded(PlainCNN), noise(2, 3, 14, 12)
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([1.0, -0.7, 0.5, -1.5, 2.0, 0.3]))
        model.norm.bias.copy_(torch.linspace(-1, 1, 6))
    found = {layer: maps(model, images, layer) for layer in ("relu1", "relu2", "norm")}
    for b, image in enumerate(images):
        for k, target in enumerate((1, 3)):
            won, lost = slow(model, image, target), slow(model, image, target, -1)
            for layer, one, other in zip(("relu2", "relu1"), won, lost, strict=True):
                assert one.sum() > 0.99 and other.sum() > 0.99
                torch.testing.assert_close(found[layer][b, 0, k], one.sum(0))
                torch.testing.assert_close(found[layer][b, 1, k], (one.sum(0) - other.sum(0)).clamp(min=0))
    # What is before a ReLU has what is behind it.
    torch.testing.assert_close(found["norm"], found["relu2"])


def test_two_units_by_hand() -> None:
    """x = (1, 3); w = (2, 1) and −4 beside: P = (2/5, 3/5, 0). The dual unit's only parent is the third."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tap = nn.ReLU()
            self.fc = nn.Linear(3, 1)
            with torch.no_grad():
                self.fc.weight.copy_(torch.tensor([[2.0, 1.0, -4.0]]))
                self.fc.bias.fill_(-100)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.tap(x).flatten(1))

    image = torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 1, 3)
    found = maps(Net(), image, "tap", (0,))
    torch.testing.assert_close(found[0, 0, 0, 0], torch.tensor([0.4, 0.6, 0.0]))
    torch.testing.assert_close(found[0, 1, 0, 0], torch.tensor([0.4, 0.6, 0.0]))


def test_a_sum_of_branches_shares_out() -> None:
    """z = a + b with a = (3, −1) and b = (1, 2): P goes to a as 3/4 and 0, to b as 1/4 and 1, where a plain gradient
    would hand it down twice."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tap, self.fc = nn.ReLU(), nn.Linear(2, 1, bias=False)
            self.a, self.b = nn.Conv2d(2, 1, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)
            with torch.no_grad():
                self.a.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
                self.b.weight.copy_(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1))
                self.fc.weight.fill_(1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.tap(x)
            total = self.a(x)
            total += self.b(x)
            return self.fc(F.relu(total).flatten(1))

    image = torch.tensor([[3.0, 0.0], [1.0, 2.0]]).view(1, 2, 1, 2)
    model = Net()
    task = ModelTask(model)
    (found,) = explain(
        task, task.prepare(image), [classes(0)], layers=["a", "b", "tap"], methods=["excitation-backprop"]
    )
    shares = [found.maps[MapKey(layer, "excitation-backprop")][0, 0].tolist() for layer in ("a", "b", "tap")]
    # z = (4, 2) wins with 2/3 and 1/3.
    torch.testing.assert_close(torch.tensor(shares), torch.tensor([[0.5, 0.0], [1 / 6, 1 / 3], [2 / 3, 1 / 3]]))


def spread(model: nn.Module) -> nn.Module:
    """Norms with scales of both signs, so that folding matters; no biases that leave a winner without a parent."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(generator=generator)
            module.bias.data.zero_()
            module.running_mean.zero_()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.data.zero_()
    return model


def resnet() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=5)


def vgg() -> nn.Module:
    from torchvision.models import VGG
    from torchvision.models.vgg import make_layers

    model = VGG(make_layers([8, "M", 8, "M", 16, "M"], batch_norm=True), num_classes=5)
    model.classifier = nn.Sequential(nn.Linear(16 * 49, 12), nn.ReLU(True), nn.Dropout(), nn.Linear(12, 5))
    return model


def googlenet() -> nn.Module:
    from torchvision.models import googlenet

    return googlenet(num_classes=5, aux_logits=False, init_weights=False, transform_input=True)


CONSERVED = [
    (lambda: ResidualNet(), ["stem", "block1", "block2"]),
    (lambda: GapLinear(), ["features.1", "features.2", "features.3"]),
    (resnet, ["relu", "layer1", "layer3", "layer4"]),
    (vgg, ["features.3", "features.11"]),
    (googlenet, ["conv2", "inception3a", "inception5b"]),
]


@pytest.mark.parametrize(("make", "layers"), CONSERVED)
def test_probability_is_conserved(make: Any, layers: list[str]) -> None:
    """Without biases every winner has a parent, and the map of every layer sums to 1; none is negative."""
    task = ModelTask(spread(seeded(make)))
    rows = [classes(0, 1, 2, 3, 4)] * 2
    found = explain(task, task.prepare(noise(2, 3, 64, 64)), rows, layers=layers, methods=["excitation-backprop"])
    for one in found:
        sums = torch.stack([value.flatten(1).sum(1) for value in one.maps.values()])
        assert sums.shape == (len(layers), 5)
        # A logit that nothing excites has none to hand down, at any layer.
        assert ((sums - 1).abs().lt(1e-9) | sums.eq(0)).all() and (sums > 0.5).any(1).all()
        torch.testing.assert_close(sums, sums[:1].expand_as(sums))
        assert min(value.min() for value in one.maps.values()) >= 0


def test_a_branch_and_its_skip_share_what_the_block_has() -> None:
    task = ModelTask(spread(seeded(resnet)))
    layers = ["layer2.0.bn2", "layer2.0.downsample", "layer2.0"]
    images = task.prepare(noise(1, 3, 64, 64))
    (found,) = explain(task, images, [classes(0, 1)], layers=layers, methods=["excitation-backprop"])
    branch, skip, block = found.maps.values()
    assert branch.sum() > 0.1 and skip.sum() > 0.1
    torch.testing.assert_close(branch + skip, block)


def test_folding_is_the_same_as_a_folded_network() -> None:
    model, images = spread(seeded(vgg)), noise(2, 3, 64, 64)
    expected = maps(model, images, "features.3")
    with torch.no_grad():
        layers = list(model.features)
        for conv, norm in itertools.pairwise(layers):
            if isinstance(norm, nn.BatchNorm2d):
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                conv.weight *= scale[:, None, None, None]
                conv.bias.copy_(norm.bias + (conv.bias - norm.running_mean) * scale)
        model.features = nn.Sequential(*[nn.Identity() if isinstance(x, nn.BatchNorm2d) else x for x in layers])
    torch.testing.assert_close(maps(model, images, "features.3"), expected)


@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp", "loop"])
@pytest.mark.parametrize(("make", "layer", "shape"), [(PlainCNN, "relu1", (16, 16)), (VideoNet, "conv1", (4, 12, 12))])
def test_targets_inputs_and_strategies_agree(strategy: Any, make: Any, layer: str, shape: tuple[int, ...]) -> None:
    model, images = seeded(make), noise(2, 3, *shape)
    found = maps(model, images, layer, (0, 1, 4), strategy=strategy)
    assert found.dtype == torch.float64 and found.flatten(3).sum(3).max() > 0.5
    for number in range(2):
        torch.testing.assert_close(maps(model, images[number : number + 1], layer, (0, 1, 4))[0], found[number])
    for number, target in enumerate((0, 1, 4)):
        torch.testing.assert_close(maps(model, images, layer, (target,))[:, :, 0], found[:, :, number])
    torch.testing.assert_close(maps(model, images, layer, (0, 1, 4), memory=1), found)


def test_the_model_is_left_alone() -> None:
    model, images = seeded(PlainCNN).train().requires_grad_(False), noise(1, 3, 16, 16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        frozen = maps(model, images, "relu1")
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    torch.testing.assert_close(maps(model.eval().requires_grad_(), images, "relu1"), frozen)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_no_probability(dtype: torch.dtype) -> None:
    """Over thousands of units each has less than float16 can hold."""
    model, images = spread(seeded(resnet)), noise(1, 3, 96, 96)
    expected = maps(model, images, "relu").float()
    found = maps(model.to(dtype), images.to(dtype), "relu")
    assert found.dtype == torch.float32
    sums, known = found[:, 0].flatten(2).sum(2), expected[:, 0].flatten(2).sum(2)
    torch.testing.assert_close(sums, known, rtol=0.02, atol=0.02)
    assert (found[:, 0] - expected[:, 0]).abs().sum() < 0.3 * known.sum()


class Leaky(nn.Module):
    def __init__(self, act: nn.Module, norm_first: bool = False) -> None:
        super().__init__()
        self.tap = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm_first else nn.Identity()
        self.act = act
        self.conv = nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(self.act(self.norm(self.tap(x)))).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (lambda: Leaky(nn.SiLU()), "tap", "no rule for 'silu'.*use 'gradcam'"),
        (lambda: Leaky(nn.GELU()), "tap", "no rule for 'gelu'"),
        (lambda: Leaky(nn.LeakyReLU()), "tap", "no rule for 'leaky_relu'"),
        (lambda: Leaky(nn.Identity()), "tap", "'conv2d' behind the layer is given negative"),
        (
            lambda: Leaky(nn.ReLU(), True),
            "tap",
            "'batch_norm' behind the layer is given negative.*behind the batch norm",
        ),
        (lambda: TokenNet(), "blocks.1", "no rule for 'layer_norm'"),
    ],
)
def test_other_models_are_refused(make: Any, layer: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        maps(seeded(make), noise(1, 3, 16, 16), layer)


def test_other_scores_are_refused() -> None:
    task = ModelTask(seeded(PlainCNN))
    batch = task.prepare(noise(1, 3, 16, 16))
    rather = Target("1 rather than 2", "class", (1,), versus=Target("2", "class", (2,)))
    with pytest.raises(MethodError, match="'1 rather than 2' is a contrast of two"):
        explain(task, batch, [[rather]], layers=["relu1"], methods=["c-mwp"])
    with pytest.raises(MethodError, match="no rule for 'log_softmax'"):
        explain(
            task,
            batch,
            [classes(1)],
            layers=["relu1"],
            methods=["excitation-backprop"],
            score=lambda output, rows: output.log_softmax(1)[:, :1],
        )


def test_a_recurrent_decoder_is_refused() -> None:
    class Says(Captioner):
        def forward(self, x: Tensor) -> Tensor:
            return self.decode(self.encode(x), torch.zeros(len(x), 2, dtype=torch.long))[:, 1]

    with pytest.raises(MethodError, match="no rule for 'lstm'"):
        maps(seeded(Says), noise(1, 3, 16, 16), "conv2")
