"""Photos against texts of the user's own: zero-shot classification by CLIP, SigLIP and SigLIP 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from mmexplain import targets as kinds
from mmexplain.errors import InputError, TargetError, did_you_mean
from mmexplain.explainer import explain
from mmexplain.problem import Choice
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.layers import default_layer
from mmexplain.tasks.huggingface.similarity import Similarity
from mmexplain.tasks.huggingface.tokens import PatchTask, Tokens
from mmexplain.tasks.outcomes import Contrast, Link, Name, OutcomeTask, listed, named

TEXTS = "texts"
"""Name of the context that holds what the texts became: ``[B, N, D]`` of length 1."""

EXAMPLE = "texts=['a cat', 'a dog'], or --target 'a cat' --target 'a dog'"


class ZeroShot(OutcomeTask, PatchTask):
    """A model that says how well texts fit a photo. The score of a text is the model's ``logits_per_image``.

    Args:
        checkpoint: the model with its image processor and tokenizer.
        layer: layer to explain by default; found by a look at the model if None.

    Raises:
        CheckpointError: no image processor or no tokenizer comes with it.
    """

    name: ClassVar[str] = "classify"

    def __init__(self, checkpoint: Checkpoint, *, layer: str | None = None) -> None:
        self.model = checkpoint.model
        self.model_id = checkpoint.id
        self.similarity = Similarity(checkpoint)
        self.preprocess = self.similarity.preprocess
        self.tokens = Tokens.of(self.model.get_submodule("vision_model"), checkpoint.config.vision_config)
        self._layer = layer

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """What the photos became, ``[B, D]`` of length 1."""
        return self.similarity.photos(inputs["image"])

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Tensor:
        """How well each text fits, ``[R, N]``."""
        if TEXTS not in context:
            raise InputError(f"model {self.model_id!r} fits texts to a photo; give some, as in {EXAMPLE}")
        return self.similarity.fit(features, context[TEXTS])

    def default_layer(self) -> str:
        """What enters the last block's attention where only a class token is read; the last block otherwise."""
        if self._layer is None:
            inputs = {"image": self.empty()}
            self._layer = default_layer(self.model, lambda: self.encode(inputs), self.preprocess.size, self.reader)
        return self._layer

    def _link(self, logits: Tensor) -> Link:
        # CLIP's softmax goes over the texts that were given: over a single one it says nothing.
        return "sigmoid" if self.similarity.sigmoid else "softmax" if logits.shape[1] > 1 else "none"

    def target(self, name: Name) -> Target:
        """A text as a target; its number is that among the texts that are explained together."""
        if isinstance(name, Target):
            return name
        if not isinstance(name, str) or not name.strip():
            raise TargetError(f"{name!r} is no text to fit to a photo; write one, as 'a photo of a cat'")
        return Target(name, self.kind)

    def contrast(self, name: Name, versus: Name, weight: float = 1.0) -> Target:
        """The text ``name`` rather than ``versus``, of whose score ``weight`` is taken away."""
        target, against = self.target(name), self.target(versus)
        if target.label == against.label:
            raise TargetError(f"{target.label!r} cannot be held against itself: name another text")
        return kinds.contrast(target, against, weight)

    def explain(
        self,
        images: Any,
        targets: Name | Sequence[Name] | None = None,
        *,
        texts: str | Sequence[str] | None = None,
        versus: Name | Sequence[Contrast] | None = None,
        top: int | None = None,
        **options: Any,
    ) -> Any:
        """Maps of how texts fit each photo.

        Args:
            images: one photo, or a list of photos.
            targets: the texts to explain; those that fit best among ``texts`` if None.
            texts: what may be seen in the photo: CLIP's probabilities are shares among them. The targets if None.
            top: how many, if ``targets`` is None; all if None.
            versus: as for other classifiers: one text that each target is held against, or pairs of texts.
            options: ``layers``, ``methods``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of photos.

        Raises:
            TargetError: a target that is no text, or none of those that were given; the closest are offered.
            InputError: no texts, a photo that cannot be read, or an option out of range.
            LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        wanted, against = named(self, targets, versus)
        if wanted and against is not None:
            wanted = [self.contrast(target, against) for target in wanted]
        given = [self.target(text) for text in listed(texts or ())] or wanted or ()
        known = list(dict.fromkeys(text for target in given for text in _texts(target)))
        if not known:
            raise InputError(f"model {self.model_id!r} fits texts to a photo; give some, as in {EXAMPLE}")
        if self.similarity.flexible and isinstance(images, (list, tuple)):  # one by one: their sizes differ
            again = {"targets": wanted, "texts": known, "top": top, "versus": None if wanted else against, **options}
            return [self.explain(image, **again) for image in images]
        embedded = self.similarity.texts(known)

        def choose(features: Tensor) -> Choice:
            context = {TEXTS: embedded.expand(len(features), -1, -1)}
            rows = [wanted] * len(features) if wanted else None
            rows = rows or self._best(self.decode(features, context), known, top, against)
            return Choice([[self._numbered(target, known) for target in row] for row in rows], context)

        found = explain(self, self.prepare(images), choose, **options)
        return found if isinstance(images, list | tuple | Batch) else found[0]

    def _best(self, fits: Tensor, known: Sequence[str], top: int | None, against: Target | None) -> list[list[Target]]:
        """The texts that fit best, for each row of ``fits`` ``[B, N]``."""
        rows = self.top(fits, len(known) if top is None else top)
        best = [[self.target(known[target.ids[0]]) for target in row] for row in rows]
        return best if against is None else [[self.contrast(target, against) for target in row] for row in best]

    def _numbered(self, target: Target, known: Sequence[str]) -> Target:
        """The target with the numbers of its texts."""
        unknown = [text for text in _texts(target) if text not in known]
        if unknown:
            raise TargetError(f"{unknown[0]!r} is none of the texts that were given{did_you_mean(unknown[0], known)}")
        own, *others = (Target(text, self.kind, (known.index(text),)) for text in _texts(target))
        return kinds.contrast(own, others[0], target.weight) if others else own


def _texts(target: Target) -> list[str]:
    """The text of a target, and of what it is held against."""
    other = target.versus
    if other is None:
        return [target.label]
    return [target.label.removesuffix(kinds.rather_than(other, target.weight)), other.label]
