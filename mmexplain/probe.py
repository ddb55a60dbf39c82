"""What a method may ask of a model that it never sees: what it says to other inputs, and the gradients there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mmexplain.engine import DEFAULT_MEMORY, run
from mmexplain.errors import LayerError, ModelError
from mmexplain.forward import ModelFailure, model_runs
from mmexplain.methods.relu_rules import ReLURule
from mmexplain.passes import PIXEL_GRAPH_FACTOR, in_chunks
from mmexplain.problem import Problem, Reduce, Rows, Score, Strategy, padded
from mmexplain.surroundings import ordinary, undisturbed
from mmexplain.taps import INPUT, LayerName, Reader, first_tensor, reader_for, replace_tensor

FORWARD_FACTOR = 20
"""Tensors of the input's size that a forward pass without a graph is reckoned to hold for each row."""

MOST_ROWS = 64
"""Rows that run at once, at most: more of them are not faster."""

Logits = Callable[[Any, Rows], "Tensor | None"]
Edit = Callable[[Tensor, slice], Tensor]


class Probe:
    """The model of B explained inputs with K targets each, as a method may question it.

    A row is one changed input. ``owner`` ``[R]`` (int64) tells for each of R rows which of the B inputs it is made of,
    and so which text it is run with and which targets are scored.

    Attributes:
        inputs: what the model sees, ``[B, C, *P]``.
        targets: K targets for each input.
        scores: theirs, ``[B, K]`` float32.
        layers: the layers that maps are wanted for.
        black: what a black pixel is in the model's input, ``[C, 1, ...]``, broadcast against a row.
        generator: for what is drawn at random; on the CPU, so that all devices draw alike.
        logits: ``(output, rows) → [R, K, V]`` of the softmax that each target is one outcome of; None without one.
    """

    def __init__(
        self,
        problem: Problem,
        targets: Rows,
        scores: Tensor,
        layers: Sequence[str],
        *,
        logits: Logits,
        black: Sequence[float] = (0.0,),
        strategy: Strategy = "auto",
        memory: int = DEFAULT_MEMORY,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.problem = problem
        self.inputs = ordinary(problem.inputs[problem.image]).detach()
        self.targets = padded(targets)
        self.scores = scores
        self.layers = list(layers)
        self.logits = logits
        colour = torch.tensor(black, device=self.inputs.device, dtype=self.inputs.dtype)
        self.black = colour.reshape(-1, *[1] * (self.inputs.ndim - 2))
        self.generator = torch.Generator().manual_seed(seed)
        self._strategy = strategy
        self._memory = memory
        self._progress = progress

    @property
    def batch(self) -> int:
        """B."""
        return len(self.inputs)

    @property
    def count(self) -> int:
        """K."""
        return len(self.targets[0])

    def parts(self, total: int, *, gradients: bool = False) -> Iterator[slice]:
        """``total`` rows in slices of as many as run at once; progress is told after each.

        Args:
            total: how many rows there are.
            gradients: they are differentiated, which takes more memory.
        """
        row = self.inputs[0].numel() * self.inputs.element_size()
        factor = PIXEL_GRAPH_FACTOR * self.count if gradients else FORWARD_FACTOR
        size = max(1, min(MOST_ROWS, self._memory // (factor * row)))
        for start in range(0, total, size):
            stop = min(start + size, total)
            yield slice(start, stop)
            if self._progress is not None:
                self._progress(stop, total)

    def rows(self, count: int, part: slice) -> tuple[Tensor, Tensor]:
        """Of rows that stand for each input ``count`` times in a row: owner and number among its own, ``[R]`` each."""
        numbers = torch.arange(part.start, part.stop, device=self.inputs.device)
        return numbers // count, numbers % count

    def score(self, images: Tensor, owner: Tensor) -> Tensor:
        """What the model makes of R changed inputs.

        Args:
            images: ``[R, C, *P]``.
            owner: ``[R]``.

        Returns:
            Scores of the owners' targets, ``[R, K]`` float32.

        Raises:
            ModelError: they are not finite.
            DeviceError: not even one row fits into memory.
        """

        def some(part: slice) -> Tensor:
            problem = self._problem(images[part], owner[part])
            with undisturbed(problem.model, images.device), model_runs(images.shape):
                output = problem.decode(problem.encode(problem.inputs), problem.context)
                return problem.score(output, self._rows(owner[part])).float()

        return _finite(torch.cat(in_chunks(len(images), len(images), some)), "a changed photo")

    def score_layer(self, layer: str, edit: Edit, owner: Tensor) -> Tensor:
        """What the model says when the output of a layer is changed on its way. What comes before the layer runs on
        the B inputs alone, where the model allows it.

        Args:
            layer: dotted name.
            edit: ``(value [r, ...], part) → [r, ...]``: what the layer puts out for a part of the R rows, and what is
                handed on in its place.
            owner: ``[R]``.

        Returns:
            ``[R, K]`` float32.

        Raises:
            LayerError: it does not run.
            ModelError: the scores are not finite.
            DeviceError: not even one row fits into memory.
        """

        def some(part: slice) -> Tensor:
            try:
                return self._score_changed(layer, edit, owner[part], part, late=True)
            except ModelFailure:
                # Another branch goes round the layer with as many rows as there are inputs.
                return self._score_changed(layer, edit, owner[part], part, late=False)

        return _finite(torch.cat(in_chunks(len(owner), len(owner), some)), f"a photo whose layer {layer!r} is changed")

    def _score_changed(self, layer: str, edit: Edit, owner: Tensor, part: slice, *, late: bool) -> Tensor:
        """``late``: rows are repeated behind the layer and not before the model."""
        problem = self.problem
        encoding = True
        ran = False

        def changed(value: Tensor) -> Tensor:
            nonlocal ran
            ran = True
            return edit(value[owner] if late and encoding else value, part)

        inputs = {name: ordinary(value) for name, value in problem.inputs.items()}
        if not late:
            inputs = {name: value[owner] for name, value in inputs.items()}
        context = {name: ordinary(value)[owner] for name, value in problem.context.items()}
        with (
            undisturbed(problem.model, self.inputs.device),
            model_runs(self.inputs.shape),
            _handed_on(problem.model, layer, changed),
        ):
            features = problem.encode(inputs)
            encoding = False
            output = problem.decode(features[owner] if late and not ran else features, context)
            if not ran:
                raise LayerError(f"layer {layer!r} does not run in this model's forward pass, or puts out no tensor")
            return problem.score(output, self._rows(owner)).float()

    def gradients(
        self,
        images: Tensor,
        owner: Tensor,
        reduce: Reduce,
        layers: Sequence[str] = (INPUT,),
        *,
        rule: ReLURule | None = None,
        score: Score | None = None,
    ) -> dict[str, dict[str, Tensor]]:
        """Gradients of the owners' scores at R changed inputs; see :func:`mmexplain.engine.run`.

        Args:
            images: ``[R, C, *P]``.
            owner: ``[R]``.
            reduce: ``(layer, activations [R, 1, C, *S], gradients [R, k, C, *S])`` → named tensors ``[R, k, ...]``.
            layers: dotted names; ``"input"`` for the changed input itself.
            rule: backward rule of ReLU.
            score: what to differentiate instead.

        Returns:
            layer → name → ``[R, K, ...]``.
        """
        problem = self._problem(images, owner)
        problem.score = score or problem.score
        options: dict[str, Any] = {"strategy": self._strategy, "memory": self._memory, "rule": rule}
        return run(problem, self._rows(owner), layers, reduce, **options).reduced

    @cached_property
    def activations(self) -> dict[str, Tensor]:
        """What each of :attr:`layers` puts out for the inputs as they are, read as maps: layer → ``[B, C, *S]``.

        Raises:
            LayerError: it does not run, or puts out no map.
        """
        model, seen = self.problem.model, dict[str, Tensor]()

        def watch(layer: str) -> Callable[[Tensor], Tensor]:
            def keep(value: Tensor) -> Tensor:
                seen[layer] = value.clone()
                return value

            return keep

        with ExitStack() as stack:
            stack.enter_context(undisturbed(model, self.inputs.device))
            stack.enter_context(model_runs(self.inputs.shape))
            for layer in self.layers:
                stack.enter_context(_handed_on(model, layer, watch(layer)))
            inputs = {name: ordinary(value) for name, value in self.problem.inputs.items()}
            self.problem.decode(self.problem.encode(inputs), self.problem.context)
        return {layer: self.as_map(layer, seen.get(layer)) for layer in self.layers}

    def as_map(self, layer: str, value: Tensor | None) -> Tensor:
        """What a layer put out for the B inputs as ``[B, C, *S]``.

        Raises:
            LayerError: it is no map.
        """
        if value is None:
            raise LayerError(f"layer {layer!r} does not run in this model's forward pass, or puts out no tensor")
        return self.reader(layer, value)(value)

    def reader(self, layer: str, value: Tensor) -> Reader:
        """How what a layer puts out for the B inputs is read as maps, and maps are written back.

        Raises:
            LayerError: it is no map.
        """
        prefix = getattr(self.problem.model, "num_prefix_tokens", None)
        reader = reader_for(value.shape, self.inputs.shape[2:], prefix, self.batch) if value.ndim else None
        if reader is None or len(value) != self.batch:
            raise LayerError(
                f"layer {layer!r} puts out shape {tuple(value.shape)}, which is no map of the photo; choose one that "
                "`mmexplain layers` lists with a map"
            )
        return reader

    def _problem(self, images: Tensor, owner: Tensor) -> Problem:
        old = self.problem
        inputs = {name: ordinary(value)[owner] for name, value in old.inputs.items() if name != old.image}
        context = {name: ordinary(value)[owner] for name, value in old.context.items()}
        return Problem(old.model, old.encode, old.decode, old.score, {old.image: images, **inputs}, context)

    def _rows(self, owner: Tensor) -> Rows:
        return [self.targets[number] for number in owner.tolist()]


def _finite(scores: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(scores).all()):
        raise ModelError(f"the model's score of {what} is not finite (NaN or Inf)")
    return scores


@contextmanager
def _handed_on(model: nn.Module, layer: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The layer's output is exchanged for ``change`` of it, in this thread."""
    thread, name, calls = threading.get_ident(), LayerName.parse(layer), 0

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        nonlocal calls
        value = first_tensor(output)
        if value is None or threading.get_ident() != thread:
            return None
        calls += 1
        if name.call not in (-1, calls - 1):
            return None
        return replace_tensor(output, value, change(value))

    handle = model.get_submodule(name.module).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
