"""Photos explained in one batch, and again for the same targets by another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError, ModelError
from mmexplain.evaluate.randomisation import again
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.io import load_image

BATCHED = ("classify", "caption", "vqa")
"""Tasks whose photos go together; clips do not."""


class Together:
    """Photos that are decoded once, however often they are explained.

    Photos that become inputs of different sizes, clips, and photos of which one cannot be explained go one by one.

    Args:
        task: explains them.
        paths: of the photos or clips.
        options: what ``explain`` is told of each; alike but for the question.
    """

    def __init__(self, task: Any, paths: Sequence[Path], options: Sequence[Mapping[str, Any]]) -> None:
        self._batched = task.name in BATCHED and len(paths) > 1 and not task.one_by_one
        self._sources = [load_image(path) if task.name in BATCHED else str(path) for path in paths]
        self._options = [dict(told) for told in options]

    def explain(self, task: Any) -> list[Explanation]:
        """Of each photo the targets that the task names.

        Raises:
            What ``task.explain`` raises.
        """
        if self._batched:
            told = dict(self._options[0])
            if "question" in told:
                told["question"] = self._questions()
            try:
                found: list[Explanation] = task.explain(self._sources, **told)
                return found
            except InputError:  # sizes differ, or it is raised again by the photo that it is about
                self._batched = False
        return [task.explain(source, **told) for source, told in self._each()]

    def again(self, task: Any, explanations: Sequence[Explanation]) -> list[Explanation | None]:
        """The very targets of the explanations by a task of another model; None where its output is unusable, see
        :func:`mmexplain.evaluate.randomisation.again`."""
        if self._batched:
            with suppress(ModelError):  # one photo's output is unusable: the others may be explained, one by one
                return list(self._again(task, explanations))
        return [
            again(task, source, explanation, told)
            for (source, told), explanation in zip(self._each(), explanations, strict=True)
        ]

    def _again(self, task: Any, explanations: Sequence[Explanation]) -> list[Explanation]:
        told = {name: value for name, value in self._options[0].items() if name != "question"}
        if task.name == "caption":
            captions = [explanation.text for explanation in explanations]
            found: list[Explanation] = task.explain(self._sources, **{**told, "caption": captions})
            return found
        batch = task.prepare(self._sources)
        if task.name == "vqa":
            batch.context |= task.context(self._questions())
        return explain(task, batch, [list(explanation.targets) for explanation in explanations], **told)

    def _questions(self) -> list[str]:
        return [told["question"] for told in self._options]

    def _each(self) -> list[tuple[Any, dict[str, Any]]]:
        return list(zip(self._sources, self._options, strict=True))
