"""The traps that other packages fall into: each is set here, and nothing must give way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.engine import run
from mmexplain.errors import LayerError, ModelError
from mmexplain.methods import gradcam, gradcam_pp
from mmexplain.problem import Problem, Result, Strategy
from tests import slow
from tests.models import (
    AttentiveCaptioner,
    GapLinear,
    PlainCNN,
    ResidualNet,
    TokenNet,
    caption_problem,
    class_problem,
    class_score,
    classes,
    keep,
    noise,
    seeded,
    words,
)

STRATEGIES = get_args(Strategy)
ROWS = [classes(0, 3, 1), classes(2, 4, 4)]
IMAGES = (2, 3, 16, 16)


def maps(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    return {"gradcam": gradcam(activations, gradients, relu=False), "pp": gradcam_pp(activations, gradients)}


def plain() -> Problem:
    return class_problem(seeded(PlainCNN), noise(*IMAGES))


def assert_same(found: Result, expected: Result, **tolerance: float) -> None:
    torch.testing.assert_close(found.scores, expected.scores, **tolerance)
    torch.testing.assert_close(found.reduced, expected.reduced, **tolerance)


# -- what the model does around the tapped layer --------------------------------------------------------------------


class Features(nn.Module):
    """VGG's way: an in-place ReLU right after the tapped convolution, inside one Sequential."""

    def __init__(self, rectify: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.rectify = rectify
        self.fc = nn.Linear(5 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectify(self.conv(x))
        return self.fc(F.adaptive_max_pool2d(x, 4).flatten(1))


def _statement(x: Tensor) -> Tensor:
    x.relu_()
    return x


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("form", [nn.ReLU(inplace=True), torch.relu_, _statement, lambda x: F.relu(x, inplace=True)])
def test_in_place_relu_does_not_reach_the_captured_value(form, strategy):
    clean = class_problem(seeded(Features, F.relu), noise(*IMAGES))
    trapped = class_problem(seeded(Features, form), noise(*IMAGES))
    found = run(trapped, ROWS, ["conv"], keep, strategy=strategy)
    assert found.reduced["conv"]["activations"].min() < -0.5
    assert_same(found, run(clean, ROWS, ["conv"], keep, strategy="loop"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_features_that_are_the_tapped_output_rectified_in_place(strategy):
    """What encode returns is the very object that the hook handed on, but no longer its value."""
    model = seeded(AttentiveCaptioner)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    problem = caption_problem(model, noise(*IMAGES), tokens)
    clean = caption_problem(model, noise(*IMAGES), tokens)
    clean.encode = lambda inputs: F.relu(model.conv2(F.relu(model.conv1(inputs["image"]))))
    rows = [words(row) for row in tokens.tolist()]
    found = run(problem, rows, ["conv2"], keep, strategy=strategy)
    assert_same(found, run(clean, rows, ["conv2"], keep, strategy="loop"))


class Aliasing(Features):
    """The tapped layer hands its input on as it is, and the input is changed in place behind its back."""

    def __init__(self) -> None:
        super().__init__(F.relu)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.dropout(x)
        x.mul_(0)
        return self.fc(F.adaptive_max_pool2d(y, 4).flatten(1))


@pytest.mark.parametrize("layers", [["dropout"], ["conv", "dropout"]])
@pytest.mark.parametrize("strategy", ["auto", "vjp", "loop"])
def test_captured_by_value(strategy, layers):
    problem = class_problem(seeded(Aliasing), noise(*IMAGES))
    found = run(problem, ROWS, layers, keep, strategy=strategy).reduced["dropout"]
    with torch.no_grad():
        expected = problem.model.conv(problem.inputs["image"])
    torch.testing.assert_close(found["activations"][:, 0], expected)
    assert found["gradients"].any()


class Encoded(nn.Module):
    """A model whose own forward freezes its encoder."""

    def __init__(self, freeze: Callable[[], Any]) -> None:
        super().__init__()
        self.freeze = freeze
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.late = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        with self.freeze():
            x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = F.relu(self.late(x))
        return self.fc(F.adaptive_max_pool2d(x, 1).flatten(1))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("layer", ["conv1", "conv2", "late"])
def test_model_that_runs_its_encoder_under_no_grad(layer, strategy):
    expected = run(class_problem(seeded(Encoded, torch.enable_grad), noise(*IMAGES)), ROWS, [layer], keep)
    found = run(class_problem(seeded(Encoded, torch.no_grad), noise(*IMAGES)), ROWS, [layer], keep, strategy=strategy)
    assert_same(found, expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_model_whose_encoder_is_decorated_with_no_grad(strategy):
    problem = plain()
    expected = run(problem, ROWS, ["conv2"], keep)
    whole = problem.encode
    problem.encode = torch.no_grad()(whole)
    assert_same(run(problem, ROWS, ["conv2"], keep, strategy=strategy), expected)


def test_model_that_runs_its_encoder_in_inference_mode():
    """What cannot be differentiated says so; a layer after it is explained as ever."""
    expected = run(class_problem(seeded(Encoded, torch.enable_grad), noise(*IMAGES)), ROWS, ["late"], keep)
    problem = class_problem(seeded(Encoded, torch.inference_mode), noise(*IMAGES))
    with pytest.raises(LayerError, match=r"'conv2' runs under torch\.inference_mode"):
        run(problem, ROWS, ["conv2"], keep)
    model = problem.model
    problem.encode = lambda inputs: _in_inference_mode(model, inputs["image"])
    problem.decode = lambda x, context: model.fc(F.adaptive_max_pool2d(F.relu(model.late(x)), 1).flatten(1))
    assert_same(run(problem, ROWS, ["late"], keep), expected)


def _in_inference_mode(model: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return F.relu(model.conv2(F.relu(model.conv1(x))))


class Wrapping(nn.Module):
    """A layer whose output is a container."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.conv(x))


class Unwrapping(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any], unwrap: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.layer = Wrapping(wrap)
        self.unwrap = unwrap
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_max_pool2d(self.unwrap(self.layer(x)).relu(), 1).flatten(1))


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda x: (x, None), lambda y: y[0]),
        (lambda x: [None, x, 3], lambda y: y[1]),
        (lambda x: {"out": x}, lambda y: y["out"]),
        (lambda x: {0: x, 1: (x, x)}, lambda y: y[1][1]),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_layer_that_puts_out_a_container(strategy, wrap, unwrap):
    expected = run(class_problem(seeded(Unwrapping, lambda x: x, lambda y: y), noise(*IMAGES)), ROWS, ["layer"], keep)
    problem = class_problem(seeded(Unwrapping, wrap, unwrap), noise(*IMAGES))
    assert_same(run(problem, ROWS, ["layer"], keep, strategy=strategy), expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_layers_out_of_order_and_by_glob_carry_their_own_maps(strategy):
    problem = class_problem(seeded(ResidualNet), noise(2, 3, 12, 12))
    found = run(problem, ROWS, ["block2", "block?.conv*", "stem"], keep, strategy=strategy)
    assert list(found.reduced) == ["block2", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "stem"]
    for layer, kept in found.reduced.items():
        torch.testing.assert_close(kept, run(problem, ROWS, [layer], keep, strategy="loop").reduced[layer])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_reused_module_is_read_at_the_call_that_is_named(strategy):
    problem = class_problem(seeded(ResidualNet), noise(2, 3, 12, 12))
    found = run(problem, ROWS, ["block1.relu@0", "block1.relu@1", "block1.relu"], keep, strategy=strategy).reduced
    with torch.no_grad():
        x = F.relu(problem.model.stem(problem.inputs["image"]))
        inner = F.relu(problem.model.block1.conv1(x))
        outer = problem.model.block1(x)
    torch.testing.assert_close(found["block1.relu@0"]["activations"][:, 0], inner)
    torch.testing.assert_close(found["block1.relu@1"]["activations"][:, 0], outer)
    torch.testing.assert_close(found["block1.relu"], found["block1.relu@1"])


# -- what the caller does around the explanation --------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_parameters(strategy):
    expected = run(plain(), ROWS, ["conv2", "conv1"], keep)
    for frozen in ("all", "trunk", "head"):
        problem = plain()
        for name, parameter in problem.model.named_parameters():
            parameter.requires_grad_(frozen != "all" and name.startswith("fc") != (frozen == "head"))
        flags = [parameter.requires_grad for parameter in problem.model.parameters()]
        assert_same(run(problem, ROWS, ["conv2", "conv1"], keep, strategy=strategy), expected)
        assert flags == [parameter.requires_grad for parameter in problem.model.parameters()]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_inside_no_grad_and_inference_mode(strategy, context):
    problem = plain()
    expected = run(problem, ROWS, ["conv2", "input"], keep)
    with context():
        problem.inputs = {"image": problem.inputs["image"] * 1}
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        if context is torch.inference_mode:
            assert problem.inputs["image"].is_inference()
        assert_same(run(problem, ROWS, ["conv2", "input"], keep, strategy=strategy), expected)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == modes


def test_model_made_in_inference_mode():
    with torch.inference_mode():
        problem = plain()
        with pytest.raises(ModelError, match="load it outside"):
            run(problem, ROWS, ["conv2"], keep)


def test_inside_inference_mode_with_words():
    model, tokens = seeded(AttentiveCaptioner), torch.tensor([[1, 2, 3], [4, 5, 6]])
    rows = [words(row) for row in tokens.tolist()]
    expected = run(caption_problem(model, noise(*IMAGES), tokens), rows, ["conv2"], keep)
    with torch.inference_mode():
        assert_same(run(caption_problem(model, noise(*IMAGES), tokens * 1), rows, ["conv2"], keep), expected)


def test_kept_graph_within_no_grad():
    problem = plain()
    with torch.no_grad():
        result = run(problem, ROWS, ["conv2"], maps, create_graph=True)
    assert result.reduced["conv2"]["gradcam"].requires_grad and result.scores.requires_grad


def test_autocast_leaves_the_caller_its_weights():
    """A training step under the same autocast as an explanation still reaches the weights."""
    problem = class_problem(seeded(PlainCNN).float(), noise(*IMAGES).float())
    with torch.autocast("cpu", torch.bfloat16):
        run(problem, ROWS, ["conv2"], keep)
        problem.model(problem.inputs["image"]).float().sum().backward()
    assert all(parameter.grad is not None for parameter in problem.model.parameters())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_half_precision_model(strategy):
    """Maps of a bf16 model come as float32, on the model's device, near to those of the same weights in float64."""
    problem = plain()
    problem.model.bfloat16()
    problem.inputs["image"] = problem.inputs["image"].bfloat16()
    found = run(problem, ROWS, ["conv2"], maps, strategy=strategy)
    problem.model.double()
    problem.inputs["image"] = problem.inputs["image"].double()
    expected = run(problem, ROWS, ["conv2"], maps)
    assert found.scores.dtype == torch.float32
    for name, value in found.reduced["conv2"].items():
        assert value.dtype == torch.float32 and not value.requires_grad
        assert value.device == problem.inputs["image"].device
        exact = expected.reduced["conv2"][name]
        assert (value - exact).abs().max() < 0.05 * exact.abs().max()


def test_channels_last_memory():
    problem = plain()
    expected = run(problem, ROWS, ["conv2"], maps)
    problem.model.to(memory_format=torch.channels_last)
    problem.inputs["image"] = problem.inputs["image"].to(memory_format=torch.channels_last)
    for strategy in STRATEGIES:
        assert_same(run(problem, ROWS, ["conv2"], maps, strategy=strategy), expected)


@pytest.mark.parametrize("layer", ["conv", "act"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("photos", [3, 4])
def test_a_decoder_may_view_its_features(photos, strategy, layer):
    """From four photos on they go through convolutions with their channels together, which a view refuses."""

    class Views(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = torch.nn.Conv2d(3, 5, 3, 2), torch.nn.ReLU()
            self.head = torch.nn.Linear(5 * 7 * 7, 4)

        def encode(self, inputs):
            return self.act(self.conv(inputs["image"]))

        def decode(self, features, context):
            return self.head(features.view(len(features), -1))

    torch.manual_seed(0)
    model = Views().eval()
    image = torch.randn(photos, 3, 16, 16)
    problem = Problem(model, model.encode, model.decode, class_score, {"image": image})
    rows = [classes(0, 2)] * photos
    expected = run(problem, rows, [layer], maps, strategy="loop")
    seen = []

    def choose(features):
        seen.append(model.decode(features, {}))
        return rows

    for targets in (rows, choose):
        assert_same(run(problem, targets, [layer], maps, strategy=strategy), expected)
    assert seen


# -- raw maps, each for itself --------------------------------------------------------------------------------------


def test_maps_are_not_normalised():
    """Twice the score is twice the map; nothing is shifted, scaled or clipped."""
    problem = plain()
    once = run(problem, ROWS, ["conv2"], maps).reduced["conv2"]
    activations, gradients, _ = slow.activations_and_gradients(problem, ROWS, "conv2")
    expected = slow.gradcam(activations[1][2], gradients[1][2], relu=False)
    torch.testing.assert_close(once["gradcam"][1, 2], expected)
    decode = problem.decode
    problem.decode = lambda features, context: 2 * decode(features, context)
    torch.testing.assert_close(run(problem, ROWS, ["conv2"], maps).reduced["conv2"]["gradcam"], 2 * once["gradcam"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_input_is_explained_for_itself(strategy):
    problem = plain()
    both = run(problem, ROWS, ["conv1"], maps, strategy=strategy)
    for b in range(2):
        alone = class_problem(problem.model, problem.inputs["image"][b : b + 1])
        found = run(alone, ROWS[b : b + 1], ["conv1"], maps, strategy=strategy)
        torch.testing.assert_close(found.scores[0], both.scores[b])
        for name, value in found.reduced["conv1"].items():
            torch.testing.assert_close(value[0], both.reduced["conv1"][name][b])


# -- no side effects ------------------------------------------------------------------------------------------------


def snapshot(problem: Problem) -> dict[str, Any]:
    """Everything about the model and the process that an explanation could disturb."""
    model = problem.model
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_always_called")
    return {
        "training": [module.training for module in model.modules()],
        "hooks": [[list(getattr(module, kind)) for kind in hooks] for module in model.modules()],
        "gradients": [None if p.grad is None else (id(p.grad), p.grad.tolist()) for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "versions": [p._version for p in (*model.parameters(), *model.buffers())],
        "state": {name: value.tolist() for name, value in model.state_dict().items()},
        "inputs": {k: (v._version, v.requires_grad, v.grad, v.tolist()) for k, v in problem.inputs.items()},
        "rng": torch.get_rng_state().tolist(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "threads": torch.get_num_threads(),
    }


def disturbed() -> Problem:
    """A model half in training, half frozen, with gradients here and there and hooks of its owner."""
    problem = plain()
    model = problem.model.train()
    model.norm.eval()
    model.conv2.eval()
    model.fc1.weight.requires_grad_(False)
    for parameter in (model.conv1.weight, model.fc2.bias, model.fc1.weight):
        parameter.grad = torch.full_like(parameter, 3)
    model.conv2.register_forward_hook(lambda module, inputs, output: output + 0)
    model.conv2.register_forward_pre_hook(lambda module, inputs: None)
    return problem


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("rule", [None, "guided"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_changed(strategy, rule, create_graph):
    problem = disturbed()
    before = snapshot(problem)
    layers = ["conv2", "relu1", "input"]
    first = run(
        problem, ROWS, layers, maps if not rule else keep, strategy=strategy, rule=rule, create_graph=create_graph
    )
    assert snapshot(problem) == before
    again = run(problem, ROWS, layers, maps if not rule else keep, strategy=strategy, rule=rule)
    torch.testing.assert_close(again.scores, first.scores.detach(), rtol=0, atol=0)


def test_a_model_in_training_is_explained_in_eval_mode():
    """Dropout is off and batch norm uses its running statistics: the same maps as from ``model.eval()``."""
    problem = plain()
    expected = run(problem, ROWS, ["conv1"], maps)
    problem.model.train()
    assert_same(run(problem, ROWS, ["conv1"], maps), expected, rtol=0, atol=0)


class Boom(Exception):
    pass


def _raise(*_: Any) -> Any:
    raise Boom("mine")


@pytest.mark.parametrize("place", ["encode", "layer", "late layer", "decode", "score", "reduce", "observe", "choose"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_exception_passes_through_and_changes_nothing(strategy, place):
    problem = disturbed()
    targets: Any = ROWS
    reduce, observe = maps, {}
    if place in ("encode", "decode", "score"):
        setattr(problem, place, _raise)
    elif place == "layer":
        problem.model.conv1.register_forward_hook(_raise)
    elif place == "late layer":
        problem.model.fc2.register_forward_hook(_raise)
    elif place == "reduce":
        reduce = _raise
    elif place == "observe":
        observe = {"probability": _raise}
    else:
        targets = _raise
    before = snapshot(problem)
    with pytest.raises(Boom, match="mine"):
        run(problem, targets, ["conv2", "conv1"], reduce, strategy=strategy, observe=observe)
    assert snapshot(problem) == before


def test_an_interrupt_passes_through_and_changes_nothing():
    problem = disturbed()

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    problem.model.fc1.register_forward_hook(interrupt)
    before = snapshot(problem)
    with pytest.raises(KeyboardInterrupt):
        run(problem, ROWS, ["conv2"], maps)
    assert snapshot(problem) == before


def test_training_goes_on_as_if_nothing_had_been_explained():
    def train(explain: bool) -> dict[str, Tensor]:
        problem = class_problem(seeded(PlainCNN).train(), noise(*IMAGES))
        optimizer = torch.optim.SGD(problem.model.parameters(), 0.1)
        torch.manual_seed(5)  # for the dropout
        for _ in range(3):
            optimizer.zero_grad()
            loss = problem.model(problem.inputs["image"]).square().sum()
            if explain:
                run(problem, ROWS, ["conv2", "input"], maps)
            loss.backward()
            if explain:
                run(problem, ROWS, ["conv2"], maps)
            optimizer.step()
        return problem.model.state_dict()

    torch.testing.assert_close(train(True), train(False), rtol=0, atol=0)


# -- threads and explanations within explanations -------------------------------------------------------------------


def test_threads_that_explain_with_the_same_model():
    """Each thread has a photo, layers and ReLU rule of its own, and a model in training: as if one after the other."""
    model = seeded(PlainCNN).train()
    model.norm.eval()
    flags = [module.training for module in model.modules()]
    jobs: list[tuple[int, list[str], Any, Strategy]] = [
        (seed, layers, rule, strategy)
        for seed, (layers, rule, strategy) in enumerate(
            [
                (["conv2"], None, "auto"),
                (["conv1", "relu2"], "guided", "vjp"),
                (["relu1"], "deconv", "loop"),
                (["norm", "conv2"], None, "expand"),
            ]
            * 3
        )
    ]

    def explain(job: tuple[int, list[str], Any, Strategy]) -> Result:
        seed, layers, rule, strategy = job
        return run(class_problem(model, noise(*IMAGES, seed=seed)), ROWS, layers, keep, strategy=strategy, rule=rule)

    expected = [explain(job) for job in jobs]
    barrier = threading.Barrier(4)

    def first_wait(job: tuple[int, list[str], Any, Strategy]) -> Result:
        barrier.wait()
        return explain(job)

    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            for found, wanted in zip(pool.map(first_wait, jobs), expected, strict=True):
                assert_same(found, wanted)
        assert flags == [module.training for module in model.modules()]
        assert not any(module._forward_hooks for module in model.modules())


def test_a_thread_that_only_runs_the_model_is_left_alone():
    """Hooks answer to the thread that explains; another thread's prediction is neither recorded nor cut."""
    model = seeded(PlainCNN)
    problem = class_problem(model, noise(*IMAGES))
    expected = run(problem, ROWS, ["conv2"], keep)
    other = noise(*IMAGES, seed=9).requires_grad_()
    found: list[Tensor] = []

    def reduce(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
        return keep(layer, activations, gradients)

    def encode(inputs: dict[str, Tensor]) -> Tensor:
        def predict() -> None:
            found.extend(torch.autograd.grad(model(other).sum(), other))

        thread = threading.Thread(target=predict)
        thread.start()
        thread.join()
        return model(inputs["image"])

    problem.encode = encode
    assert_same(run(problem, ROWS, ["conv2"], reduce), expected)
    torch.testing.assert_close(found[0], torch.autograd.grad(model(other).sum(), other)[0])


def test_models_that_share_modules_share_the_eval_mode():
    """The last explanation to end gives the flags back, whichever model it was for."""
    inner = seeded(GapLinear).train()
    outer = nn.Sequential(inner, nn.Dropout())
    outer.train()
    running, release = threading.Event(), threading.Event()
    flags: list[bool] = []

    def wait(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
        running.set()
        assert release.wait(20)
        flags.append(inner.training)
        return {}

    def explain_inner() -> None:
        run(class_problem(inner, noise(*IMAGES)), ROWS, ["features"], wait)

    thread = threading.Thread(target=explain_inner)
    thread.start()
    assert running.wait(20)
    run(class_problem(outer, noise(*IMAGES)), ROWS, ["0.features"], keep)
    assert not inner.training and outer.training
    release.set()
    thread.join()
    assert flags == [False]
    assert all(module.training for module in outer.modules())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_explanation_within_an_explanation(strategy):
    """A metric that explains again while the outer run goes through its chunks, with the same model and layer."""
    problem = plain()
    other = class_problem(problem.model, noise(*IMAGES, seed=7))
    expected = run(problem, ROWS, ["conv2", "conv1"], keep)
    expected_inner = run(other, ROWS, ["conv2"], keep)
    inner: list[Result] = []

    def reduce(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
        inner.append(run(other, ROWS, ["conv2"], keep))
        return keep(layer, activations, gradients)

    def encode(inputs: dict[str, Tensor]) -> Tensor:
        inner.append(run(other, ROWS, ["conv2"], keep))
        return problem.model(inputs["image"])

    nested = Problem(problem.model, encode, problem.decode, problem.score, problem.inputs)
    problem.model.train()
    assert_same(run(nested, ROWS, ["conv2", "conv1"], reduce, strategy=strategy, memory=1), expected)
    for result in inner:
        assert_same(result, expected_inner)
    assert all(module.training for module in problem.model.modules())


def test_cudnn_is_off_inside_recurrent_modules_only():
    from mmexplain.surroundings import _recurrent_modules_without_cudnn as without_cudnn

    seen: list[bool] = []

    class Watch(nn.LSTM):
        def forward(self, *args: Any, **options: Any) -> Any:
            seen.append(torch.backends.cudnn.enabled)
            if args[0].shape[0] == 2:
                raise Boom
            return super().forward(*args, **options)

    lstm = Watch(3, 4)
    model = nn.Sequential(lstm)
    assert torch.backends.cudnn.enabled
    with without_cudnn(model):
        assert torch.backends.cudnn.enabled
        model(torch.zeros(1, 3))
        with pytest.raises(Boom):
            model(torch.zeros(2, 3))
        assert torch.backends.cudnn.enabled
        with torch.no_grad():
            model(torch.zeros(1, 3))
    model(torch.zeros(1, 3))
    assert seen == [False, False, True, True]
    assert torch.backends.cudnn.enabled

    # Two threads whose recurrent modules overlap: the flag comes back when the last one leaves.
    entered, release = threading.Event(), threading.Event()

    class Slow(nn.GRU):
        def forward(self, *args: Any, **options: Any) -> Any:
            entered.set()
            assert release.wait(20)
            return super().forward(*args, **options)

    slow_model = nn.Sequential(Slow(3, 4))

    def other() -> None:
        with without_cudnn(slow_model):
            slow_model(torch.zeros(1, 3))

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(20)
    with without_cudnn(model):
        model(torch.zeros(1, 3))
    assert not torch.backends.cudnn.enabled
    release.set()
    thread.join()
    assert torch.backends.cudnn.enabled


# -- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_cudnn_rnn_in_eval_mode(strategy):
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    rows = [words(row) for row in tokens.tolist()]
    model = seeded(AttentiveCaptioner)
    expected = run(caption_problem(model, noise(*IMAGES), tokens), rows, ["conv2", "conv1"], maps)
    model.cuda().float()
    problem = caption_problem(model, noise(*IMAGES).cuda().float(), tokens.cuda())
    state = torch.cuda.get_rng_state()
    found = run(problem, rows, ["conv2", "conv1"], maps, strategy=strategy)
    assert torch.equal(state, torch.cuda.get_rng_state())
    assert torch.backends.cudnn.enabled
    for layer, named in found.reduced.items():
        for name, value in named.items():
            assert value.is_cuda
            exact = expected.reduced[layer][name].float()
            torch.testing.assert_close(value.cpu(), exact, rtol=1e-3, atol=1e-3 * exact.abs().max().item())


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_on_cuda(dtype):
    problem = class_problem(seeded(TokenNet).float().cuda(), noise(*IMAGES).float().cuda())
    exact = run(problem, ROWS, ["blocks.1"], maps).reduced["blocks.1"]["gradcam"]
    with torch.autocast("cuda", dtype):
        found = run(problem, ROWS, ["blocks.1"], maps).reduced["blocks.1"]["gradcam"]
    assert (found - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.cuda
def test_out_of_memory_halves_the_chunk():
    """An out-of-memory error within a chunk is met with smaller chunks, and the maps are the same."""
    problem = class_problem(seeded(PlainCNN).cuda(), noise(*IMAGES).cuda())
    rows = [classes(*range(5))] * 2
    expected = run(problem, rows, ["conv2"], maps)
    sizes: list[int] = []

    def tight(layer: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
        sizes.append(gradients.shape[1])
        if gradients.shape[1] > 2:
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        return maps(layer, activations, gradients)

    assert_same(run(problem, rows, ["conv2"], tight), expected)
    assert sizes == [5, 2, 2, 1]


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, IndexError])
@pytest.mark.parametrize("place", ["encode", "layer", "late layer", "decode"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_the_model_raises_is_said_in_one_line(strategy, place, error):
    problem = disturbed()

    def fail(*_: Any) -> Any:
        raise error("sizes do not match\nat line 7")

    if place in ("encode", "decode"):
        setattr(problem, place, fail)
    else:
        layer = problem.model.conv1 if place == "layer" else problem.model.fc2
        layer.register_forward_hook(fail)
    before = snapshot(problem)
    shape = tuple(problem.inputs["image"].shape)
    with pytest.raises(ModelError) as caught:
        run(problem, ROWS, ["conv2"], maps, strategy=strategy)
    assert str(caught.value) == f"the model fails on an input of shape {shape}: sizes do not match"
    assert isinstance(caught.value.__cause__, error)
    assert snapshot(problem) == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_errors_that_the_model_words_itself_pass_through(strategy):
    problem = disturbed()

    def fail(*_: Any) -> Any:
        raise ModelError("17 labels for 5 classes")

    problem.decode = fail
    with pytest.raises(ModelError, match=r"^17 labels for 5 classes$"):
        run(problem, ROWS, ["conv2"], maps, strategy=strategy)
