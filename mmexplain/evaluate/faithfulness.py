"""Protocol: faithfulness. Does the model's score depend on what a map calls important?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmexplain.errors import InputError, did_you_mean
from mmexplain.evaluate.data.folder import CLIPS, PHOTOS, files
from mmexplain.evaluate.data.questions import QUESTIONS, read_asked
from mmexplain.evaluate.faithfulness_rows import METRICS, RADIUS, Measurement, Options
from mmexplain.evaluate.protocol import Item, Protocol, Row
from mmexplain.evaluate.questions import context_of
from mmexplain.explanation import Explanation
from mmexplain.io import load_image
from mmexplain.methods import select
from mmexplain.tasks.huggingface.speaking import Answering, Speaking
from mmexplain.tasks.vqa.task import VQA

if TYPE_CHECKING:
    from mmexplain.tasks.base import Batch, Task

DEFAULT = ("drop", "increase", "win", "insertion", "deletion")
STEPS, CLIP_STEPS = 32, 16
"""Of insertion and deletion; a pass over a clip takes seconds."""


class Faithfulness(Protocol):
    """What a model says of photos (or clips) that were changed by its own maps.

    Of each photo the likeliest class is explained, of a question about a photo the likeliest answer, of a clip the
    likeliest action, in the window in its middle; of a photo that a captioner sees, each content word of the caption
    that it says. Scores are their probabilities; question and caption stay as they are. All methods are asked about
    together, and all changed inputs run in common batches.

    The formulas are those of :mod:`mmexplain.evaluate.metrics`; forward passes for each target and method:

    * ``drop``, ``increase``, ``win`` (against each other method, in rows of their own): 1;
    * ``insertion``, ``deletion``: ``steps + 1`` each;
    * ``road``: 16, and 16 sparse systems to solve, on the CPU: seconds for a map; photos only;
    * ``correlation`` with the occlusion map, on the map's own grid: those of ``"occlusion"``, once for all;
    * ``infidelity``: ``samples``, once for all;
    * ``sensitivity``: ``samples // 10`` times what it takes to explain.

    Args:
        task: classifier, captioner, action recogniser or one that answers questions.
        data: folder of photos (or clips), see :func:`mmexplain.evaluate.data.folder.files`; of questions, see
            :func:`mmexplain.evaluate.data.questions.read_asked`.
        methods: names of methods.
        layer: of the maps; the task's default if None.
        seed: of what is drawn at random, for each item anew: it does not matter which others are measured.
        metrics: which of the above; by default those without ``road``, ``correlation``, ``infidelity`` and
            ``sensitivity``, which take long.
        steps: of insertion and deletion; None stands for 32, of clips for 16.
        samples: perturbations for infidelity.

    Raises:
        InputError: another task, an unknown metric, no steps.
        MethodError: an unknown method.
    """

    name = "faithfulness"
    title = "Faithfulness of maps"
    labels: ClassVar[tuple[str, ...]] = ("method", "against")
    metrics = METRICS
    batch = 4

    @classmethod
    def wants(cls, data: Path) -> str | None:
        """Questions in the data are answered by those that can."""
        return "vqa" if (data / QUESTIONS).is_file() else None

    def __init__(
        self,
        task: Task,
        data: Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        metrics: Sequence[str] = DEFAULT,
        steps: int | None = None,
        samples: int = 100,
    ) -> None:
        if task.name not in ("classify", "caption", "vqa", "action"):
            raise InputError(
                f"faithfulness is measured for classes, captions, answers and actions, not for task {task.name!r}"
            )
        known = [metric.name for metric in METRICS]
        for name in metrics:
            if name not in known:
                raise InputError(f"unknown metric {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}")
        if not metrics or not methods:
            raise InputError("name at least one method and one metric")
        if steps is None:
            steps = CLIP_STEPS if task.name == "action" else STEPS
        if steps < 1 or samples < 10:
            raise InputError(f"faithfulness takes 1 step and 10 samples or more, not steps={steps}, samples={samples}")
        if task.name == "action" and "road" in metrics:
            raise InputError("ROAD guesses the pixels of photos, not of clips; leave out the metric 'road'")
        self.task, self.data = task, Path(data)
        if task.one_by_one:
            self.batch = 1
        self.options = Options(
            [method.name for method in select(methods)],
            [name for name in known if name in metrics],
            layer,
            steps,
            samples,
            seed,
        )

    def settings(self) -> Mapping[str, Any]:
        """All that was asked for."""
        return {"model": self.task.model_id, **asdict(self.options)}

    def items(self) -> Sequence[Item]:
        """The files of the folder, or its questions."""
        if self.task.name == "vqa":
            return read_asked(self.data)
        return files(self.data, CLIPS if self.task.name == "action" else PHOTOS)

    def notes(self) -> Sequence[str]:
        """How each metric was taken."""
        notes, wanted = [], self.options.metrics
        steps, samples = self.options.steps, self.options.samples
        if self.task.name == "vqa":
            notes.append("Of a question its likeliest answer is explained; questions of unknown words are left out.")
        if {"drop", "increase", "win"} & set(wanted):
            notes.append(
                "Average Drop, Increase, Win (Chattopadhay et al., 2018): the photo times max(0, map) / max(map), "
                "black where the map is not positive; a fall that is equal for two methods is half a win for each."
            )
        if {"insertion", "deletion"} & set(wanted):
            notes.append(
                f"Insertion and deletion (Petsiuk et al., 2018) in {steps} steps (published: one for every 224 "
                "pixels of 224 × 224). The authors' code deletes to the mean colour and blurs with zeros beyond the "
                "border; here pixels go to black, and the border goes on. Both cut the blur's Gaussian of 5 pixels to "
                "11."
            )
        if "road" in wanted:
            notes.append(
                "ROAD (Rong et al., 2022): mean over the percentiles 20, 30, … 90 of half the difference between least "
                "and most relevant first."
            )
        if {"insertion", "deletion", "road"} & set(wanted):
            notes.append(
                "Equal pixels, such as all that a ReLU made zero, go in a random order that is the same for all "
                "methods of an item; flat maps have no order and are undefined."
            )
        if "correlation" in wanted:
            notes.append("Occlusion: a grey patch of 35 pixels, Spearman on the grid of the map.")
        if {"infidelity", "sensitivity"} & set(wanted):
            notes.append(
                f"Infidelity of {samples} black squares with the map scaled for the best; max-sensitivity of "
                f"{samples // 10} inputs within {RADIUS} of the model's (Yeh et al., 2019)."
            )
        return notes

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """Rows of each method, and of each two for wins; explanations and changed inputs of all items together."""
        known = [item for item in items if self._understood(item)]
        rows: dict[str, list[Row]] = {}
        if known:
            keys = [item.key for item in known]
            explain = self._alone if isinstance(self.task, Speaking) else self._explained
            task, batch, explanations = explain([item.content for item in known])
            if any(explanation.probabilities is None for explanation in explanations):
                raise InputError(f"faithfulness is measured in probabilities, and {task.model_id!r} puts out none")
            measured = Measurement(task, batch, explanations, keys, self.options).rows()
            rows = dict(zip(keys, measured, strict=True))
        return [rows.get(item.key, []) for item in items]

    def _understood(self, item: Item) -> bool:
        return not isinstance(self.task, VQA | Answering) or self.task.reads(item.content.question)

    def _alone(self, contents: Sequence[Any]) -> tuple[Task, Batch, list[Explanation]]:
        """The same of one file, or question, and a model that writes, which says it of this photo alone.

        Raises:
            InputError: it sees the photo in tiles, of which no changed ones are made.
        """
        (content,) = contents
        writer: Any = self.task
        if writer.name == "vqa":
            task, choice = writer.chosen(load_image(content.photo), content.question)
        else:
            task, choice = writer.chosen(load_image(content))
        if not task.look.views.single:
            raise InputError(
                f"faithfulness changes a photo that is seen as one picture, and {task.model_id!r} reads "
                f"{task.photo.source or 'this one'!r} as {task.look.views.count} tiles"
            )
        layer = self.options.layer
        explanation = task.explained(
            choice, methods=self.options.explained, layers=layer and [layer], seed=self.options.seed
        )
        batch = task.heard(select(self.options.explained))
        batch.context |= choice.context
        return task, batch, [explanation]

    def _explained(self, contents: Sequence[Any]) -> tuple[Task, Batch, list[Explanation]]:
        """The task, the inputs, prepared, and their explanations; ``contents`` are files or questions about them."""
        layer = self.options.layer
        options: dict[str, Any] = {"methods": self.options.explained, "layers": layer and [layer]}
        asked: list[Any] = []
        if self.task.name == "action":
            options["sampling"] = "dense"
            inputs: list[Any] = list(map(str, contents))
        elif self.task.name == "vqa":
            inputs = [load_image(content.photo) for content in contents]
            asked = [[content.question for content in contents]]
        else:
            inputs = [load_image(path) for path in contents]
        explain: Any = self.task.explain
        explanations: list[Explanation] = explain(inputs, *asked, seed=self.options.seed, **options)
        batch = self.task.prepare(inputs)
        batch.context |= context_of(self.task, explanations)
        return self.task, batch, explanations
