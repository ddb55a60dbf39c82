"""Every strategy against one plain autograd pass for each input and each target, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import pytest
import torch
from torch import Tensor

from mmexplain.engine import run
from mmexplain.errors import DeviceError, LayerError, MMExplainError, ModelError, TargetError
from mmexplain.methods import gradcam, gradcam_pp
from mmexplain.problem import Choice, Problem, Rows, Strategy
from mmexplain.reader import reader_for
from tests import slow
from tests.models import (
    AttentiveCaptioner,
    Captioner,
    ChannelsLastNet,
    LateCaptioner,
    PlainCNN,
    ResidualNet,
    TokenNet,
    VideoNet,
    caption_problem,
    class_problem,
    classes,
    keep,
    noise,
    seeded,
    words,
)

STRATEGIES = get_args(Strategy)


@dataclass
class Case:
    problem: Callable[[int], Problem]
    rows: Callable[[int], Rows]
    layers: list[str]


def _class_rows(count: int) -> Rows:
    return [classes(*((b + k) % 5 for k in range(4))) for b in range(count)]


def _ragged_rows(count: int) -> Rows:
    return [classes(*range(1 + (2 * b) % 5)) for b in range(count)]


def _tokens(count: int, length: int = 5) -> Tensor:
    return torch.randint(0, 11, (count, length), generator=torch.Generator().manual_seed(3))


def _word_rows(count: int) -> Rows:
    return [words(row.tolist()) for row in _tokens(count)]


CASES = {
    "plain": Case(lambda b: class_problem(seeded(PlainCNN), noise(b, 3, 16, 16)), _class_rows, ["conv2"]),
    "plain, ragged": Case(lambda b: class_problem(seeded(PlainCNN), noise(b, 3, 16, 16)), _ragged_rows, ["relu2"]),
    "plain, one target": Case(
        lambda b: class_problem(seeded(PlainCNN), noise(b, 3, 16, 16)), lambda b: [classes(2)] * b, ["conv1"]
    ),
    "plain, several layers out of order": Case(
        lambda b: class_problem(seeded(PlainCNN), noise(b, 3, 16, 16)), _class_rows, ["norm", "conv1", "conv2", "relu1"]
    ),
    "residual, inside a block": Case(
        lambda b: class_problem(seeded(ResidualNet), noise(b, 3, 12, 12)), _class_rows, ["block1.conv1"]
    ),
    "residual, parallel and in sequence": Case(
        lambda b: class_problem(seeded(ResidualNet), noise(b, 3, 12, 12)),
        _class_rows,
        ["block2", "block1.conv2", "stem", "block2.conv1"],
    ),
    "caption": Case(
        lambda b: caption_problem(seeded(Captioner), noise(b, 3, 12, 12), _tokens(b)), _word_rows, ["conv2"]
    ),
    "caption, earlier layer": Case(
        lambda b: caption_problem(seeded(Captioner), noise(b, 3, 12, 12), _tokens(b)), _word_rows, ["conv2", "conv1"]
    ),
    "caption with attention": Case(
        lambda b: caption_problem(seeded(AttentiveCaptioner), noise(b, 3, 8, 12), _tokens(b)), _word_rows, ["conv2"]
    ),
    "taps before and after the features": Case(
        lambda b: caption_problem(seeded(LateCaptioner), noise(b, 3, 8, 12), _tokens(b)),
        _word_rows,
        ["conv2", "conv1", "twice"],
    ),
    "taps after the features, calls of a reused module": Case(
        lambda b: caption_problem(seeded(LateCaptioner), noise(b, 3, 8, 12), _tokens(b)),
        _word_rows,
        ["twice@1", "twice@0"],
    ),
    "calls of a reused module": Case(
        lambda b: class_problem(seeded(ResidualNet), noise(b, 3, 12, 12)),
        _class_rows,
        ["block1.relu@1", "block2.relu@0", "block1.relu@0", "block1.relu"],
    ),
    "video": Case(lambda b: class_problem(seeded(VideoNet), noise(b, 3, 4, 8, 10)), _class_rows, ["conv2", "conv1"]),
    "tokens": Case(lambda b: class_problem(seeded(TokenNet), noise(b, 3, 16, 16)), _class_rows, ["blocks.1"]),
    "tokens, inside a block": Case(
        lambda b: class_problem(seeded(TokenNet, prefix=3), noise(b, 3, 16, 24)),
        _class_rows,
        ["blocks.1.norm1", "blocks.0", "blocks.1.attn"],
    ),
    "channels last": Case(
        lambda b: class_problem(seeded(ChannelsLastNet), noise(b, 3, 16, 24)), _class_rows, ["norm", "mix"]
    ),
}


def check(problem: Problem, rows: Rows, layers: list[str], tolerance: float = 1e-9, **options: object) -> None:
    result = run(problem, rows, layers, keep, **options)  # type: ignore[arg-type]
    image = tuple(next(iter(problem.inputs.values())).shape[2:])
    assert list(result.reduced) == layers
    for layer in layers:
        name, _, call = layer.partition("@")
        activations, gradients, scores = slow.activations_and_gradients(problem, rows, name, int(call or -1))
        for b, row in enumerate(rows):
            for k in range(len(row)):
                reader = reader_for((1, *activations[b][k].shape), image)
                assert reader is not None
                for kind, expected in (("activations", activations), ("gradients", gradients)):
                    value = reader(expected[b][k][None])[0]
                    found = result.reduced[layer][kind][b, k]
                    assert found.shape == value.shape
                    scale = value.abs().max().item()
                    torch.testing.assert_close(found, value.to(found.dtype), rtol=tolerance, atol=tolerance * scale)
                torch.testing.assert_close(result.scores[b, k].item(), scores[b][k], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_one_pass_for_each_target(name, batch, strategy):
    case = CASES[name]
    check(case.problem(batch), case.rows(batch), case.layers, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", CASES)
def test_going_one_target_at_a_time_changes_nothing(name, strategy):
    case = CASES[name]
    check(case.problem(2), case.rows(2), case.layers, strategy=strategy, memory=1)


@pytest.mark.parametrize("name", CASES)
def test_strategies_agree_to_1e_5_in_float32(name):
    case = CASES[name]
    problem = case.problem(3)
    problem.model.float()
    problem.inputs = {key: value.float() for key, value in problem.inputs.items()}
    found = {strategy: run(problem, case.rows(3), case.layers, keep, strategy=strategy) for strategy in STRATEGIES}
    for layer in case.layers:
        reference = found["loop"].reduced[layer]["gradients"]
        for strategy in STRATEGIES:
            gradients = found[strategy].reduced[layer]["gradients"]
            assert (gradients - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", CASES)
def test_the_graph_can_be_kept(name, strategy):
    case = CASES[name]
    check(case.problem(2), case.rows(2), case.layers, strategy=strategy, create_graph=True)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["caption", "caption with attention", "tokens", "plain"])
def test_choosing_targets_by_the_features_gives_the_same(name, strategy):
    case = CASES[name]
    problem, rows = case.problem(2), case.rows(2)
    seen = []

    def choose(features: Tensor) -> Choice:
        assert not features.requires_grad and not torch.is_grad_enabled()
        seen.append(features)
        tokens = problem.context.get("tokens")
        # A search runs the decoder too, which must not be mistaken for the pass that is differentiated.
        problem.decode(features, problem.context)
        return Choice(rows, {} if tokens is None else {"tokens": tokens})

    expected = run(problem, rows, case.layers, keep, strategy=strategy)
    found = run(problem, choose, case.layers, keep, strategy=strategy)
    assert len(seen) == 1
    for layer in case.layers:
        torch.testing.assert_close(found.reduced[layer], expected.reduced[layer])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_kept_graph_differentiates_maps_by_the_weights(strategy):
    """d(map)/d(weight) of a tapped layer, of one before and of one after it, against central differences."""
    model = seeded(AttentiveCaptioner)
    problem = caption_problem(model, noise(2, 3, 8, 8), _tokens(2, 3))
    rows = [words(row.tolist()) for row in _tokens(2, 3)]

    def reduce(layer, activations, gradients):
        return {"map": gradcam(activations, gradients, relu=False)}

    def loss() -> Tensor:
        maps = run(problem, rows, ["conv2", "conv1"], reduce, strategy=strategy, create_graph=True).reduced
        return sum((maps[layer]["map"] * torch.arange(3.0).view(3, 1, 1)).square().sum() for layer in maps)

    weights = [model.conv1.weight, model.conv2.weight, model.out.weight, model.lstm.weight_ih_l0]
    found = torch.autograd.grad(loss(), weights)
    for weight, gradient in zip(weights, found, strict=True):
        place = gradient.abs().argmax()
        with torch.no_grad():
            flat, step = weight.view(-1), 1e-5
            start = flat[place].item()
            flat[place] = start + step
            above = loss().item()
            flat[place] = start - step
            below = loss().item()
            flat[place] = start
        torch.testing.assert_close(gradient.flatten()[place].item(), (above - below) / (2 * step), rtol=1e-5, atol=1e-9)
        assert weight.grad is None


def test_maps_can_be_trained_through():
    """A few steps on a loss over maps alone move the maps towards their goal."""
    model = seeded(AttentiveCaptioner).train()
    problem = caption_problem(model, noise(1, 3, 8, 8), _tokens(1, 3))
    rows = [words(_tokens(1, 3)[0].tolist())]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    goal = torch.eye(4).double()

    def loss() -> Tensor:
        result = run(problem, rows, ["conv2"], lambda _, a, g: {"map": gradcam(a, g, relu=False)}, create_graph=True)
        maps = result.reduced["conv2"]["map"]
        return (maps / maps.abs().amax((2, 3), keepdim=True).detach() - goal).square().mean()

    first = loss().item()
    for _ in range(30):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.7 * first
    assert model.training


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pixel_gradients_come_with_the_layers(strategy):
    problem = class_problem(seeded(ResidualNet), noise(2, 3, 12, 12))
    rows = _class_rows(2)
    result = run(problem, rows, ["block2.conv1", "input"], keep, strategy=strategy)
    for b, row in enumerate(rows):
        for k, target in enumerate(row):
            image = problem.inputs["image"][b : b + 1].clone().requires_grad_()
            (expected,) = torch.autograd.grad(problem.model(image)[0, target.ids[0]], image)
            torch.testing.assert_close(result.reduced["input"]["gradients"][b, k], expected[0])
            torch.testing.assert_close(result.reduced["input"]["activations"][b, k], image.detach()[0])
    inner = run(problem, rows, ["block2.conv1"], keep).reduced["block2.conv1"]
    torch.testing.assert_close(result.reduced["block2.conv1"], inner)
    assert not problem.inputs["image"].requires_grad and problem.inputs["image"].grad is None


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["plain", "caption with attention", "residual, inside a block"])
def test_autocast_of_the_caller(name, strategy):
    """bf16 autocast on CPU: the maps are those of float32 to the precision of bf16, and come in float32."""
    case = CASES[name]
    problem = case.problem(2)
    problem.model.float()
    problem.inputs = {key: value.float() for key, value in problem.inputs.items()}
    reduce = lambda _, a, g: {"map": gradcam(a, g), "pp": gradcam_pp(a, g)}  # noqa: E731
    layer = case.layers[0]
    exact = run(problem, case.rows(2), [layer], reduce, strategy="loop").reduced[layer]
    with torch.autocast("cpu", torch.bfloat16):
        found = run(problem, case.rows(2), [layer], reduce, strategy=strategy)
        assert torch.is_autocast_enabled("cpu")
    assert found.scores.dtype == torch.float32
    for kind, value in found.reduced[layer].items():
        assert value.dtype == torch.float32
        assert (value - exact[kind]).abs().max() <= 0.08 * exact[kind].abs().max()


def test_more_memory_makes_larger_chunks():
    problem = class_problem(seeded(PlainCNN), noise(1, 3, 16, 16))
    counts = {}
    for memory in (1, 60_000, 10**9):
        sizes: list[int] = []

        def reduce(layer, activations, gradients, sizes=sizes):
            sizes.append(gradients.shape[1])
            return {"gradients": gradients}

        run(problem, [classes(*range(5))], ["conv2"], reduce, memory=memory)
        counts[memory] = sizes
    assert counts[1] == [1] * 5
    assert counts[10**9] == [5]
    assert 1 < max(counts[60_000]) < 5


def test_the_trunk_runs_once_for_all_targets_layers_and_chunks():
    model = seeded(Captioner)
    problem = caption_problem(model, noise(1, 3, 12, 12), _tokens(1))
    calls: list[str] = []
    model.conv1.register_forward_hook(lambda *_: calls.append("conv1"))
    model.out.register_forward_hook(lambda *_: calls.append("out"))
    run(problem, _word_rows(1), ["conv2", "conv1"], keep)
    assert calls == ["conv1", "out"]
    calls.clear()
    run(problem, _word_rows(1), ["conv2"], keep, memory=1)
    assert calls == ["conv1"] + ["out"] * 5


def test_an_operator_that_vmap_refuses_is_differentiated_in_turn():
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 3

        @staticmethod
        def backward(ctx, gradient):
            return 3 * gradient if gradient.sum() == gradient.sum().item() else gradient  # no .item() under vmap

    model = seeded(PlainCNN)
    problem = class_problem(model, noise(2, 3, 16, 16))
    expected = run(problem, _class_rows(2), ["conv1"], keep).reduced["conv1"]["gradients"]
    problem.encode = lambda inputs: Odd.apply(model(inputs["image"]))
    for strategy in STRATEGIES:
        found = run(problem, _class_rows(2), ["conv1"], keep, strategy=strategy).reduced["conv1"]["gradients"]
        torch.testing.assert_close(found, 3 * expected)


def test_targets_that_do_not_reach_a_layer_have_gradient_zero():
    """Words before the place where a layer is read: their score does not depend on it."""

    class Causal(AttentiveCaptioner):
        def decode(self, features, tokens):
            log_p = super().decode(features, tokens)
            return torch.cat([log_p[:, :1].detach(), log_p[:, 1:]], 1)

    problem = caption_problem(seeded(Causal), noise(2, 3, 8, 8), _tokens(2))
    for strategy in STRATEGIES:
        gradients = run(problem, _word_rows(2), ["conv2"], keep, strategy=strategy).reduced["conv2"]["gradients"]
        assert not gradients[:, 0].any()
        assert gradients[:, 1:].flatten(2).any(2).all()


# -- errors ---------------------------------------------------------------------------------------------------------


def _plain() -> Problem:
    return class_problem(seeded(PlainCNN), noise(2, 3, 16, 16))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fewer_rows_of_targets_than_inputs(strategy):
    with pytest.raises(TargetError, match="1 rows of targets for 2 inputs"):
        run(_plain(), [classes(1)], ["conv2"], keep, strategy=strategy)
    with pytest.raises(TargetError, match="at least one target"):
        run(_plain(), [classes(1), []], ["conv2"], keep, strategy=strategy)


def test_unknown_strategy():
    with pytest.raises(MMExplainError, match="'vpj'; there are: auto, expand"):
        run(_plain(), _class_rows(2), ["conv2"], keep, strategy="vpj")  # type: ignore[arg-type]


def test_unknown_layer():
    with pytest.raises(LayerError, match=r"no layer 'conv9'; closest: 'conv2', 'conv1'"):
        run(_plain(), _class_rows(2), ["conv9"], keep)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_layer_that_is_no_map(strategy):
    with pytest.raises(LayerError, match=r"'fc1' puts out shape \(2, 8\)"):
        run(_plain(), _class_rows(2), ["fc1"], keep, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_layer_that_does_not_run(strategy):
    problem = _plain()
    problem.model.spare = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(LayerError, match="'spare' does not run"):
        run(problem, _class_rows(2), ["spare"], keep, strategy=strategy)
    with pytest.raises(LayerError, match=r"'conv1' runs 1 time\(s\).* no call 2"):
        run(problem, _class_rows(2), ["conv1@2"], keep, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_layer_that_the_score_does_not_depend_on(strategy):
    problem = _plain()
    model = problem.model
    model.side = torch.nn.Conv2d(3, 3, 1).double()

    def encode(inputs):
        model.side(inputs["image"])
        return model(inputs["image"])

    problem.encode = encode
    with pytest.raises(LayerError, match=r"depends? on layer 'side'"):
        run(problem, _class_rows(2), ["side"], keep, strategy=strategy)
    with pytest.raises(LayerError, match=r"depends? on layer 'side'"):
        run(problem, _class_rows(2), ["conv2", "side"], keep, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_model_that_cuts_the_gradient(strategy):
    problem = _plain()
    whole = problem.encode
    problem.encode = lambda inputs: whole(inputs).detach()
    with pytest.raises((LayerError, ModelError), match=r"depends? on"):
        run(problem, _class_rows(2), ["conv2"], keep, strategy=strategy)
    problem = _plain()
    problem.decode = lambda features, context: features.detach()
    with pytest.raises(ModelError, match="does not depend on the tapped layers"):
        run(problem, _class_rows(2), ["conv2"], keep, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_score_of_another_shape(strategy):
    problem = _plain()
    problem.score = lambda output, rows: output
    with pytest.raises(ModelError, match="score returned shape"):
        run(problem, _class_rows(2), ["conv2"], keep, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_model_that_gives_nan(strategy):
    problem = _plain()
    with torch.no_grad():
        problem.model.norm.weight[0] = float("nan")
    with pytest.raises(ModelError, match=r"not finite .*; first in layer 'norm'"):
        run(problem, _class_rows(2), ["conv2"], keep, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradient_that_is_not_finite(strategy):
    problem = _plain()
    whole = problem.encode
    problem.encode = lambda inputs: (whole(inputs) * 0).sqrt()
    with pytest.raises(ModelError, match="gradients at layer 'conv2' are not"):
        run(problem, _class_rows(2), ["conv2"], keep, strategy=strategy)


def test_inputs_without_a_photo():
    problem = _plain()
    problem.inputs = {"image": torch.zeros(2, 3)}
    with pytest.raises(ModelError, match="no input of the model is a photo"):
        run(problem, _class_rows(2), ["conv2"], keep)


class Tiles(torch.nn.Module):
    """The photo is cut into four tiles that go through the convolution as rows of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.whole = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.fc = torch.nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        tiles = x.unflatten(3, (2, w // 2)).unflatten(2, (2, h // 2)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        tiles = self.conv(tiles).relu().unflatten(0, (b, 2, 2))
        x = tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(self.whole(x), 4).flatten(1))


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_layer_that_runs_on_several_rows_of_an_input(strategy, batch, targets):
    problem = class_problem(seeded(Tiles), noise(batch, 3, 16, 16))
    rows = [classes(*range(targets))] * batch
    with pytest.raises(LayerError, match=rf"'conv' runs on {4 * batch} rows for {batch} input\(s\) \(tiles"):
        run(problem, rows, ["conv"], keep, strategy=strategy)
    found = run(problem, rows, ["whole"], keep, strategy=strategy)
    assert found.reduced["whole"]["gradients"].shape == (batch, targets, 4, 16, 16)


def test_encode_that_returns_several_rows_of_an_input():
    problem = _plain()
    problem.encode = lambda inputs: problem.model(inputs["image"]).repeat(2, 1)
    with pytest.raises(ModelError, match=r"encode returned shape \(4, 5\) for 2 input"):
        run(problem, _class_rows(2), ["conv2"], keep)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_glob_leaves_out_what_is_no_map(strategy):
    problem = _plain()
    problem.model.spare = torch.nn.Conv2d(3, 3, 1)
    found = run(problem, _class_rows(2), ["*"], keep, strategy=strategy)
    assert list(found.reduced) == ["conv1", "relu1", "conv2", "norm", "relu2"]
    with pytest.raises(LayerError, match=r"fits the pattern.*'fc2' puts out"):
        run(problem, _class_rows(2), ["fc*"], keep, strategy=strategy)
    with pytest.raises(LayerError, match=r"'fc1' puts out"):
        run(problem, _class_rows(2), ["*", "fc1"], keep, strategy=strategy)


def test_no_layer():
    with pytest.raises(LayerError, match="names no layer"):
        run(_plain(), _class_rows(2), [], keep)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_chunk_that_does_not_fit_is_halved(strategy):
    problem, sizes = _plain(), []
    expected = run(problem, _class_rows(2), ["conv2"], keep, strategy=strategy)

    def tight(layer, activations, gradients):
        sizes.append(gradients.shape[1])
        if sizes[-1] > fits:
            raise torch.cuda.OutOfMemoryError("none left")
        return keep(layer, activations, gradients)

    fits = 1
    found = run(problem, _class_rows(2), ["conv2"], tight, strategy=strategy)
    assert sizes == [4, 2, 1, 1, 1, 1]
    for name, value in found.reduced["conv2"].items():
        torch.testing.assert_close(value, expected.reduced["conv2"][name])
    fits = 0
    with pytest.raises(DeviceError, match="one row at a time"):
        run(problem, _class_rows(2), ["conv2"], tight, strategy=strategy)


@pytest.mark.parametrize(("batch", "together"), [(3, False), (4, True)])
def test_several_photos_are_laid_out_for_faster_convolutions(batch, together):
    problem = class_problem(seeded(PlainCNN), noise(batch, 3, 16, 16).float())
    problem.model.float()
    seen: list[bool] = []
    problem.model.conv1.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    run(problem, _class_rows(batch), ["conv2"], keep)
    assert seen == [together]


def test_a_model_that_needs_another_layout_gets_it():
    class Views(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4 * 14 * 14, 5)

        def forward(self, photos: Tensor) -> Tensor:
            return self.head(self.conv(photos).view(len(photos), -1))

    check(class_problem(seeded(Views), noise(5, 3, 16, 16)), _class_rows(5), ["conv"])
