"""Running the two steps of a model with the graph starting at the earliest tapped layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmexplain.errors import LayerError, ModelError
from mmexplain.methods.relu_rules import NoReLUError, ReLURule, relu_rule
from mmexplain.pooled_reads import PooledReads
from mmexplain.problem import PooledVJP, Problem, Rows
from mmexplain.reader import Reader, reader_for, told_or_guessed
from mmexplain.recorder import Recorder
from mmexplain.taps import INPUT

_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)
"""What layers raise when they are given shapes, types or sizes that they do not take."""


SEVERAL = 4
"""Photos in a batch from which on they are laid out for faster convolutions."""


class ModelFailure(ModelError):
    """An exception of the model's own while it ran."""


class Forward:
    """``encode`` and ``decode`` of one problem, recorded.

    Attributes:
        layers: resolved names, ``"input"`` for the photo itself; after ``decode`` without those that may be left out
            and are no map.
        readers: layer → how its output is read as maps, after ``decode``.
        inputs: name → ``[B, ...]``.
        context: name → ``[B, ...]``.
        batch: B.
        image: the photos or clips ``[B, C, *S]``.
        recorder: holds the tensors that gradients are taken for, after each step.
        create_graph: keep the whole graph, from the inputs on.
        rule: another backward rule for ReLU.
        reads: where no more of the gradients is read than their mean over the places: linear layers that read the
            tapped layer's tokens tell it.
    """

    def __init__(
        self,
        problem: Problem,
        inputs: dict[str, Tensor],
        context: dict[str, Tensor],
        layers: list[str],
        create_graph: bool,
        rule: ReLURule | None,
        optional: Collection[str] = (),
        pooled: bool = False,
    ) -> None:
        self.problem = problem
        self._given = inputs
        self.inputs = inputs
        self.context = context
        self.layers = layers
        self.modules = [layer for layer in layers if layer != INPUT]
        self.create_graph = create_graph
        self.image = inputs[problem.image]
        self.batch = self.image.shape[0]
        self.recorder = Recorder(problem.model, self.modules, self.batch, widen=problem.lowered is not None)
        self.readers = {INPUT: Reader("channels_first")}
        self._optional = optional
        self._repeats = 1
        self.rule = rule
        self._relu_rule = relu_rule(rule) if rule else None
        self.reads: PooledReads | None = None
        if pooled and not create_graph and rule is None and len(layers) == 1 and layers == self.modules:
            self.reads = pooled_reads(problem, layers[0], self.recorder, self.image)
        if not create_graph and INPUT not in layers and convolves_faster(self.image):
            self.inputs = inputs | {problem.image: self.image.contiguous(memory_format=torch.channels_last)}

    @property
    def pooled_means(self) -> Tensor | None:
        """Where the gradients of what has read the tapped layer arrive, pooled; see :class:`PooledReads`."""
        return self.reads.means if self.reads else None

    def encode(self, repeats: int = 1, *, at_input: bool = False) -> Tensor:
        """Features of the inputs.

        Args:
            repeats: each row is repeated this often where the graph begins ...
            at_input: ... or before the model begins.

        Returns:
            ``[B, ...]`` or ``[B · repeats, ...]``, not repeated if no tapped layer has run yet.
        """
        self._repeats = repeats
        try:
            features = self._encode_once(repeats, at_input, whole_graph=self.create_graph)
        except ModelFailure:
            if self.inputs is self._given:
                raise
            # Some models ask for a view of what they take to lie channels first.
            self.inputs = self._given
            features = self._encode_once(repeats, at_input, whole_graph=self.create_graph)
        if self.recorder.captured and not features.requires_grad and not self.create_graph:
            # A model that runs part of itself under its own no_grad switches the graph off again when it leaves
            # that block; a graph from the beginning costs memory but not correctness.
            features = self._encode_once(repeats, at_input, whole_graph=True)
        return features

    def _encode_once(self, repeats: int, at_input: bool, *, whole_graph: bool) -> Tensor:
        inputs = dict(self.inputs)
        if self.reads:
            self.reads.begin()
        if at_input:
            inputs = repeat_rows(inputs, repeats)
        with (
            self.recorder.encoding(1 if at_input else repeats),
            torch.set_grad_enabled(whole_graph),
            self._rule(),
            self._listening(),
        ):
            if INPUT in self.layers:
                image = inputs[self.problem.image]
                if not (self.create_graph and image.requires_grad):
                    image = image.detach().repeat_interleave(1 if at_input else repeats, 0).requires_grad_()
                torch.set_grad_enabled(True)
                self.recorder.captured[INPUT] = image
                inputs[self.problem.image] = image.clone()
            with model_runs(self.image.shape):
                features = self.problem.encode(inputs)
        if not isinstance(features, Tensor):
            raise ModelError(f"encode must return a tensor, not {type(features).__name__}")
        # What a model made under its own inference_mode can enter a graph only as a copy made outside of it.
        features = features.clone() if features.is_inference() else features
        # What reads the features, a decoder of the user's or a search, may ask for views of them.
        return features if self.inputs is self._given else self.recorder.laid_out(features)

    def decode(
        self, features: Tensor, rows: Rows, repeats: int = 1, expand: Callable[[Any], Any] | None = None
    ) -> tuple[Any, Tensor]:
        """Output and scores ``[R, k]`` of R rows of features; the context is repeated to match. ``expand`` makes R rows
        of the output where there are fewer of features."""
        with self.recorder.decoding(), torch.enable_grad(), self._rule(), self._listening():
            with model_runs(self.image.shape):
                output = self.problem.decode(features, repeat_rows(self.context, repeats))
            if expand:
                output = expand(output)
            scores = self.problem.score(output, rows)
        self._require_shape(scores, rows)
        self.settle_layers(self.batch * repeats)
        self._require_graph(scores)
        self._require_relu()
        return output, scores

    def decode_pooled(self, features: Tensor, begun: Any) -> PooledVJP | None:
        """The model's own way back from its decoder, where it offers one; see ``Choice.begun``."""
        offered = self.problem.pooled_vjp
        if offered is None:
            return None
        with self.recorder.decoding(), torch.no_grad(), model_runs(self.image.shape):
            return offered(features.detach(), self.context, begun)

    def score(self, output: Any, rows: Rows) -> Tensor:
        """Scores ``[R, k]`` of an output that :meth:`decode` did not make."""
        with torch.enable_grad():
            scores = self.problem.score(output, rows)
        self._require_shape(scores, rows)
        self._require_graph(scores)
        return scores

    @staticmethod
    def _require_shape(scores: Tensor, rows: Rows) -> None:
        expected = (len(rows), len(rows[0]))
        if tuple(scores.shape) != expected:
            raise ModelError(
                f"score returned shape {tuple(scores.shape)} for {expected[0]} rows of {expected[1]} targets"
            )

    @staticmethod
    def _require_graph(scores: Tensor) -> None:
        if not scores.requires_grad:
            raise ModelError(
                "the score does not depend on the tapped layers in a differentiable way: the model detaches its "
                "features, or decides by argmax before the score"
            )

    def _require_relu(self) -> None:
        """Without a ReLU the gradients under a rule would be the plain ones. Before a tap the rule changes nothing."""
        rule = self._relu_rule
        if rule and not (rule.applied if INPUT in self.layers else rule.seen):
            raise NoReLUError("guided and deconvnet gradients need ReLUs, and this model runs none; use 'gradcam'")

    def settle_layers(self, rows: int) -> None:
        """Find out how to read what the layers put out; leave out what is no map, where that is allowed."""
        refusals: list[LayerError] = []
        for layer in self.modules:
            try:
                self.readers[layer] = self._reader(layer, rows)
            except LayerError as error:
                if layer not in self._optional:
                    raise
                refusals.append(error)
                self.layers = [name for name in self.layers if name != layer]
        if refusals and not self.layers:
            raise LayerError(f"no layer that fits the pattern can be explained; the last one: {refusals[-1]}")
        self.modules = [layer for layer in self.layers if layer != INPUT]

    def _reader(self, layer: str, rows: int) -> Reader:
        self.recorder.require([layer])
        value = self.recorder.captured[layer]
        expected = self.batch * self._repeats if layer in self.recorder.encoded() else rows
        count = len(value) if value.ndim else 1
        image = self.image.shape[2:]
        prefix = getattr(self.problem.model, "num_prefix_tokens", None)
        told = self.problem.reader and self.problem.reader(layer, value.shape)
        if told is not None and count == expected * told.rows_per_input:
            return told
        reader = None if told is not None else reader_for(value.shape, image, prefix, expected)
        if count != expected and (reader is None or expected > 1):
            # Rows of one input would be broadcast against another's gradients. Frames of one clip are its own, but of
            # several it cannot be told which rows are whose.
            mend = "tap a layer that keeps one row per input"
            if reader is not None:
                mend = "give clips one by one, with strategy 'auto'"
            raise LayerError(
                f"layer {layer!r} runs on {max(1, count * self.batch // expected)} rows for {self.batch} input(s) "
                f"(tiles, crops or frames); {mend}"
            )
        if reader is None:
            raise LayerError(
                f"layer {layer!r} puts out shape {(self.batch, *value.shape[1:])}, which is no map of the photo; "
                "choose one that `mmexplain layers` lists with a map"
            )
        return reader

    def _rule(self) -> AbstractContextManager[Any]:
        return self._relu_rule or nullcontext()

    def _listening(self) -> AbstractContextManager[Any]:
        return self.reads.listening() if self.reads else nullcontext()


def pooled_reads(problem: Problem, layer: str, recorder: Recorder, image: Tensor) -> PooledReads:
    """What listens to linear layers that read ``layer``. It holds no Forward: in a circle what it keeps would live on
    until Python looks for circles."""
    prefix = getattr(problem.model, "num_prefix_tokens", None)

    def reader(value: Tensor) -> Reader | None:
        return told_or_guessed(problem.reader, layer, value.shape, image.shape[2:], prefix, len(image))

    return PooledReads(partial(recorder.handed, layer), reader)


def convolves_faster(photos: Tensor) -> bool:
    """Whether convolutions on a CPU are faster where the channels of ``[B, C, h, w]`` lie together: of several photos,
    by a sixth (ResNet-50) to two fifths (EfficientNet); of one or two they are not (``benchmarks/bench.py``)."""
    return photos.ndim == 4 and photos.device.type == "cpu" and len(photos) >= SEVERAL


@contextmanager
def model_runs(shape: Sequence[int]) -> Iterator[None]:
    """What the model raises, run on photos of that shape, becomes a ModelFailure; running out of memory is another
    matter."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except _FAILURES as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelFailure(f"the model fails on an input of shape {tuple(shape)}: {reason}") from error


def repeat_rows(tensors: dict[str, Tensor], repeats: int) -> dict[str, Tensor]:
    """Every row ``repeats`` times in a row."""
    if repeats == 1:
        return tensors
    return {name: value.repeat_interleave(repeats, 0) for name, value in tensors.items()}
