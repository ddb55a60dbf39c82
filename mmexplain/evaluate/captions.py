"""Maps of words in given captions, several captions of one photo, with one run of the encoder a photo.

A captioner's default layer is what its encoder hands to its decoder. Maps there need the photo no more: the encoder
runs once, and each caption is explained from the features it put out, together with captions that have about as many
targets. For other layers, and for methods that change the photo, the encoder runs for every caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmexplain.errors import InputError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import select
from mmexplain.problem import Choice, Rows
from mmexplain.reader import reader_for
from mmexplain.surroundings import evaluating
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, Task
from mmexplain.tasks.captioning.task import Captioning

AT_ONCE = 8
"""Captions explained together: more were slower on a CPU, because their graphs leave its caches."""


@dataclass(frozen=True)
class Given:
    """A caption to explain.

    Attributes:
        photo: number of its photo in the batch.
        tokens: the model's numbers of its words, without the end.
        targets: what to explain; places count words.
    """

    photo: int
    tokens: tuple[int, ...]
    targets: tuple[Target, ...]


def require_captioner(task: object, protocol: str) -> Captioning:
    """The task as a captioner.

    Raises:
        InputError: it is none.
    """
    if not isinstance(task, Captioning):
        named = getattr(task, "model_id", type(task).__name__)
        raise InputError(f"protocol {protocol!r} measures captioners, and {named!r} is none; use 'show-attend-tell'")
    return task


class EncodedPhotos:
    """Photos that a captioner has seen.

    Args:
        task: the captioner.
        photos: whatever :func:`mmexplain.io.load_image` takes.
        methods: to explain with.
        layer: to explain at; None for the task's own.

    Attributes:
        features: what the encoder put out, ``[B, ...]``.
        shared: whether maps are made from ``features``.

    Raises:
        InputError, LayerError, MethodError.
    """

    def __init__(
        self, task: Captioning, photos: Sequence[Any], methods: Sequence[str], layer: str | None = None
    ) -> None:
        self.task, self.methods = task, list(methods)
        self.layer = layer or task.default_layer()
        self._batch = task.prepare(list(photos))
        self.features, handed_on = self._encoded()
        simple = all(m.space in ("layer", "attention") and m.rule is None and not m.moments for m in select(methods))
        self.shared = simple and handed_on and self._is_grid() and "cam" not in self.methods

    def _is_grid(self) -> bool:
        """Whether the features are maps with the channels first."""
        reader = reader_for(self.features.shape, self.task.preprocess.size) if self.features.ndim == 4 else None
        return reader is not None and reader.layout == "channels_first"

    def _encoded(self) -> tuple[Tensor, bool]:
        """The features, and whether they are the layer's own output."""
        module = dict(self.task.model.named_modules()).get(self.layer)
        seen: list[Any] = []
        hook = module.register_forward_hook(lambda *call: seen.append(call[-1])) if module is not None else None
        try:
            with torch.no_grad(), evaluating(self.task.model):
                features = self.task.encode(self._batch.inputs)
        finally:
            if hook is not None:
                hook.remove()
        return features, len(seen) == 1 and seen[0] is features

    def captions(self, beam: int) -> list[list[int]]:
        """What the model says of each photo."""
        with torch.no_grad(), evaluating(self.task.model):
            return self.task.generate(self.features, beam)

    def explain(self, given: Sequence[Given], **options: Any) -> list[Explanation]:
        """Maps of all targets of the captions, in their order.

        Args:
            given: each with one target or more.
            options: of :func:`mmexplain.explain`, ``seed`` for example.
        """
        # The engine fills rows up to the longest one: captions of like size go together.
        order = sorted(range(len(given)), key=lambda number: (len(given[number].targets), self._last(given[number])))
        found: dict[int, Explanation] = {}
        for start in range(0, len(order), AT_ONCE):
            part = order[start : start + AT_ONCE]
            found |= zip(part, self._explained([given[number] for number in part], options), strict=True)
        return [found[number] for number in range(len(given))]

    def _explained(self, given: Sequence[Given], options: dict[str, Any]) -> list[Explanation]:
        rows = torch.tensor([caption.photo for caption in given], device=self.features.device)
        inputs = {"image": self.features} if self.shared else self._batch.inputs
        batch = Batch(
            {name: value[rows] for name, value in inputs.items()},
            {},
            [self._batch.geometries[caption.photo] for caption in given],
            [self._batch.pictures[caption.photo] for caption in given],
        )
        end = self.task.captioner.vocabulary.end
        length = max(map(self._last, given))
        padded = [[*caption.tokens, *[end] * length][:length] for caption in given]
        tokens = torch.tensor(padded, device=self.features.device)
        choice = Choice([list(caption.targets) for caption in given], {"tokens": tokens})
        task, layer = (_FromFeatures(self.task), _FromFeatures.layer) if self.shared else (self.task, self.layer)
        return explain(task, batch, choice, layers=[layer], methods=self.methods, **options)

    @staticmethod
    def _last(caption: Given) -> int:
        """Steps that its targets need."""
        return max((target.index or 0) + len(target.ids) for target in caption.targets)


class _Features(nn.Module):
    """Stands for an encoder that has run: its one layer hands its features on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.features = nn.Identity()


class _FromFeatures(Task):
    """A captioner whose input is what its encoder put out."""

    name: ClassVar[str] = Captioning.name
    layer = "features"

    def __init__(self, task: Captioning) -> None:
        self._task = task
        self._features = _Features(task.model)
        self.model = self._features
        self.model_id = task.model_id

    def prepare(self, *args: Any, **kwargs: Any) -> Batch:
        return self._task.prepare(*args, **kwargs)

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        features: Tensor = self._features.features(inputs["image"])
        return features

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Any:
        return self._task.decode(features, context)

    def score(self, output: Any, targets: Rows) -> Tensor:
        return self._task.score(output, targets)

    def probability(self, output: Any, targets: Rows) -> Tensor:
        return self._task.probability(output, targets)

    def attention(self, output: Any, targets: Rows) -> Tensor | None:
        return self._task.attention(output, targets)

    def default_layer(self) -> str:
        return self.layer
