"""Thousands of explanations in one process, and many targets at an early layer: memory stays where it is."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pytest
import torch

from mmexplain.engine import run
from mmexplain.explainer import explain
from mmexplain.methods import gradcam, gradcam_pp
from tests.models import ModelTask, PlainCNN, class_problem, classes, noise, seeded

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def maps(layer, activations, gradients):
    return {"gradcam": gradcam(activations, gradients), "gradcam++": gradcam_pp(activations, gradients)}


@LINUX
def test_5000_photos_leave_nothing_behind():
    model = seeded(PlainCNN).float().train()
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    batches = [noise(5, 3, 16, 16, seed=seed).float() for seed in range(10)]
    rows = [classes(0, 3)] * 5
    sizes = []
    gc.collect()
    gc.disable()  # what only the cycle collector would free counts as left behind
    try:
        for number in range(1000):
            run(class_problem(model, batches[number % 10]), rows, ["conv2", "conv1"], maps)
            if number in (200, 999):
                sizes.append(resident())
    finally:
        gc.enable()
    assert sizes[1] - sizes[0] < 4 * 2**20
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("rule", [None, "guided"])
def test_tensors_of_a_run_die_with_its_result(rule, create_graph):
    seen: list[weakref.ref[torch.Tensor]] = []

    def reduce(layer, activations, gradients):
        seen.extend((weakref.ref(activations), weakref.ref(gradients)))
        return {"map": gradcam(activations, gradients)}

    problem = class_problem(seeded(PlainCNN), noise(2, 3, 16, 16))
    gc.collect()
    gc.disable()
    try:
        result = run(
            problem, [classes(0, 1)] * 2, ["conv2", "input"], reduce, rule=rule, create_graph=create_graph, memory=1
        )
        assert result.reduced["conv2"]["map"].requires_grad == create_graph
        del result
        assert len(seen) == 8 and all(reference() is None for reference in seen)
    finally:
        gc.enable()


def test_nothing_survives_an_exception():
    seen: list[weakref.ref[torch.Tensor]] = []

    def reduce(layer, activations, gradients):
        seen.append(weakref.ref(gradients))
        raise ValueError("mine")

    problem = class_problem(seeded(PlainCNN), noise(2, 3, 16, 16))
    with contextlib.suppress(ValueError):
        run(problem, [classes(0, 1)] * 2, ["conv2"], reduce)
    gc.collect()
    assert seen and all(reference() is None for reference in seen)


@LINUX
def test_whole_explanations_leave_nothing_behind():
    task = ModelTask(seeded(PlainCNN).float())
    methods = ["guided-gradcam", "gradcam++-softmax", "counterfactual-gradcam"]
    sizes = []
    for number in range(150):
        batch = task.prepare(noise(2, 3, 16, 16, seed=number % 10).float())
        explain(task, batch, [classes(0, 3)] * 2, layers=["conv2"], methods=methods)
        if number in (50, 149):
            gc.collect()
            sizes.append(resident())
    assert sizes[1] - sizes[0] < 4 * 2**20


BOUNDED = """
    import resource, torch
    from torch import nn
    from mmexplain.engine import run
    from mmexplain.methods import gradcam
    from tests.models import class_problem, classes

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 8, 3, stride=4, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 1000),
    ).eval()
    problem = class_problem(model, torch.randn(1, 3, 64, 64))
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reduce = lambda layer, a, g: {"map": gradcam(a, g)}
    run(problem, [classes(*range(4))], ["0"], reduce, strategy=STRATEGY, memory=MEMORY)
    before = peak()
    result = run(problem, [classes(*range(1000))], ["0"], reduce, strategy=STRATEGY, memory=MEMORY)
    assert result.reduced["0"]["map"].shape == (1, 1000, 64, 64)
    print((peak() - before) // 1024)
"""


@LINUX
@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp", "loop"])
def test_memory_is_bounded(strategy):
    """1,000 classes at a layer of half a megabyte: their gradients are 500 MB, their maps 16 (and 32 while joined)."""
    code = textwrap.dedent(BOUNDED).replace("STRATEGY", repr(strategy)).replace("MEMORY", str(32 * 2**20))
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 120
