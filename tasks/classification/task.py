"""Classification: any module that maps photos to class scores, explained class by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, get_args

from torch import Tensor, nn

from mmexplain.errors import InputError, LayerError, ModelError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.preprocess import PhotoPreprocess, Preprocess
from mmexplain.taps import suggest
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, PhotoTask
from mmexplain.tasks.classification.outputs import find_logits
from mmexplain.tasks.labels import Labels
from mmexplain.tasks.outcomes import Contrast, Link, Name, OutcomeTask, named


class Classifier(OutcomeTask, PhotoTask):
    """A model that scores N classes (or gives one number) for a photo.

    ``Classifier(model, transforms, labels).explain("photo.jpg")`` is all that a model of one's own needs.

    Args:
        model: maps ``[B, 3, h, w]`` to logits ``[B, N]``, or returns something that holds them (see
            :func:`~mmexplain.tasks.classification.outputs.find_logits`). It is left where it is and as it is.
        preprocess: photo → tensor, with its geometry; or torchvision's evaluation transforms. None takes a timm
            model's own, or else ImageNet's usual ones (short side 256, centre 224, ImageNet's mean and deviation).
        labels: the N class names in the order of the outputs; two names for a single logit of a yes/no model.
        layer: layer to explain by default; found by a look at the model if None.
        model_id: name of the model in what is shown and saved.
        link: how logits become probabilities. None means softmax over several classes, sigmoid for a single logit
            with two labels, and none for another single output (regression). Say ``"sigmoid"`` for multi-label
            models, ``"none"`` for several regression outputs.
    """

    name: ClassVar[str] = "classify"

    def __init__(
        self,
        model: nn.Module,
        preprocess: Any = None,
        labels: Sequence[str] | Mapping[int, str] | None = None,
        *,
        layer: str | None = None,
        model_id: str | None = None,
        link: Link | None = None,
    ) -> None:
        if link is not None and link not in get_args(Link):
            raise InputError(f"unknown link {link!r}; there are: {', '.join(get_args(Link))}")
        self.model = model
        self.model_id = model_id if model_id is not None else type(model).__name__
        self.preprocess = _preprocess_of(model, preprocess)
        self.labels = None if labels is None else Labels.of(labels)
        self.link = link
        self._layer = layer

    # -- the model --------------------------------------------------------------------------------------------------

    def run(self, image: Tensor) -> Any:
        """What the model makes of photos ``[B, 3, h, w]``."""
        return self.model(image)

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits ``[B, N]``.

        Raises:
            ModelError: the model fails on the photo, or puts out no class scores, or not as many as it has labels.
        """
        classes = None if self.labels is None else len(self.labels)
        logits = find_logits(self.run(inputs["image"]), classes)
        if classes not in (None, logits.shape[1]) and not (classes == 2 and logits.shape[1] == 1):
            raise ModelError(f"model {self.model_id!r} scores {logits.shape[1]:,} classes but has {classes:,} labels")
        return logits

    def suggested(self, run: Callable[[], Any]) -> str:
        """The layer to explain by default, by a look at the model, which ``run`` calls.

        Raises:
            LayerError: nothing in it puts out a grid.
        """
        return suggest(self.model, run, self.preprocess.size, self.reader)

    def default_layer(self) -> str:
        """The last layer that still has a grid, found by running the model once on an empty photo.

        Raises:
            LayerError: nothing in it puts out a grid.
        """
        if self._layer is None:
            empty = self.empty()
            try:
                self._layer = self.suggested(lambda: self.run(empty))
            except LayerError as error:
                raise LayerError(f"model {self.model_id!r}: {error}") from None
        return self._layer

    # -- explaining -------------------------------------------------------------------------------------------------

    def explain(
        self,
        images: Any,
        targets: Name | Sequence[Name] | None = None,
        *,
        top: int = 1,
        versus: Name | Sequence[Contrast] | None = None,
        **options: Any,
    ) -> Any:
        """Maps of one or more classes over each photo.

        The likeliest classes are read off the same forward pass that their maps are made from.

        Args:
            images: one photo, a list of photos, or what ``prepare`` made of one.
            targets: class names or numbers; None explains the ``top`` likeliest classes of each photo.
            top: how many, if ``targets`` is None.
            versus: hold each target against this class ("tiger cat rather than bull mastiff"). Or pairs
                ``(class, other)``, whose contrasts are explained besides the named targets, or alone.
            options: ``layers``, ``methods``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of photos.

        Raises:
            TargetError: a class that the model does not have; the closest are offered.
            InputError: a photo that cannot be read, or an option out of range.
            LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        wanted, against = named(self, targets, versus)
        batch = self.prepare(images)

        def choose(logits: Tensor) -> list[list[Target]]:
            rows = self.top(logits, top) if wanted is None else [wanted] * len(logits)
            if against is None:
                return rows
            return [[self.contrast(target, against) for target in row] for row in rows]

        found: list[Explanation] = explain(self, batch, choose, **options)
        return found if isinstance(images, list | tuple | Batch) else found[0]


def _preprocess_of(model: nn.Module, transforms: Any) -> PhotoPreprocess:
    if isinstance(transforms, PhotoPreprocess):
        return transforms
    if transforms is not None:
        return Preprocess.from_torchvision(transforms)
    config = getattr(model, "pretrained_cfg", None)
    return Preprocess.from_timm(config) if config else Preprocess.imagenet()
