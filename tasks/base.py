"""The Task contract: the only thing that knows what a model's output means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmexplain.errors import InputError
from mmexplain.geometry import Geometry
from mmexplain.io import Photo, display, load_image
from mmexplain.picture import Picture
from mmexplain.precisions import Precision
from mmexplain.preprocess import PhotoPreprocess
from mmexplain.problem import PooledVJP
from mmexplain.reader import Reader, ReaderOf
from mmexplain.targets import Target
from mmexplain.transfer import sent

Rows = Sequence[Sequence[Target]]


@dataclass
class Batch:
    """Tensors of B inputs.

    ``inputs`` feeds the part of the model before the tapped layers (photos, clips) and is run once. ``context``
    is read after them (the words of a caption, a question); the engine repeats its rows, once per target.

    Attributes:
        inputs: name → ``[B, ...]``.
        context: name → ``[B, ...]``.
        geometries: for each input, how its tensor lies over the original file.
        pictures: for each input, the photo for display and where it came from.
        reader: how layers are read as maps, where it depends on these inputs; asked in place of :meth:`Task.reader`.
    """

    inputs: dict[str, Tensor]
    context: dict[str, Tensor] = field(default_factory=dict)
    geometries: list[Geometry] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    reader: ReaderOf | None = None

    def __len__(self) -> int:
        return next(iter(self.inputs.values())).shape[0]

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """One batch of several, whose inputs must have one shape and be read alike.

        Raises:
            InputError: their inputs have different shapes.
        """
        first = batches[0]
        if len(batches) == 1:
            return first
        for name in first.inputs:
            shapes = {tuple(batch.inputs[name].shape[1:]) for batch in batches}
            if len(shapes) > 1:
                raise InputError(f"inputs of different sizes cannot be one batch: {', '.join(map(str, shapes))}")
        return cls(
            {name: torch.cat([batch.inputs[name] for batch in batches]) for name in first.inputs},
            {name: torch.cat([batch.context[name] for batch in batches]) for name in first.context},
            [geometry for batch in batches for geometry in batch.geometries],
            [picture for batch in batches for picture in batch.pictures],
            first.reader,
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""
        return Batch(
            {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()},
            {name: value.to(device, non_blocking=True) for name, value in self.context.items()},
            self.geometries,
            self.pictures,
            self.reader,
        )


def photos_of(images: Any) -> list[Photo]:
    """One photo or a sequence of them, decoded.

    Args:
        images: whatever :func:`mmexplain.io.load_image` takes, or a list of it.

    Raises:
        InputError: no photo, or one that cannot be read.
    """
    several = isinstance(images, (list, tuple))
    photos = [image if isinstance(image, Photo) else load_image(image) for image in (images if several else [images])]
    if not photos:
        raise InputError("no photo was given")
    return photos


def probabilities_of(scores: Tensor, targets: Sequence[Sequence[Target]]) -> Tensor:
    """Probabilities ``[R, K]`` of log-probabilities; of contrasts, which are differences of two, that of the first if
    it is one of the two."""
    contrasts = sent([[target.versus is not None for target in row] for row in targets], scores.device)
    return torch.where(contrasts, scores.sigmoid(), scores.exp())


def contrasted(targets: Rows, scored: Callable[[Rows], Tensor]) -> Tensor:
    """Scores ``[R, K]`` of targets, from which contrasts have the weighted score of their other taken away.

    Args:
        targets: K for each of R rows.
        scored: targets → scores ``[R, K]`` of what they name, whatever it is held against.
    """
    own = scored(targets)
    weights = [[0.0 if target.versus is None else target.weight for target in row] for row in targets]
    if not any(map(any, weights)):
        return own
    share = sent(weights, own.device, own.dtype)
    others = scored([[target.versus or target for target in row] for row in targets])
    # What cannot be said has a score of minus infinity, of which nothing can be taken away.
    return torch.where(share > 0, own - share * others, own)


def evenly(targets: Rows) -> Rows:
    """The targets with contrasts that take all of the other's score away, as the probability of one of two is told."""
    if all(target.weight == 1 for row in targets for target in row):
        return targets
    return [[replace(target, weight=1.0) for target in row] for row in targets]


def photo_batch(
    images: Any, preprocess: PhotoPreprocess, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Batch:
    """One photo or a sequence of them → a batch whose input ``image`` is ``[B, 3, h, w]``.

    Args:
        images: whatever :func:`mmexplain.io.load_image` takes, or a list of it.
        preprocess: photo → tensor, with its geometry.
        device: where the tensors go.
        dtype: floating type of the model.

    Raises:
        InputError: no photo, one that cannot be read, or photos that become inputs of different sizes.
    """
    photos = photos_of(images)
    tensors, geometries = zip(*(preprocess(photo) for photo in photos), strict=True)
    for number, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            sizes = [f"{width}×{height}" for height, width in (tensors[number].shape[-2:], tensors[0].shape[-2:])]
            raise InputError(
                f"{_named(photos, number)} becomes an input of {sizes[0]} pixels but {_named(photos, 0)} one of"
                f" {sizes[1]}: explain them one by one, or let the preprocessing crop or squash to one size"
            )
    return Batch(
        {"image": sent(torch.stack(tensors), torch.device(device), dtype)},
        geometries=list(geometries),
        pictures=[picture_of(photo) for photo in photos],
    )


def picture_of(photo: Photo) -> Picture:
    """The photo for display; without pixels where nobody will look at it."""
    pixels = display(photo) if photo.shown else torch.empty(0, 0, 3, dtype=torch.uint8)
    return Picture(pixels, photo.source)


def _named(photos: Sequence[Photo], number: int) -> str:
    source = photos[number].source
    return f"photo {number + 1}" if source is None else f"photo {number + 1} ({source})"


class Task(ABC):
    """What the engine asks of a task.

    A subclass says how a request becomes tensors (:meth:`prepare`), how the model runs in two steps
    (:meth:`encode`, :meth:`decode`) and which number to differentiate (:meth:`score`). It computes no gradient.

    The two steps are what makes K targets cheap: ``encode`` runs once for a photo; ``decode`` is small (or nothing)
    and may run over features repeated K times, unless :attr:`heavy_decode` says that it is not small. A plain
    classifier encodes to its logits and decodes them unchanged.
    """

    name: ClassVar[str]
    one_by_one: ClassVar[bool] = False
    """Whether photos are prepared one by one, because each has a grid, tiles or a prompt of its own."""
    model: nn.Module
    model_id: str
    precision: Precision = "float32"
    """What :meth:`encode` runs in where an explanation is not told another (:mod:`mmexplain.precision`)."""
    heavy_decode: ClassVar[bool] = False
    """Whether :meth:`decode` is most of the model, as a language model that reads the photo's tokens is. The strategy
    "auto" then runs it once for each input, however many targets there are."""

    @abstractmethod
    def prepare(self, *args: Any, **kwargs: Any) -> Batch:
        """Requests (paths, PIL images, texts) → one batch on the model's device."""

    @abstractmethod
    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Run the part of the model that sees the photo: ``inputs`` of B rows → features ``[B, ...]``."""

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Any:
        """Run the rest: features and context of R rows → output. R is B or B·K: rows must not mix."""
        return features

    def pooled_vjp(self, features: Tensor, context: dict[str, Tensor], begun: Any = None) -> PooledVJP | None:
        """:meth:`decode`, and a way back to the features ``[B, C, *S]`` for those who need only the sum of their
        gradients over the places, as Grad-CAM does. Worth having where the decoder reads places one by one, or reads a
        text of which each target needs a part. Here None: there is no way but autograd's.

        Args:
            features: of B rows.
            context: of B rows.
            begun: :attr:`~mmexplain.problem.Choice.begun` of the targets.
        """
        return None

    @abstractmethod
    def score(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Differentiable scores ``[R, K]`` of ``targets[r][k]`` (every row has the same K)."""

    def probability(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """Probabilities ``[R, K]`` for people to read, or None where the model has none."""
        return None

    def logits(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """Logits ``[R, K, V]`` of the softmax that each target is one outcome of, or None without a softmax."""
        return None

    def attention(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """The model's own attention over the photo for each target, ``[R, K, *S]``, or None without one."""
        return None

    @abstractmethod
    def default_layer(self) -> str:
        """Dotted name of the layer that is explained when the user names none."""

    def reader(self, layer: str, shape: Sequence[int]) -> Reader | None:
        """How a layer's output is read as maps, where the task knows it better than its shape tells.

        Args:
            layer: dotted name, perhaps with ``@call``; ``"attention"`` stands for the tokens that attend to each
                other where the model sees the photo.
            shape: of what it puts out, ``[R, ...]``.

        Returns:
            None where the shape tells enough, as that of maps does, or of tokens that fold to a grid of the input's
            aspect.

        Raises:
            LayerError: its output is no map of the photo, whatever it looks like.
        """
        return None

    def on(self, image: Any) -> Task:
        """The task to look at the model's layers with on one photo: itself, where all photos are read alike."""
        return self

    def trial(self, inputs: dict[str, Tensor]) -> Any:
        """Run the layers that can be tapped, to see what they put out. Here :meth:`encode`."""
        return self.encode(inputs)

    def black(self) -> Sequence[float]:
        """What a black pixel becomes in the model's input, for each channel; one number stands for all. Parts of the
        photo that are taken away become black. Here 0, which is right where nothing is subtracted."""
        return (0.0,)

    def text_layer(self) -> str | None:
        """Dotted name of the module that embeds the text: called once in :meth:`decode`, it puts out ``[R, T, D]``, a
        vector for each of T places. None: the model reads no text.
        """
        return None

    def text_places(self, target: Target, count: int) -> Sequence[int | Sequence[int]]:
        """Where the words stand that were read before a target was said.

        Args:
            target: one of those that the text's Choice holds.
            count: words of the text: of ``Choice.words`` for its input.

        Returns:
            Of the first word, the second, and so on, its place among the T of :meth:`text_layer`, or the places of
            its tokens where it has several. Shorter than ``count`` where the last words were not read. Other places (a
            start token, padding) stay as they are when words are taken away. Here every word, at its own number, as in
            a question.
        """
        return range(count)

    def provenance(self) -> dict[str, Any]:
        """What an explanation's record should tell of the task, as plain JSON-able values."""
        return {}


class PhotoTask(Task):
    """A task that looks at photos. They are sent where the model is, in its floating type.

    Attributes:
        preprocess: photo → tensor, with its geometry.
    """

    preprocess: PhotoPreprocess

    @property
    def like(self) -> Tensor:
        """A tensor of the model's device and floating type."""
        tensors = chain(self.model.parameters(), self.model.buffers())
        return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))

    @property
    def device(self) -> torch.device:
        """Where the model is, and where photos are sent."""
        return self.like.device

    def prepare(self, images: Any) -> Batch:
        """One photo or a sequence of them (paths, PIL images, whatever :func:`mmexplain.io.load_image` takes)
        → a batch whose input ``image`` is ``[B, 3, h, w]``. A batch that was made before comes back as it is.

        Raises:
            InputError: a photo that cannot be read, or photos that become inputs of different sizes.
        """
        if isinstance(images, Batch):
            return images
        like = self.like
        return photo_batch(images, self.preprocess, like.device, like.dtype)

    def empty(self) -> Tensor:
        """An empty photo ``[1, 3, h, w]``, to see how the model runs."""
        return torch.zeros(1, 3, *self.preprocess.size).to(self.like)

    def black(self) -> Sequence[float]:
        """As the preprocessing has it."""
        return self.preprocess.black

    def provenance(self) -> dict[str, Any]:
        """The model's class and what was done to the photo."""
        kind = type(self.model)
        return {"model_class": f"{kind.__module__}.{kind.__qualname__}", "preprocess": self.preprocess.to_dict()}
