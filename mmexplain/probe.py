"""What a method may ask of a model that it never sees: what it says to other inputs, and the gradients there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from mmexplain.engine import DEFAULT_MEMORY, run
from mmexplain.errors import LayerError, ModelError
from mmexplain.exchange import Seen, exchanged, watched
from mmexplain.forward import ModelFailure, model_runs
from mmexplain.methods.relu_rules import ReLURule
from mmexplain.passes import PIXEL_GRAPH_FACTOR, in_chunks
from mmexplain.precision import widened
from mmexplain.problem import Observe, Problem, Reduce, Rows, Score, Strategy, padded
from mmexplain.reader import Reader, told_or_guessed
from mmexplain.surroundings import ordinary, undisturbed
from mmexplain.taps import INPUT

FORWARD_FACTOR = 20
"""Tensors of the input's size that a forward pass without a graph is reckoned to hold for each row."""

MOST_ROWS = 64
"""Rows that run at once, at most: more of them are not faster."""

MOST_ON_CPU = 16
"""The same on a CPU, whose caches hold what so few put out: 64 take an eighth longer."""

Logits = Callable[[Any, Rows], Tensor | None]
Edit = Callable[[Tensor, slice], Tensor]


class Probe:
    """The model of B explained inputs with K targets each, as a method may question it.

    A row is one changed input. ``owner`` ``[R]`` (int64) tells for each of R rows which of the B inputs it is made of,
    and so which text it is run with and which targets are scored. :func:`mmexplain.explain` makes one for each method.

    Args:
        problem: model and inputs.
        targets: B rows of them.
        scores: of the inputs as they are, ``[B, K]``.
        layers: dotted names.
        logits: see below.
        probability: see below.
        black: what a black pixel is in the model's input, for each channel.
        strategy: of gradients, see :mod:`mmexplain.engine`.
        memory: bound in bytes on what one chunk may take.
        seed: of what is drawn at random.
        progress: told how many rows of how many are done.

    Attributes:
        inputs: what the model sees, ``[B, C, *P]``.
        targets: K targets for each input.
        scores: theirs, ``[B, K]`` float32.
        layers: the layers that maps are wanted for.
        black: what a black pixel is in the model's input, ``[C, 1, ...]``, broadcast against a row.
        memory: bound in bytes on what one chunk may take.
        generator: for what is drawn at random; on the CPU, so that all devices draw alike.
        logits: ``(output, rows) → [R, K, V]`` of the softmax that each target is one outcome of; None without one.
        probability: ``(output, rows) → [R, K]``; None where the model has none.
        checks: what the method finds out about its own maps, name → ``[B, K]``: it goes into the provenance.
    """

    def __init__(
        self,
        problem: Problem,
        targets: Rows,
        scores: Tensor,
        layers: Sequence[str],
        *,
        logits: Logits,
        probability: Observe = lambda output, rows: None,
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
        self.probability = probability
        self.checks: dict[str, Tensor] = {}
        colour = torch.tensor(black, device=self.inputs.device, dtype=self.inputs.dtype)
        self.black = colour.reshape(-1, *[1] * (self.inputs.ndim - 2))
        self.generator = torch.Generator().manual_seed(seed)
        self._strategy = strategy
        self.memory = memory
        self._progress = progress
        self._looked_at: dict[str, Seen] = {}
        self._repeated_before: set[str] = set()

    @property
    def batch(self) -> int:
        """B."""
        return len(self.inputs)

    @property
    def count(self) -> int:
        """K."""
        return len(self.targets[0])

    def in_target_parts(self, size: int) -> Iterator[Probe]:
        """The same model with ``size`` of the K targets at a time; progress goes over all of them."""
        times = -(-self.count // size)
        for number in range(times):
            part = slice(number * size, (number + 1) * size)
            some = copy(self)
            some.targets = [row[part] for row in self.targets]
            some.scores = self.scores[:, part]
            some._progress = self._progress and partial(_further, self._progress, number, times)
            yield some

    def parts(self, total: int, *, gradients: bool = False) -> Iterator[slice]:
        """``total`` rows in slices of as many as run at once; progress is told after each.

        Args:
            total: how many rows there are.
            gradients: they are differentiated, which takes more memory.
        """
        row = self.inputs[0].numel() * self.inputs.element_size()
        factor = PIXEL_GRAPH_FACTOR * self.count if gradients else FORWARD_FACTOR
        size = max(
            1, min(MOST_ON_CPU if self.inputs.device.type == "cpu" else MOST_ROWS, self.memory // (factor * row))
        )
        for start in range(0, total, size):
            stop = min(start + size, total)
            yield slice(start, stop)
            if self._progress is not None:
                self._progress(stop, total)

    def rows(self, count: int, part: slice) -> tuple[Tensor, Tensor]:
        """Of rows that stand for each input ``count`` times in a row: owner and number among its own, ``[R]`` each."""
        numbers = torch.arange(part.start, part.stop, device=self.inputs.device)
        return numbers // count, numbers % count

    def score(self, images: Tensor, owner: Tensor, score: Score | None = None) -> Tensor:
        """What the model makes of R changed inputs.

        Args:
            images: ``[R, C, *P]``.
            owner: ``[R]``.
            score: what to read off the output instead.

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
                return (score or problem.score)(output, self._rows(owner[part])).float()

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
            if layer not in self._repeated_before:
                try:
                    return self._score_changed(layer, edit, owner[part], part, late=True)
                except ModelFailure:
                    # Another branch goes round the layer with as many rows as there are inputs.
                    self._repeated_before.add(layer)
            return self._score_changed(layer, edit, owner[part], part, late=False)

        return _finite(torch.cat(in_chunks(len(owner), len(owner), some)), f"a photo whose layer {layer!r} is changed")

    def _score_changed(self, layer: str, edit: Edit, owner: Tensor, part: slice, *, late: bool) -> Tensor:
        """``late``: rows are repeated behind the layer and not before the model."""
        problem = self.problem
        count = len(owner)
        # One row, or as many as there are inputs, would fit a branch that goes round the layer, which has other rows.
        while late and self.batch > 1 and len(owner) in (1, self.batch):
            owner = torch.cat([owner, owner[-1:]])
        encoding = True
        ran = False

        def changed(value: Tensor) -> Tensor:
            nonlocal ran
            ran = True
            repeated = late and encoding
            if len(value) != (self.batch if repeated else len(owner)):
                raise LayerError(
                    f"layer {layer!r} runs on other rows than the inputs (tiles, crops or frames) and cannot be "
                    "changed; tap a layer that keeps one row per input, or use 'gradcam'"
                )
            value = value[owner] if repeated else value
            return torch.cat([edit(value[:count], part), value[count:]])

        inputs = {name: ordinary(value) for name, value in problem.inputs.items()}
        if not late:
            inputs = {name: value[owner] for name, value in inputs.items()}
        context = {name: ordinary(value)[owner] for name, value in problem.context.items()}
        number = self._seen(layer)[1]
        with (
            undisturbed(problem.model, self.inputs.device),
            model_runs(self.inputs.shape),
            exchanged(problem.model, layer, changed, number - 1),
        ):
            features = problem.encode(inputs)
            encoding = False
            output = problem.decode(features[owner] if late and not ran else features, context)
            if not ran:
                raise LayerError(f"layer {layer!r} does not run in this model's forward pass, or puts out no tensor")
            return problem.score(output, self._rows(owner)).float()[:count]

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
        options: dict[str, Any] = {"strategy": self._strategy, "memory": self.memory, "rule": rule}
        return run(problem, self._rows(owner), layers, reduce, **options).reduced

    @cached_property
    def activations(self) -> dict[str, Tensor]:
        """Layer → ``[B, C, *S]``, what each of :attr:`layers` puts out for the inputs as they are, read as maps.

        Raises:
            LayerError: it does not run, or puts out no map.
        """
        values = {layer: self._seen(layer)[0] for layer in self.readers}
        return {layer: self.readers[layer](self._wide(value)) for layer, value in values.items() if value is not None}

    @cached_property
    def readers(self) -> dict[str, Reader]:
        """How what each of :attr:`layers` puts out is read as maps.

        Raises:
            LayerError: it does not run, or puts out no map.
        """
        return {layer: self._reader(layer) for layer in self.layers}

    def leave_out(self, optional: Collection[str]) -> None:
        """Forget those layers that may be left out and are no map.

        Raises:
            LayerError: none remains, or one of the others is no map.
        """
        kept, refusal = [], None
        for layer in self.layers:
            try:
                self._reader(layer)
                kept.append(layer)
            except LayerError as error:
                if layer not in optional:
                    raise
                refusal = error
        if not kept:
            raise LayerError(f"no layer that fits the pattern can be explained; the last one: {refusal}")
        self.layers = kept

    def _seen(self, layer: str) -> Seen:
        """What a layer puts out for the inputs as they are; one pass looks at all of :attr:`layers`."""
        if layer not in self._looked_at:
            model, found = self.problem.model, self._looked_at
            wanted = list(dict.fromkeys([*self.layers, layer]))
            with ExitStack() as stack:
                stack.enter_context(undisturbed(model, self.inputs.device))
                stack.enter_context(model_runs(self.inputs.shape))
                for name in wanted:
                    found[name] = (None, 0)
                    stack.enter_context(watched(model, name, found))
                inputs = {name: ordinary(value) for name, value in self.problem.inputs.items()}
                self.problem.decode(self.problem.encode(inputs), self.problem.context)
        return self._looked_at[layer]

    def _wide(self, value: Tensor) -> Tensor:
        return value if self.problem.lowered is None else widened(value)

    def _reader(self, layer: str) -> Reader:
        value = self._seen(layer)[0]
        if value is None:
            raise LayerError(f"layer {layer!r} does not run in this model's forward pass, or puts out no tensor")
        prefix = getattr(self.problem.model, "num_prefix_tokens", None)
        image = self.inputs.shape[2:]
        reader = told_or_guessed(self.problem.reader, layer, value.shape, image, prefix, self.batch)
        if reader is None:
            raise LayerError(
                f"layer {layer!r} puts out shape {tuple(value.shape)}, which is no map of the photo; choose one that "
                "`mmexplain layers` lists with a map"
            )
        return reader

    def _problem(self, images: Tensor, owner: Tensor) -> Problem:
        old = self.problem
        inputs = {name: ordinary(value)[owner] for name, value in old.inputs.items() if name != old.image}
        context = {name: ordinary(value)[owner] for name, value in old.context.items()}
        return replace(old, inputs={old.image: images, **inputs}, context=context)

    def _rows(self, owner: Tensor) -> Rows:
        return [self.targets[number] for number in owner.tolist()]


def _further(progress: Callable[[int, int], None], number: int, times: int, done: int, total: int) -> None:
    progress(number * total + done, times * total)


def _finite(scores: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(scores).all()):
        raise ModelError(f"the model's score of {what} is not finite (NaN or Inf)")
    return scores
