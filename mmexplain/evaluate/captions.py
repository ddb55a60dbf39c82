"""Maps of words in given captions, several captions of one photo, with one run of the encoder a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmexplain.errors import InputError
from mmexplain.evaluate.encoded import EncodedPhotos
from mmexplain.explanation import Explanation
from mmexplain.problem import Choice
from mmexplain.surroundings import evaluating
from mmexplain.targets import Target
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
        raise InputError(
            f"protocol {protocol!r} measures captioners whose tokens are words, and {named!r} is none; "
            "use 'show-attend-tell'"
        )
    return task


class CaptionedPhotos(EncodedPhotos[Captioning]):
    """Photos that a captioner has seen; captions of like size are explained together."""

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
        order = sorted(range(len(given)), key=lambda number: (len(given[number].targets), _last(given[number])))
        found: dict[int, Explanation] = {}
        for start in range(0, len(order), AT_ONCE):
            part = order[start : start + AT_ONCE]
            found |= zip(part, self._explained([given[number] for number in part], options), strict=True)
        return [found[number] for number in range(len(given))]

    def _explained(self, given: Sequence[Given], options: dict[str, Any]) -> list[Explanation]:
        end = self.task.captioner.vocabulary.end
        length = max(map(_last, given))
        padded = [[*caption.tokens, *[end] * length][:length] for caption in given]
        tokens = torch.tensor(padded, device=self.features.device)
        choice = Choice([list(caption.targets) for caption in given], {"tokens": tokens})
        return self.explain_rows([caption.photo for caption in given], choice, **options)


def _last(caption: Given) -> int:
    """Steps that its targets need."""
    return max((target.index or 0) + len(target.ids) for target in caption.targets)
