"""What a probe says of changed inputs and changed layers, against one plain run of the model for each row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.engine import run
from mmexplain.errors import DeviceError, LayerError, ModelError
from mmexplain.explainer import explain
from mmexplain.probe import Probe
from mmexplain.problem import Problem
from tests.models import (
    AttentiveCaptioner,
    ChannelsLastNet,
    LateCaptioner,
    ModelTask,
    PlainCNN,
    ResidualNet,
    TokenNet,
    VideoNet,
    caption_problem,
    class_problem,
    classes,
    noise,
    seeded,
    words,
)

TOKENS = torch.tensor([[1, 4, 2, 7], [1, 9, 3, 5]])


def probe_of(problem: Problem, targets: Sequence[Any], layers: Sequence[str] = (), **options: Any) -> Probe:
    scores = torch.zeros(len(targets), len(targets[0]))
    return Probe(problem, targets, scores, layers, logits=lambda output, rows: None, **options)


def captions(model: Any, batch: int = 2) -> tuple[Problem, list[Any]]:
    tokens = TOKENS[:batch]
    return caption_problem(model, noise(batch, 3, 16, 16), tokens), [words(row)[1:] for row in tokens.tolist()]


def one_by_one(problem: Problem, rows: Sequence[Any], module: nn.Module, call: int, owner: Tensor, change: Callable):
    """Scores ``[R, K]``: for each row one whole run of one input, its layer's output changed in that call."""
    found = []
    for number, own in enumerate(owner.tolist()):
        calls = 0

        def hook(_: Any, __: Any, output: Tensor, number: int = number) -> Tensor | None:
            nonlocal calls
            calls += 1
            return change(output, number) if calls - 1 == call else None

        handle = module.register_forward_hook(hook)
        with torch.no_grad():
            inputs = {name: value[own : own + 1] for name, value in problem.inputs.items()}
            context = {name: value[own : own + 1] for name, value in problem.context.items()}
            found.append(problem.score(problem.decode(problem.encode(inputs), context), [rows[own]])[0])
        handle.remove()
    return torch.stack(found).float()


def bent(value: Tensor, number: int) -> Tensor:
    """Another change for each row: it tells rows apart."""
    return torch.where(value > 0, value * (0.5 + number), value)


def check_layer(problem: Problem, rows: Sequence[Any], layer: str, call: int, owner: Sequence[int]) -> None:
    owners = torch.tensor(owner)
    probe = probe_of(problem, rows, [layer])

    def edit(value: Tensor, part: slice) -> Tensor:
        numbers = range(len(owners))[part]
        assert len(value) == len(numbers)
        return torch.cat([bent(value[i : i + 1], number) for i, number in enumerate(numbers)])

    module = problem.model.get_submodule(layer.partition("@")[0])
    expected = one_by_one(problem, rows, module, call, owners, bent)
    assert len(owner) == 1 or not torch.allclose(expected[0], expected[-1])
    torch.testing.assert_close(probe.score_layer(layer, edit, owners), expected)


OWNERS = [[0, 0, 1, 1, 1], [0, 0], [1, 0], [1, 1], [1], [0, 1, 0]]


@pytest.mark.parametrize("owner", OWNERS, ids=str)
def test_changed_inputs(owner: list[int]) -> None:
    problem, rows = captions(seeded(AttentiveCaptioner))
    images, owners = noise(len(owner), 3, 16, 16, seed=5), torch.tensor(owner)
    with torch.no_grad():
        expected = [
            problem.score(
                problem.decode(problem.encode({"image": images[i : i + 1]}), {"tokens": TOKENS[own : own + 1]}),
                [rows[own]],
            )[0]
            for i, own in enumerate(owner)
        ]
    found = probe_of(problem, rows).score(images, owners)
    torch.testing.assert_close(found, torch.stack(expected).float())
    assert found.dtype == torch.float32 and found.shape == (len(owner), 3)


@pytest.mark.parametrize("owner", OWNERS, ids=str)
@pytest.mark.parametrize(("layer", "call"), [("conv1", 0), ("twice@0", 0), ("twice@1", 1), ("twice", 1), ("conv2", 0)])
def test_layers_on_both_sides_of_the_features(layer: str, call: int, owner: list[int]) -> None:
    """``conv1`` runs in encode, the others in decode; a module that is called twice means its last call."""
    problem, rows = captions(seeded(LateCaptioner))
    check_layer(problem, rows, layer, call, owner)


@pytest.mark.parametrize("owner", OWNERS, ids=str)
@pytest.mark.parametrize(
    ("layer", "call"), [("block1.conv2", 0), ("block1.relu@0", 0), ("block1.relu", 1), ("stem", 0), ("block2", 0)]
)
def test_branches_that_go_round_the_layer(layer: str, call: int, owner: list[int]) -> None:
    """A skip connection has as many rows as there are inputs: with as many changed rows, or a single one, the sum
    would be of other inputs' rows, and nothing would fail."""
    problem = class_problem(seeded(ResidualNet), noise(2, 3, 16, 16))
    check_layer(problem, [classes(0, 3), classes(2, 1)], layer, call, owner)


@pytest.mark.parametrize(
    ("make", "layer", "shape"),
    [
        (PlainCNN, "conv2", (3, 16, 16)),
        (TokenNet, "blocks.1", (3, 16, 16)),
        (ChannelsLastNet, "mix", (3, 16, 16)),
        (VideoNet, "conv1", (3, 6, 12, 12)),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_every_layout(make: Callable[..., nn.Module], layer: str, shape: tuple[int, ...], batch: int) -> None:
    problem = class_problem(seeded(make), noise(batch, *shape))
    owner = [0, 0, batch - 1, batch - 1, 0]
    check_layer(problem, [classes(0, 3), classes(2, 1)][:batch], layer, 0, owner)


def test_what_comes_before_the_layer_runs_once_for_each_input() -> None:
    problem = class_problem(seeded(PlainCNN), noise(2, 3, 16, 16))
    seen = []
    problem.model.conv1.register_forward_hook(lambda *values: seen.append(len(values[-1])))
    probe_of(problem, [classes(0)] * 2, ["relu2"]).score_layer("relu2", lambda value, _: value, torch.tensor([0] * 9))
    assert seen == [2, 2], "once to look at the layer, once to score"


def test_a_branch_round_the_layer_is_found_out_once() -> None:
    problem = class_problem(seeded(ResidualNet), noise(2, 3, 16, 16))
    seen: list[int] = []
    problem.model.stem.register_forward_hook(lambda *values: seen.append(len(values[-1])))
    probe = probe_of(problem, [classes(0)] * 2, ["block1.conv2"])
    for _ in range(3):
        probe.score_layer("block1.conv2", lambda value, _: value, torch.tensor([0, 1, 1]))
    assert seen == [2, 2, 3, 3, 3]


def test_activations_are_the_engines() -> None:
    problem, rows = captions(seeded(LateCaptioner))
    layers = ["conv1", "twice@0", "twice", "conv2"]
    found = probe_of(problem, rows, layers).activations
    expected = run(problem, rows, layers, lambda layer, a, g: {"a": a[:, 0]}).reduced
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer]["a"])


# -- conduct ----------------------------------------------------------------------------------------------------------


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_nothing_is_left_behind_after_an_exception() -> None:
    problem = class_problem(seeded(PlainCNN).train(), noise(2, 3, 16, 16))
    probe = probe_of(problem, [classes(0)] * 2, ["relu2"])

    class Boom(Exception):
        pass

    def edit(value: Tensor, part: slice) -> Tensor:
        raise Boom

    with pytest.raises(Boom):
        probe.score_layer("relu2", edit, torch.tensor([0, 1, 1]))
    assert hooks(problem.model) == 0
    assert all(module.training for module in problem.model.modules())
    assert torch.is_grad_enabled() and all(parameter.grad is None for parameter in problem.model.parameters())


def test_scores_that_are_not_finite_are_told() -> None:
    problem = class_problem(seeded(PlainCNN), noise(1, 3, 16, 16))
    probe = probe_of(problem, [classes(0)], ["relu2"])
    with pytest.raises(ModelError, match="whose layer 'relu2' is changed is not finite"):
        probe.score_layer("relu2", lambda value, _: value * torch.nan, torch.tensor([0]))
    with pytest.raises(ModelError, match="of a changed photo is not finite"):
        probe.score(problem.inputs["image"] * torch.inf, torch.tensor([0]))


def test_layers_that_cannot_be_changed() -> None:
    class ByFrames(nn.Module):
        """A clip's frames as rows of a CNN, their features averaged."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.unused = nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(4, 5)

        def forward(self, clip: Tensor) -> Tensor:
            frames = clip.transpose(1, 2).flatten(0, 1)
            return self.fc(self.conv(frames).mean((2, 3)).unflatten(0, (len(clip), -1)).mean(1))

    for batch in (1, 2):
        problem = class_problem(seeded(ByFrames), noise(batch, 3, 6, 8, 8))
        for owner in ([0], [0] * 6, [0] * 5):
            probe = probe_of(problem, [classes(0)] * batch, ["conv"])
            with pytest.raises(LayerError, match="'conv' runs on other rows than the inputs"):
                probe.score_layer("conv", lambda value, _: value, torch.tensor(owner))
        assert probe.activations["conv"].shape == (batch, 4, 6, 6, 6)
    for layer in ("unused", "conv@3"):
        with pytest.raises(LayerError, match="does not run"):
            probe.score_layer(layer, lambda value, _: value, torch.tensor([0]))
        with pytest.raises(LayerError, match="does not run"):
            _ = probe_of(problem, [classes(0)] * 2, [layer]).activations
    with pytest.raises(LayerError, match="no map of the photo"):
        _ = probe_of(problem, [classes(0)] * 2, ["fc"]).activations


def test_two_threads_change_the_same_model() -> None:
    problem = class_problem(seeded(ResidualNet), noise(2, 3, 16, 16))
    rows = [classes(0, 3), classes(2, 1)]
    owner = torch.tensor([0, 1, 1, 0])
    together = threading.Barrier(2, timeout=30)
    found: dict[float, Tensor] = {}

    def work(factor: float, wait: bool) -> Tensor:
        probe = probe_of(problem, rows, ["block2"])

        def edit(value: Tensor, part: slice) -> Tensor:
            if wait:
                together.wait()  # both hooks sit on the model now
            return value * factor

        return probe.score_layer("block2", edit, owner)

    def keep(factor: float) -> None:
        found[factor] = work(factor, True)

    threads = [threading.Thread(target=keep, args=(factor,)) for factor in (0.5, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for factor in (0.5, 2.0):
        torch.testing.assert_close(found[factor], work(factor, False))
    assert not torch.allclose(found[0.5], found[2.0])
    assert hooks(problem.model) == 0


class Narrow(nn.Module):
    """Runs out of memory with more than ``most`` rows behind its first layer, as a CUDA device would."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 5)
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.rows.append(len(x))
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError
        return self.fc(F.relu(x).mean((2, 3)))


def test_half_as_many_rows_where_memory_runs_out() -> None:
    problem = class_problem(seeded(Narrow, 3), noise(1, 3, 8, 8))
    check_layer(problem, [classes(0, 3)], "conv", 0, [0] * 9)
    rows = problem.model.rows
    assert 9 in rows and 4 in rows and 2 in rows
    images = noise(9, 3, 8, 8, seed=3)
    found = probe_of(problem, [classes(0, 3)]).score(images, torch.zeros(9, dtype=torch.long))
    problem.model.most = 9
    with torch.no_grad():
        torch.testing.assert_close(found, problem.model(images)[:, [0, 3]].float())
    problem.model.most = 0
    with pytest.raises(DeviceError, match="out of memory"):
        probe_of(problem, [classes(0)]).score(images, torch.zeros(9, dtype=torch.long))


def test_parts_cover_all_rows_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    problem = class_problem(seeded(PlainCNN), noise(1, 3, 16, 16))
    row = 3 * 16 * 16 * 8
    probe = probe_of(problem, [classes(0)], progress=lambda *steps: told.append(steps), memory=20 * row * 4)
    parts = list(probe.parts(10))
    assert parts == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert told == [(4, 10), (8, 10), (10, 10)]
    assert [part.stop - part.start for part in probe_of(problem, [classes(0)], memory=1).parts(3)] == [1, 1, 1]
    owner, number = probe.rows(3, slice(2, 7))
    assert owner.tolist() == [0, 1, 1, 1, 2] and number.tolist() == [2, 0, 1, 2, 0]


def test_what_fits_a_glob_and_is_no_map_is_left_out() -> None:
    task = ModelTask(seeded(PlainCNN))
    (found,) = explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], layers=["*"], methods=["ablationcam"])
    assert found.layers == ["conv1", "relu1", "conv2", "norm", "relu2"]
    with pytest.raises(LayerError, match="'fc1' puts out shape"):
        explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], layers=["conv*", "fc1"], methods=["ablationcam"])
    with pytest.raises(LayerError, match="no layer that fits the pattern"):
        explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], layers=["fc*"], methods=["ablationcam"])
