"""Protocol: do the maps of answers lie on the things that the questions are about?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.data.boxed_questions import BoxedQuestions, must_be_made, read_boxed_questions
from mmexplain.evaluate.data.flickr8k import ANNOTATIONS
from mmexplain.evaluate.encoded import EncodedPhotos
from mmexplain.evaluate.grounding_rows import METRICS, NOTES, Maps, Thing, centre_row, random_row
from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import select
from mmexplain.problem import Choice
from mmexplain.surroundings import evaluating
from mmexplain.tasks.captioning.flickr8k import Photo
from mmexplain.tasks.vqa.pointing import Pointed, likeliest_wrong
from mmexplain.tasks.vqa.task import VQA

AT_ONCE = 16
"""Questions explained together."""
RIGHT, LIKELIEST, OTHER = range(3)
"""Numbers of the targets of a question: the right answer, the likeliest wrong one, a wrong one drawn by chance."""


class AnswerGrounding(Protocol):
    """Maps of the right answers to questions against the boxes of what is asked for (Flickr30k Entities).

    The questions are made from captions of Flickr8k by the procedure of COCO-QA; of each the phrase that its answer
    comes from has boxes. The map is that of the right answer's score, whatever the model would say. Beside the methods
    stand controls: the centre, a random point, the model's own attention, and the maps of two wrong answers to the same
    question, held against the right answer's boxes.

    Args:
        task: a model that answers questions.
        data: a folder in the layout of ``flickr8k``; see
            :func:`mmexplain.evaluate.data.boxed_questions.read_boxed_questions`.
        methods: names from the registry.
        layer: the task's own if None.
        seed: of the methods' draws, and of the wrong answers that are drawn.
        split: which photos.

    Raises:
        InputError: another task, or no such folder.
        MethodError: no such method.
    """

    name: ClassVar[str] = "answer-grounding"
    title: ClassVar[str] = "Answer grounding (Flickr30k Entities, questions made from captions)"
    labels: ClassVar[tuple[str, ...]] = ("method", "question")
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    @classmethod
    def wants(cls, data: Path) -> str | None:
        """Questions are asked."""
        return "vqa"

    def __init__(
        self,
        task: Any,
        data: Path,
        methods: Sequence[str],
        *,
        layer: str | None = None,
        seed: int = 0,
        split: str = "test",
    ) -> None:
        if not isinstance(task, VQA) or task.one_by_one:
            named = getattr(task, "model_id", type(task).__name__)
            raise InputError(
                f"protocol {self.name!r} measures models that answer questions in batches out of a list, and "
                f"{named!r} is none; use 'deeper-lstm-norm-i'"
            )
        self.task, self.data, self.layer, self.seed, self.split = task, Path(data), layer, seed, split
        if not (self.data / ANNOTATIONS).is_file():
            raise InputError(f"{str(data)!r} holds no Flickr8k: there is no file {ANNOTATIONS!r} in it")
        self._named = [method.name for method in select(methods)]
        self.base = next((name for name in self._named if name != "attention"), None)

    def settings(self) -> Mapping[str, Any]:
        """Model, methods, layer, seed, split, and where the questions come from."""
        return {
            "model": self.task.model_id,
            "methods": self.methods,
            "layer": self.layer or self.task.default_layer(),
            "seed": self.seed,
            "split": self.split,
            "questions": "made from captions" if self._questions.made else "of the folder",
        }

    def items(self) -> Sequence[Item]:
        """The photos with questions, in the order of the data.

        Raises:
            InputError: no such split, damaged data, or no question that the model can read.
        """
        return [Item(photo.file, (photo, asked), self.data / "images" / photo.file) for photo, asked in self._asked]

    def preparing(self) -> str:
        """That questions are made, where they are neither in the folder nor kept from an earlier run."""
        return "making questions from the captions, once" if must_be_made(self.data) else ""

    @cached_property
    def methods(self) -> list[str]:
        """Those that were asked for, and the model's own attention if it has one."""
        return [*self._named, *(["attention"] if "attention" not in self._named and self._attends() else [])]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """Rows of each photo: those of its questions, for every method and control."""
        photos: list[Photo] = [item.content[0] for item in items]
        asked = [(number, question) for number, item in enumerate(items) for question in item.content[1]]
        encoded = EncodedPhotos(
            self.task, [self.data / "images" / photo.file for photo in photos], self.methods, self.layer
        )
        rows: list[list[Row]] = [[] for _ in items]
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            for (photo, question), (explanation, right) in zip(part, self._explained(encoded, part), strict=True):
                rows[photo] += self._rows(explanation, photos[photo], question, right)
        return rows

    def notes(self) -> Sequence[str]:
        """What the questions, the numbers and the controls are."""
        told = []
        if "attention" in self.methods:
            told.append("attention: the model's own, with the whole question in mind.")
        if self.base is not None:
            told.append(
                "likeliest wrong answer, another answer: the maps of a wrong answer to the same question, the "
                "likeliest and one drawn by chance among the answers to questions of its kind, held against the right "
                f"answer's boxes. Both are made with {self.base}."
            )
        return (
            "The map is that of the right answer, of questions whose answer the model knows. The boxes are those of "
            "the phrase that the question was made from. answered right: the questions that the model answers so.",
            *NOTES,
            *told,
        )

    @cached_property
    def _questions(self) -> BoxedQuestions:
        return read_boxed_questions(self.data, self.task.answerer.answers, self.split, self.seed)

    @cached_property
    def _asked(self) -> list[tuple[Photo, list[Pointed]]]:
        """The photos with the questions that the model can read."""
        found = [
            (photo, known)
            for photo, questions in self._questions.asked
            if (known := [item for item in questions if self.task.reads(item.example.text)])
        ]
        if not found:
            raise InputError(f"model {self.task.model_id!r} knows no word of the questions about {str(self.data)!r}")
        return found

    # -- one part of the questions ------------------------------------------------------------------------------------

    def _explained(
        self, encoded: EncodedPhotos[VQA], asked: Sequence[tuple[int, Pointed]]
    ) -> list[tuple[Explanation, bool]]:
        """The maps of each question's answers, and whether the model answers it right."""
        numbers, questions = [number for number, _ in asked], [question for _, question in asked]
        texts = [question.example.text for question in questions]
        context = self.task.context(texts)
        with torch.no_grad(), evaluating(self.task.model):
            logits = self._logits(encoded.features[numbers], context)
        wanted = [[question.right] for question in questions]
        if self.base is not None:
            wrong = likeliest_wrong(logits, questions, self._questions.choices).tolist()
            wanted = [[item.right, likeliest, item.other] for item, likeliest in zip(questions, wrong, strict=True)]
        choice = Choice([[self.task.target(answer) for answer in row] for row in wanted], context, texts)
        explained = encoded.explain_rows(numbers, choice, seed=self.seed)
        said = logits.argmax(1).tolist()
        return [(found, own == item.right) for found, own, item in zip(explained, said, questions, strict=True)]

    def _logits(self, features: Tensor, context: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.task.outcomes(self.task.decode(features, context))
        return logits.float().cpu()

    def _rows(self, explanation: Explanation, photo: Photo, question: Pointed, right: bool) -> list[Row]:
        thing = Thing.within(photo, question.boxes["strict"], explanation.geometry.original)
        maps = Maps(explanation)
        rows = [row for method in self.methods for row in maps.rows(method, [RIGHT], [thing])]
        rows += [centre_row(thing), random_row(thing)]
        if self.base is not None:
            rows += maps.rows(self.base, [LIKELIEST], [thing], "likeliest wrong answer")
            rows += maps.rows(self.base, [OTHER], [thing], "another answer")
        kinds = ("all", question.example.kind, *(["answered right"] if right else []))
        return [{**row, "question": kind} for kind in kinds for row in rows]

    def _attends(self) -> bool:
        """Whether the model has attention of its own, seen on an empty photo."""
        context = self.task.context([self._asked[0][1][0].example.text])
        with torch.no_grad(), evaluating(self.task.model):
            output = self.task.decode(self.task.encode({"image": self.task.empty()}), context)
        return self.task.attention(output, [[self.task.target(0)]]) is not None
