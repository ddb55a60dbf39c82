"""Guided backpropagation and the deconvnet: every way to write a ReLU, against gradients masked by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.engine import run
from mmexplain.errors import LayerError, MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.methods import relu_rule
from tests.models import (
    GapLinear,
    ModelTask,
    OneConv,
    PlainCNN,
    ResidualNet,
    TokenNet,
    class_problem,
    classes,
    keep,
    noise,
    seeded,
)

ARANGE = torch.arange(16.0).view(1, 1, 4, 4)


def pixels(method: str, inplace: bool = False) -> Tensor:
    task = ModelTask(OneConv(inplace))
    (found,) = explain(task, task.prepare(ARANGE), [classes(0)], layers=["relu1"], methods=[method])
    (value,) = found.maps.values()
    return value[0, 0]


@pytest.mark.parametrize("inplace", [False, True])
def test_captums_net_by_hand(inplace):
    guided = torch.tensor([[0.0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]])
    torch.testing.assert_close(pixels("guided-backprop", inplace), guided)
    # Deconvnet: what relu1 lets through is [1 1; 1 1] and [1 0; 0 0], however dead the unit.
    deconv = torch.tensor([[2.0, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]])
    torch.testing.assert_close(pixels("deconvnet", inplace), deconv)
    # Grad-CAM at relu1 is [0 4; 28 32.5]; its last row, stretched to four pixels, is 28, 29.125, 31.375, 32.5.
    last = torch.tensor([28.0, 29.125 * 2, 31.375 * 2, 32.5])
    torch.testing.assert_close(pixels("guided-gradcam", inplace)[3], last)
    column = torch.tensor([0.0, 7, 21, 28])  # the first column of the map, stretched
    torch.testing.assert_close(pixels("deconv-gradcam", inplace)[:, 0], column * deconv[:, 0])


def _statement(x: Tensor) -> Tensor:
    torch.relu_(x)
    return x


def _copied(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """In-place forms on a copy, so that the leaf can be watched."""
    return lambda x: function(x.clone())


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": _copied(nn.ReLU(inplace=True)),
    "F.relu": F.relu,
    "F.relu in place": _copied(lambda x: F.relu(x, True)),
    "F.relu in place by name": _copied(lambda x: F.relu(x, inplace=True)),
    "torch.relu": torch.relu,
    "torch.relu by name": lambda x: torch.relu(input=x),
    "torch.relu_": _copied(torch.relu_),
    "torch.relu_ as a statement": _copied(_statement),
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": _copied(lambda x: x.relu_()),
    "clamp": lambda x: x.clamp(min=0),
    "clamp by place": lambda x: x.clamp(0),
    "clamp_": _copied(lambda x: x.clamp_(min=0.0)),
    "torch.clamp": lambda x: torch.clamp(x, min=0),
    "torch.clamp_": _copied(lambda x: torch.clamp_(x, 0)),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min_": _copied(lambda x: x.clamp_min_(0)),
    "torch.clamp_min": lambda x: torch.clamp_min(x, 0),
    "clip": lambda x: x.clip(min=0),
    "clip_": _copied(lambda x: x.clip_(0)),
    "torch.clip": lambda x: torch.clip(x, 0),
    "F.threshold": lambda x: F.threshold(x, 0, 0),
    "nn.Threshold": nn.Threshold(0, 0),
    "nn.Threshold in place": _copied(nn.Threshold(0, 0, inplace=True)),
}

SIXES: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": _copied(nn.ReLU6(inplace=True)),
    "F.relu6": F.relu6,
    "nn.Hardtanh": nn.Hardtanh(0, 6),
    "nn.Hardtanh in place": _copied(nn.Hardtanh(0, 6, inplace=True)),
    "F.hardtanh": lambda x: F.hardtanh(x, min_val=0, max_val=6),
    "F.hardtanh_": _copied(lambda x: F.hardtanh_(x, 0.0, 6.0)),
    "clamp": lambda x: x.clamp(0, 6),
    "clamp_": _copied(lambda x: x.clamp_(0, max=6)),
    "torch.clamp": lambda x: torch.clamp(x, min=0, max=6.0),
    "clip": lambda x: x.clip(0, 6),
}

X = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0, 9.0, 3.0, -1.0, 9.0])
G = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -7.0, -8.0, -9.0])


def passed(function: Callable[[Tensor], Tensor], rule) -> tuple[Tensor, Tensor]:
    x = X.clone().requires_grad_()
    with relu_rule(rule):
        y = function(x)
    (gradient,) = torch.autograd.grad(y, x, G)
    return y.detach(), gradient


@pytest.mark.parametrize("name", RELUS)
def test_every_way_to_write_a_relu(name):
    for rule, expected in [("guided", [0, 0, 0, 4, 5, 6, 0, 0, 0]), ("deconv", [1, 2, 3, 4, 5, 6, 0, 0, 0])]:
        y, gradient = passed(RELUS[name], rule)
        assert y.tolist() == X.clamp(min=0).tolist()
        assert gradient.tolist() == expected


@pytest.mark.parametrize("name", SIXES)
def test_every_way_to_write_a_relu6(name):
    for rule, expected in [("guided", [0, 0, 0, 4, 5, 0, 0, 0, 0]), ("deconv", [1, 2, 3, 4, 5, 6, 0, 0, 0])]:
        y, gradient = passed(SIXES[name], rule)
        assert y.tolist() == X.clamp(0, 6).tolist()
        assert gradient.tolist() == expected


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(-1, 1),
        lambda x: x.clamp(max=0),
        lambda x: x.clamp(min=torch.zeros(())),
        F.hardtanh,
        lambda x: F.threshold(x, 1, 0),
        F.leaky_relu,
        F.gelu,
    ],
)
def test_what_is_no_relu_keeps_its_gradient(function):
    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(function(x), x, G)
    assert passed(function, "guided")[1].tolist() == expected.tolist()


def test_ends_with_the_block_and_nests():
    x = X.clone().requires_grad_()
    with relu_rule("guided"):
        with relu_rule("deconv"):
            inner = x.relu()
        outer = x.relu()
    after = x.relu()
    assert torch.autograd.grad(inner, x, G)[0].tolist() == [1, 2, 3, 4, 5, 6, 0, 0, 0]
    assert torch.autograd.grad(outer, x, G)[0].tolist() == [0, 0, 0, 4, 5, 6, 0, 0, 0]
    assert torch.autograd.grad(after, x, G)[0].tolist() == [0, 0, 0, 4, 5, 6, -7, 0, -9]


def test_holds_in_its_own_thread_only():
    found: list[list[float]] = []

    def elsewhere() -> None:
        x = X.clone().requires_grad_()
        found.append(torch.autograd.grad(x.relu(), x, G)[0].tolist())

    with relu_rule("guided"):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found == [[0, 0, 0, 4, 5, 6, -7, 0, -9]]


def test_without_a_graph_nothing_is_intercepted():
    with relu_rule("guided"), torch.no_grad():
        assert X.relu().grad_fn is None
    with relu_rule("guided"):
        y = X.clone()
        assert y.relu_() is y and not y.requires_grad


def test_in_place_under_a_rule_is_in_place():
    x = X.clone().requires_grad_() * 1
    with relu_rule("guided"):
        assert F.relu(x, inplace=True) is x
    assert x.min() == 0


class TwiceReLU(nn.Module):
    """One ReLU module called twice, and functional forms around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(x.clamp(0, 6), 4).flatten(1))


def by_hand(model: TwiceReLU, image: Tensor, class_number: int, guided: bool) -> Tensor:
    """The backward pass written out, one transposed convolution at a time."""
    with torch.no_grad():
        a = model.conv1(image)
        b = model.conv2(a.relu())
    pooled = b.relu().clamp(0, 6).requires_grad_()
    (g,) = torch.autograd.grad(model.fc(F.adaptive_avg_pool2d(pooled, 4).flatten(1))[0, class_number], pooled)
    with torch.no_grad():
        for value, convolution, ceiling in ((b, None, 6.0), (b, model.conv2, None), (a, model.conv1, None)):
            g = g.clamp(min=0)
            if guided:
                g = g * (value > 0) * (value < (ceiling or float("inf")))
            if convolution is not None:
                g = F.conv_transpose2d(g, convolution.weight, padding=1)
    return g[0]


@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp", "loop"])
@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_whole_backward_pass_by_hand(rule, strategy):
    model, image = seeded(TwiceReLU), noise(2, 3, 8, 8)
    with torch.no_grad():
        model.conv2.weight.mul_(20)
    rows = [classes(0, 3, 1), classes(4, 2, 0)]
    result = run(class_problem(model, image), rows, ["input"], keep, strategy=strategy, rule=rule)
    with torch.no_grad():
        assert model.conv2(model.conv1(image).relu()).max() > 6, "the ceiling is to matter"
    for b, row in enumerate(rows):
        for k, target in enumerate(row):
            expected = by_hand(model, image[b : b + 1], target.ids[0], rule == "guided")
            torch.testing.assert_close(result.reduced["input"]["gradients"][b, k], expected)


@pytest.mark.parametrize("model", [PlainCNN, ResidualNet])
def test_products_are_the_stretched_map_times_the_pixel_gradient(model):
    image, rows = noise(2, 3, 16, 24), [classes(0, 3), classes(4, 1)]
    task = ModelTask(seeded(model))
    layers = ["conv2", "conv1"] if model is PlainCNN else ["block2", "block1"]
    pairs = {
        "guided-gradcam": ("gradcam", "guided-backprop"),
        "deconv-gradcam": ("gradcam", "deconvnet"),
        "guided-gradcam++": ("gradcam++", "guided-backprop"),
    }
    calls: list[int] = []
    next(iter(task.model.children())).register_forward_hook(lambda *_: calls.append(1))
    products = explain(task, task.prepare(image), rows, layers=layers, methods=list(pairs))
    assert len(calls) == 3, "one pass for the maps, one for each rule"
    for name, (first, second) in pairs.items():
        maps = explain(task, task.prepare(image), rows, layers=layers, methods=[first])
        gradients = explain(task, task.prepare(image), rows, methods=[second], layers=layers)
        for b in range(2):
            pixel = gradients[b].maps[MapKey("input", second)]
            assert pixel.shape == (2, 3, 16, 24)
            for layer in layers:
                stretched = F.interpolate(maps[b].maps[MapKey(layer, first)][:, None], (16, 24), mode="bilinear")
                torch.testing.assert_close(products[b].maps[MapKey(layer, name)], stretched * pixel)
            assert set(products[b].maps) == {MapKey(layer, name) for layer in layers for name in pairs}


@pytest.mark.parametrize("method", ["gradcam-guided-relu", "gradcam-deconv-relu"])
def test_relu_rules_inside_gradcam(method):
    """Table A1: Grad-CAM whose gradients come back through guided or deconvnet ReLUs."""
    model, image = seeded(TwiceReLU), noise(1, 3, 8, 8)
    task = ModelTask(model)
    (found,) = explain(task, task.prepare(image), [classes(2)], layers=["conv1"], methods=[method, "gradcam"])
    with torch.no_grad():
        a = model.conv1(image)
        b = model.conv2(a.relu())
    end = b.relu().clamp(0, 6).requires_grad_()
    (g,) = torch.autograd.grad(model.fc(F.adaptive_avg_pool2d(end, 4).flatten(1))[0, 2], end)
    guided = method == "gradcam-guided-relu"
    with torch.no_grad():
        g = g.clamp(min=0) * ((b > 0) & (b < 6) if guided else 1)
        g = F.conv_transpose2d(g.clamp(min=0) * (b > 0 if guided else 1), model.conv2.weight, padding=1)
        g = g.clamp(min=0) * (a > 0 if guided else 1)
        expected = (g.mean((2, 3), keepdim=True) * a).sum(1).relu()
    torch.testing.assert_close(found.maps[MapKey("conv1", method)], expected)
    assert not torch.allclose(found.maps[MapKey("conv1", method)], found.maps[MapKey("conv1", "gradcam")])


# -- what the passes cost, and need ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "forwards"),
    [
        (["gradcam"], 1),
        (["guided-backprop"], 1),
        (["gradcam-guided-relu", "guided-backprop"], 1),
        (["guided-backprop", "deconvnet"], 2),
        (["guided-gradcam"], 2),
        (["guided-backprop", "guided-gradcam", "gradcam"], 2),
    ],
)
def test_how_often_the_model_runs(methods, forwards):
    model = seeded(PlainCNN)
    task = ModelTask(model, "conv2")
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    (found,) = explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0, 3)], methods=methods)
    assert len(calls) == forwards
    assert list(dict.fromkeys(key.method for key in found.maps)) == methods
    assert found.probabilities is not None


def test_pixel_methods_need_no_layer():
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 8), nn.ReLU(), nn.Linear(8, 5)))
    task = ModelTask(model)
    task.default_layer = None  # type: ignore[assignment,method-assign]
    image = noise(1, 3, 8, 8)
    (found,) = explain(task, task.prepare(image), [classes(0, 3)], methods=["guided-backprop"])
    hidden = model[1](image.flatten(1)) > 0
    expected = ((model[3].weight[3].clamp(min=0) * hidden) @ model[1].weight).view(3, 8, 8)
    torch.testing.assert_close(found.maps[MapKey("input", "guided-backprop")][1], expected.detach())


def test_layers_that_cannot_be():
    task = ModelTask(seeded(PlainCNN), "conv2")
    batch = task.prepare(noise(1, 3, 16, 16))
    with pytest.raises(LayerError, match=r"'input' is no layer: .*name a layer"):
        explain(task, batch, [classes(0)], layers=["conv2", "input"])
    with pytest.raises(LayerError, match="names no layer"):
        explain(task, batch, [classes(0)], layers=[])
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        explain(task, batch, [classes(0)], layers=["conv9"], methods=["guided-backprop"])


def test_every_kind_of_method_at_what_a_glob_leaves():
    task = ModelTask(seeded(GapLinear))
    methods = ["cam", "gradcam++-softmax", "gradcam-guided-relu", "guided-gradcam"]
    (found,) = explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], layers=["f*"], methods=["gradcam"])
    layers = [key.layer for key in found.maps]
    assert layers == ["features", "features.0", "features.1", "features.2", "features.3"]
    task = ModelTask(seeded(GapLinear))
    task.model.features = task.model.features[:2]
    task.model.fc = nn.Linear(4, 5).double()
    (found,) = explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], layers=["*[s1c]"], methods=methods)
    assert [key.layer for key in found.maps if key.method == "gradcam++-softmax"] == ["features", "features.1"]


@pytest.mark.parametrize(
    ("method", "layer"),
    [("guided-backprop", None), ("deconv-gradcam", "blocks.1"), ("gradcam-guided-relu", "blocks.1")],
)
def test_a_model_without_relus_is_refused(method, layer):
    task = ModelTask(seeded(TokenNet), layer)
    with pytest.raises(MethodError, match=f"'{method}' needs ReLUs, and model 'TokenNet' runs none; use 'gradcam'"):
        explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], methods=["gradcam", method][layer is None :])


@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp", "loop"])
def test_relus_before_the_tap_are_enough_for_a_map(strategy):
    task = ModelTask(seeded(GapLinear))
    batch, layers = task.prepare(noise(1, 3, 16, 16)), ["features"]
    methods = ["gradcam", "gradcam-guided-relu"]
    (found,) = explain(task, batch, [classes(0, 3)], layers=layers, methods=methods, strategy=strategy)
    assert list(found.maps) == [MapKey("features", method) for method in methods]
