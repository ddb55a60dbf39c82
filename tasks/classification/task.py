"""Classification: any module that maps photos to class scores, explained class by class."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from mmexplain import targets as kinds
from mmexplain.errors import InputError, LayerError, ModelError, TargetError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.preprocess import Preprocess
from mmexplain.taps import suggest
from mmexplain.targets import Target
from mmexplain.tasks.base import PhotoTask
from mmexplain.tasks.classification.labels import Labels
from mmexplain.tasks.classification.outputs import find_logits

Link = Literal["softmax", "sigmoid", "none"]
Name = str | int | Target


class Classifier(PhotoTask):
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

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits ``[B, N]``.

        Raises:
            ModelError: the model fails on the photo, or puts out no class scores, or not as many as it has labels.
        """
        classes = None if self.labels is None else len(self.labels)
        logits = find_logits(self.model(inputs["image"]), classes)
        if classes not in (None, logits.shape[1]) and not (classes == 2 and logits.shape[1] == 1):
            raise ModelError(f"model {self.model_id!r} scores {logits.shape[1]:,} classes but has {classes:,} labels")
        return logits

    def default_layer(self) -> str:
        """The last layer that still has a grid, found by running the model once on an empty photo."""
        if self._layer is None:
            empty = self.empty()
            try:
                self._layer = suggest(self.model, lambda: self.model(empty), self.preprocess.size)
            except LayerError as error:
                raise LayerError(f"model {self.model_id!r}: {error}") from None
        return self._layer

    # -- scores -----------------------------------------------------------------------------------------------------

    def score(self, output: Tensor, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Logits ``[R, K]`` before the softmax; for a contrast the difference of two. Where one logit stands for
        yes or no, "no" has its negative.
        """
        columns = self._columns(output)
        own, other, contrasted = self._indices(targets, columns)
        scores = columns.gather(1, own)
        if contrasted is None:
            return scores
        return torch.where(contrasted, scores - columns.gather(1, other), scores)

    def probability(self, output: Tensor, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """Probabilities ``[R, K]``; for a contrast that of its first class."""
        link = self._link(output)
        if link == "none":
            return None
        logits = output.float()
        values = self._columns(logits).sigmoid() if link == "sigmoid" else logits.softmax(1)
        return values.gather(1, self._indices(targets, values)[0])

    def logits(self, output: Tensor, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """Logits ``[R, K, N]`` of the softmax over the classes; None where the classes do not exclude each other."""
        if self._link(output) == "softmax":
            columns = output
        elif self._is_binary(output):
            columns = torch.cat((torch.zeros_like(output), output), 1)
        else:
            return None
        return columns[:, None].expand(-1, len(targets[0]), -1)

    def _is_binary(self, output: Tensor) -> bool:
        return output.shape[1] == 1 and self.labels is not None and len(self.labels) == 2

    def _columns(self, output: Tensor) -> Tensor:
        """One column of scores for each class that a target can name."""
        return torch.cat((-output, output), 1) if self._is_binary(output) else output

    def _link(self, output: Tensor) -> Link:
        if self.link is not None:
            return "sigmoid" if self.link == "softmax" and output.shape[1] == 1 else self.link
        if output.shape[1] > 1:
            return "softmax"
        return "sigmoid" if self._is_binary(output) else "none"

    def _indices(self, targets: Sequence[Sequence[Target]], columns: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Class numbers ``[R, K]`` of the targets and of what they are held against, and which are contrasts."""
        count = columns.shape[1]
        own = [[_class_number(target, count) for target in row] for row in targets]
        other = [[_class_number(target.versus or target, count) for target in row] for row in targets]
        contrasts = [[target.versus is not None for target in row] for row in targets]
        device = columns.device
        return (
            torch.tensor(own, device=device),
            torch.tensor(other, device=device),
            torch.tensor(contrasts, device=device) if any(map(any, contrasts)) else None,
        )

    # -- targets ----------------------------------------------------------------------------------------------------

    def target(self, name: Name) -> Target:
        """The class that a name, a synonym or a number means.

        Raises:
            TargetError: no such class (the closest are offered), or several that fit.
        """
        if isinstance(name, Target):
            return name
        if isinstance(name, str) and self.labels is not None and not _is_unlabelled_number(name, self.labels):
            return self._target(self.labels.find(name))
        try:
            index = int(name) if isinstance(name, str) else operator.index(name)
        except TypeError:
            raise TargetError(f"{name!r} is no class: give a name or a number") from None
        except ValueError:
            raise TargetError(
                f"{name!r}: model {self.model_id!r} has no class names; give a class number, or labels"
            ) from None
        if self.labels is not None and not 0 <= index < len(self.labels):
            known = f"{len(self.labels):,} classes, 0 to {len(self.labels) - 1}"
            raise TargetError(f"class {index} does not exist: the model has {known}")
        if index < 0:
            raise TargetError(f"class {index} does not exist: class numbers start at 0")
        return self._target(index)

    def contrast(self, name: Name, versus: Name) -> Target:
        """``name`` rather than ``versus``: the difference of their logits.

        Raises:
            TargetError: no such class, or twice the same.
        """
        target, against = self.target(name), self.target(versus)
        if target.ids == against.ids:
            raise TargetError(f"{target.label!r} cannot be held against itself: name another class")
        return kinds.contrast(target, against)

    def top(self, logits: Tensor, k: int = 1) -> list[list[Target]]:
        """The ``k`` likeliest classes of each row of logits ``[B, N]`` (all N if there are fewer), likeliest first.

        Raises:
            InputError: ``k`` is less than 1.
        """
        if k < 1:
            raise InputError(f"cannot take the top {k} classes: ask for 1 or more")
        columns = self._columns(logits)
        best = columns.topk(min(k, columns.shape[1]), 1).indices
        return [[self._target(index) for index in row] for row in best.tolist()]

    def _target(self, index: int) -> Target:
        return Target(f"class {index}" if self.labels is None else self.labels.shown(index), "class", (index,))

    # -- explaining -------------------------------------------------------------------------------------------------

    def explain(
        self,
        images: Any,
        targets: Name | Sequence[Name] | None = None,
        *,
        top: int = 1,
        versus: Name | None = None,
        **options: Any,
    ) -> Any:
        """Maps of one or more classes over each photo.

        The likeliest classes are read off the same forward pass that their maps are made from.

        Args:
            images: one photo, or a list of photos.
            targets: class names or numbers; None explains the ``top`` likeliest classes of each photo.
            top: how many, if ``targets`` is None.
            versus: hold each target against this class ("tiger cat rather than bull mastiff").
            options: ``layers``, ``methods``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of photos.

        Raises:
            InputError, TargetError, LayerError, MethodError, ModelError, DeviceError.
        """
        against = None if versus is None else self.target(versus)
        wanted = None if targets is None else [self.target(name) for name in _listed(targets)]
        if wanted is not None and not wanted:
            raise TargetError("no class was named")
        batch = self.prepare(images)

        def choose(logits: Tensor) -> list[list[Target]]:
            rows = self.top(logits, top) if wanted is None else [wanted] * len(logits)
            if against is None:
                return rows
            return [[self.contrast(target, against) for target in row] for row in rows]

        found: list[Explanation] = explain(self, batch, choose, **options)
        return found if isinstance(images, (list, tuple)) else found[0]


def _class_number(target: Target, count: int) -> int:
    if len(target.ids) != 1:
        raise TargetError(f"{target.label!r} is no class of a classifier")
    if target.ids[0] >= count:
        raise TargetError(f"class {target.ids[0]} does not exist: the model has {count:,} classes, 0 to {count - 1}")
    return target.ids[0]


def _listed(targets: Name | Sequence[Name]) -> Sequence[Name]:
    return [targets] if isinstance(targets, (str, int, Target)) else targets


def _is_unlabelled_number(name: str, labels: Labels) -> bool:
    return name.strip().isdecimal() and name.strip() not in labels


def _preprocess_of(model: nn.Module, transforms: Any) -> Preprocess:
    if isinstance(transforms, Preprocess):
        return transforms
    if transforms is not None:
        return Preprocess.from_torchvision(transforms)
    config = getattr(model, "pretrained_cfg", None)
    return Preprocess.from_timm(config) if config else Preprocess.imagenet()
