"""One trunk forward, K targets, gradients at the tapped layers.

The engine sees a model in two steps, ``encode`` (what sees the photo) and ``decode`` (the rest, over the features that
``encode`` returned), and a differentiable ``score``. It works in two stages:

1. ``encode`` runs once, without a graph before the earliest tapped layer.
2. Each chunk of targets is scored from the features, differentiated with respect to them (stage ``decode``), and the
   gradients are pulled back from the features to the tapped layers (stage ``encode``; nothing to do when the tapped
   layer is what ``encode`` returns).

Three strategies push K gradients through; they agree to rounding:

* ``expand``: rows are repeated K times and there is one backward pass;
* ``vjp``: one forward pass, K vector-Jacobian products vectorised by ``vmap``;
* ``loop``: one forward pass, K backward passes in turn: the reference.

``auto`` runs ``decode`` once, expands what it returned, and takes ``vjp`` from there back to the taps: no forward work
is repeated, and a large output layer sees each target once. On an accelerator, and where ``vmap`` or the output do not
allow it, it expands the features instead (``benchmarks/bench.py`` and ``benchmarks/strategies.py`` measure all of
them). Where ``vmap`` has no rule for an operator on the way to the taps, ``loop`` takes over, and so it does for
``auto`` where ``decode`` is most of the model (``Problem.heavy_decode``) and its output cannot be expanded.

Grad-CAM needs no more of the gradients than their mean over the places. A model may know a shorter way to that than
through all of them (``Problem.pooled_vjp``), which ``auto`` takes at the layer that ``encode`` returns. Linear
layers that read a layer of tokens, as those within attention do, have one too (``mmexplain.pooled_reads``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import torch

from mmexplain.errors import DeviceError, LayerError, MMExplainError
from mmexplain.forward import Forward
from mmexplain.methods.relu_rules import ReLURule
from mmexplain.passes import Pass
from mmexplain.problem import Choice, Choose, Observe, Problem, Reduce, Result, Rows, Strategy, as_choice
from mmexplain.surroundings import ordinary, require_ordinary, undisturbed
from mmexplain.taps import INPUT, optional_layers, resolve

DEFAULT_MEMORY = 512 * 2**20
"""Bytes that one chunk of targets may take, by the engine's own estimate."""


def run(
    problem: Problem,
    targets: Choice | Choose | Rows,
    layers: Sequence[str],
    reduce: Reduce,
    *,
    strategy: Strategy = "auto",
    memory: int = DEFAULT_MEMORY,
    create_graph: bool = False,
    rule: ReLURule | None = None,
    observe: Mapping[str, Observe] | None = None,
    pooled: bool = False,
) -> Result:
    """Differentiate K scores of each input with respect to the outputs of the tapped layers.

    Args:
        problem: model and inputs.
        targets: B rows of targets, or a function that makes a Choice of the features ``[B, ...]`` (a search, the
            likeliest classes), so that predicting and explaining share one trunk forward.
        layers: dotted names or globs; ``"input"`` stands for the photo itself. What fits a glob and is no map is left
            out.
        reduce: called for each layer and chunk with ``(layer, activations [B, 1, C, *S], gradients [B, k, C, *S])``;
            returns named tensors ``[B, k, ...]``. Float32 arithmetic is the reducer's business; autocast is off.
        strategy: how K gradients are pushed through.
        memory: bound in bytes on what one chunk of targets may take.
        create_graph: keep the whole graph, so that the result can be trained through.
        rule: another backward rule for ReLU.
        observe: name → function of output and rows, e.g. probabilities; read without gradient.
        pooled: ``reduce`` reads no more of the gradients than their mean over the places, so that it may be given that,
            ``[B, k, C, 1, ...]``, where ``auto`` finds a shorter way to it (``Problem.pooled_vjp``).

    Raises:
        LayerError: a layer does not exist, never ran, cannot be read as a map, or no score depends on it.
        ModelError: the model fails on the inputs, or its scores or gradients are not finite.
        TargetError: an input without a target, or a target that the score does not know.
        DeviceError: not even one target fits into the device's memory.
    """
    if strategy not in get_args(Strategy):
        raise MMExplainError(f"unknown strategy {strategy!r}; there are: {', '.join(get_args(Strategy))}")
    device = next(iter(problem.inputs.values())).device
    patterns = [layer for layer in layers if layer != INPUT]
    names = resolve(problem.model, patterns)
    optional = optional_layers(problem.model, patterns)
    if INPUT in layers:
        names.insert(0, INPUT)
    if not names:
        raise LayerError("layers=[] names no layer; name at least one")
    require_ordinary(problem.model)
    with undisturbed(problem.model, device, fast=not create_graph and rule is None):
        inputs = {name: ordinary(value) for name, value in problem.inputs.items()}
        context = {name: ordinary(value) for name, value in problem.context.items()}
        forward = Forward(problem, inputs, context, names, create_graph, rule, optional, pooled and strategy == "auto")
        choose = targets if callable(targets) else as_choice(targets)
        try:
            return Pass(forward, reduce, observe or {}, pooled).run(choose, strategy, memory)
        except torch.cuda.OutOfMemoryError:
            raise DeviceError(
                "the device ran out of memory in the model's forward pass; give fewer inputs at once"
            ) from None
