"""One photo before a model that writes: the task that the engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmexplain.errors import InputError, MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.io import Photo
from mmexplain.methods.method import Method
from mmexplain.methods.registry import select
from mmexplain.problem import Choice
from mmexplain.reader import Reader
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, Task, evenly, picture_of, probabilities_of
from mmexplain.tasks.huggingface import said
from mmexplain.tasks.huggingface.attention import Listening
from mmexplain.tasks.huggingface.said import Said, ScoreName
from mmexplain.tasks.huggingface.speaker import Look, Speaker

if TYPE_CHECKING:
    from mmexplain.tasks.huggingface.speaking import Speaking


class OnPhoto(Task):
    """A model with a photo before it.

    Views, grids and prompts differ from photo to photo, so a task that explains photos one by one makes one of these
    for each.

    Args:
        owner: the task that the user has.
        photo: the photo.
        look: the same as the model reads it.
        score: which score is differentiated.
        words: where the words that were read before a target stand among the places of the text layer.
    """

    heavy_decode = True

    def __init__(
        self, owner: Speaking, photo: Photo, look: Look, score: ScoreName, words: Sequence[Sequence[int]] = ()
    ) -> None:
        self.owner = owner
        self.name = owner.name  # type: ignore[misc]
        self.speaker: Speaker = owner.speaker
        self.model, self.model_id = owner.model, owner.model_id
        self.photo, self.look, self.score_name = photo, look, score
        self.words = words

    # -- the engine's questions -------------------------------------------------------------------------------------

    def prepare(self, images: Any = None) -> Batch:
        """The photo; what is given is not looked at."""
        return Batch(
            {"image": self.look.image},
            {"prompt": self.look.prompt, **self.look.context},
            [self.look.geometry],
            [picture_of(self.photo)],
        )

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Features ``[1, N, D]``."""
        return self.speaker.encode(inputs["image"], self.look)

    def trial(self, inputs: dict[str, Tensor]) -> Any:
        """The whole model, with a word to read."""
        batch = self.prepare()
        ids = (self.speaker.tokens("a") or [self.speaker.end])[:1]
        text = {"said": ids_of([[ids]], self.look.prompt), "spans": ids_of([[[0, 1]]], self.look.prompt)}
        return self.decode(self.encode(inputs), {**batch.context, **text}).hidden

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Said:
        """Reads ``context["said"] [R, A, T]`` after the prompt."""
        texts = context["said"]
        count, length = texts.shape[1:]
        look = {
            name: value.repeat_interleave(count, 0)
            for name, value in context.items()
            if name not in ("said", "spans", "listen")
        }
        # A single text reads the features themselves: the engine knows what is made of them.
        features = features.contiguous() if count == 1 else features.repeat_interleave(count, 0)
        with Listening(self.speaker, look, self.look.views, length, "listen" in context) as heard:
            hidden = self.speaker.read(features, look, texts.flatten(0, 1))
        found = heard.attention
        return Said(
            hidden.unflatten(0, (-1, count)),
            texts,
            context["spans"],
            None if found is None else found.unflatten(0, (-1, count)),
        )

    def score(self, output: Said, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Scores ``[R, K]``, see :func:`mmexplain.tasks.huggingface.said.score`."""
        return said.score(output, targets, self.speaker.project, self.score_name)

    def probability(self, output: Said, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Probabilities ``[R, K]``: of several tokens the product; of a contrast that of the first if it is one of the
        two."""
        return probabilities_of(said.score(output, evenly(targets), self.speaker.project, "log-probability"), targets)

    def logits(self, output: Said, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Logits over the vocabulary ``[R, K, V]`` at each target's first token."""
        found = said.places(targets, output)
        rows = [[output.hidden[r, place.text, place.start] for place in row] for r, row in enumerate(found)]
        return self.speaker.project(torch.stack([torch.stack(row) for row in rows])).float()

    def attention(self, output: Said, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """The model's own attention over the photo ``[R, K, *S]``."""
        return said.attention(output, targets)

    def default_layer(self) -> str:
        """As the family has it."""
        return self.owner.default_layer()

    def reader(self, layer: str, shape: Sequence[int]) -> Reader | None:
        """As the family has it, for this photo's views."""
        return self.speaker.reader(layer, shape, self.look)

    def black(self) -> Sequence[float]:
        """As the preprocessing has it."""
        return self.owner.black()

    def text_layer(self) -> str | None:
        """As the family has it."""
        return self.speaker.text_layer()

    def text_places(self, target: Target, count: int) -> Sequence[Sequence[int]]:
        """Tokens of the words that were read before a target."""
        if target.kind in ("word", "span") or (target.versus is not None and target.index is not None):
            return self.words[: target.index]
        return self.words

    def provenance(self) -> dict[str, Any]:
        """As the owner has it."""
        return self.owner.provenance()

    # -- explaining -------------------------------------------------------------------------------------------------

    def heard(self, methods: Sequence[Method]) -> Batch:
        """The photo, and that the model's attention is recorded, where a method asks for it."""
        batch = self.prepare()
        if any(method.space == "attention" for method in methods):
            batch.context["listen"] = self.look.prompt.new_zeros(1, 1)
        return batch

    def explained(self, choice: Choice, **options: Any) -> Explanation:
        """Maps of the targets, laid out over the photo.

        Args:
            choice: targets, and the tensors ``said`` and ``spans``.
            options: of :func:`mmexplain.explain`.

        Raises:
            InputError: strategy "expand", whose rows would be taken for tiles.
            MethodError: a method that changes the photo, for a model that sees it in tiles.
        """
        if options.get("strategy") == "expand" and not self.look.views.single:
            raise InputError("strategy 'expand' cannot repeat a photo that is read in tiles; use 'auto'")
        methods = select(options.get("methods") or ("gradcam",))
        batch = self.heard(methods)
        for method in methods:
            if not self.look.views.single and method.space in ("pixel", "probe", "product"):
                raise MethodError(
                    f"{method.name!r} needs the photo as one picture, and {self.model_id!r} reads this one as "
                    f"{self.look.views.count} tiles; use methods on layers, such as 'gradcam' and 'layercam'"
                )
        (found,) = explain(self, batch, choice, **options)
        found.maps = {
            key: values if key.method in found.pixel_methods else self.look.views.lay_out(values)
            for key, values in found.maps.items()
        }
        return found


def ids_of(values: Any, like: Tensor) -> Tensor:
    """Numbers of tokens or places as a tensor on the device of ``like``."""
    return torch.tensor(values, device=like.device)
