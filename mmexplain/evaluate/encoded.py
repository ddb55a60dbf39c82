"""Photos that a model has seen: several texts about a photo are explained with one run of the encoder.

The default layer of a captioner, or of a model that answers questions, is often what its encoder hands to its decoder.
Maps there need the photo no more: they are made from the features that the encoder put out. For other layers, and for
methods that change the photo, the encoder runs for every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import select
from mmexplain.precision import in_precision, lowered
from mmexplain.problem import Choice, PooledVJP, Rows
from mmexplain.reader import reader_for
from mmexplain.surroundings import evaluating
from mmexplain.tasks.base import Batch, PhotoTask, Task

AnyTask = TypeVar("AnyTask", bound=PhotoTask)


class EncodedPhotos(Generic[AnyTask]):
    """Photos and what the encoder of a model made of them.

    Args:
        task: encodes photos, and decodes them together with a text.
        photos: whatever :func:`mmexplain.io.load_image` takes.
        methods: to explain with.
        layer: to explain at; None for the task's own.

    Attributes:
        features: what the encoder put out, ``[B, ...]``.
        shared: whether maps are made from ``features``.

    Raises:
        InputError, LayerError, MethodError: a photo, layer or method that cannot be used.
    """

    def __init__(self, task: AnyTask, photos: Sequence[Any], methods: Sequence[str], layer: str | None = None) -> None:
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
        raw: list[Tensor] = []

        def encode(inputs: dict[str, Tensor]) -> Tensor:
            raw.append(self.task.encode(inputs))
            return raw[0]

        photo = self._batch.inputs["image"]
        lower = in_precision(encode, lowered(self.task.precision, photo), photo.device)
        try:
            with torch.no_grad(), evaluating(self.task.model):
                features = lower(self._batch.inputs)
        finally:
            if hook is not None:
                hook.remove()
        return features, len(seen) == 1 and seen[0] is raw[0]

    def explain_rows(self, photos: Sequence[int], choice: Choice, **options: Any) -> list[Explanation]:
        """Maps of R texts about these photos.

        Args:
            photos: for each text the number of its photo.
            choice: R rows of targets; ``context`` are the texts.
            options: of :func:`mmexplain.explain`, ``seed`` for example.
        """
        rows = torch.tensor(photos, device=self.features.device)
        inputs = {"image": self.features} if self.shared else self._batch.inputs
        batch = Batch(
            {name: value[rows] for name, value in inputs.items()},
            {},
            [self._batch.geometries[photo] for photo in photos],
            [self._batch.pictures[photo] for photo in photos],
        )
        task, layer = (_FromFeatures(self.task), _FromFeatures.layer) if self.shared else (self.task, self.layer)
        return explain(task, batch, choice, layers=[layer], methods=self.methods, **options)


class _Features(nn.Module):
    """Stands for an encoder that has run: its one layer hands its features on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.features = nn.Identity()


class _FromFeatures(Task):
    """A task whose input is what its encoder put out."""

    layer = "features"

    def __init__(self, task: PhotoTask) -> None:
        self._task = task
        self._features = _Features(task.model)
        self.name = task.name  # type: ignore[misc]  # of the task that it stands for
        self.model = self._features
        self.model_id = task.model_id

    def prepare(self, *args: Any, **kwargs: Any) -> Batch:
        return self._task.prepare(*args, **kwargs)

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        features: Tensor = self._features.features(inputs["image"])
        return features

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Any:
        return self._task.decode(features, context)

    def pooled_vjp(self, features: Tensor, context: dict[str, Tensor], begun: Any = None) -> PooledVJP | None:
        return self._task.pooled_vjp(features, context, begun)

    def score(self, output: Any, targets: Rows) -> Tensor:
        return self._task.score(output, targets)

    def probability(self, output: Any, targets: Rows) -> Tensor | None:
        return self._task.probability(output, targets)

    def attention(self, output: Any, targets: Rows) -> Tensor | None:
        return self._task.attention(output, targets)

    def default_layer(self) -> str:
        return self.layer
