"""The answers to a question."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

import mmexplain
from cases.case import Case, ClassScores, Ready, Subject, grad_cam_case
from cases.classes import photos
from cases.own import batch_of, explained, numbered

GROUP = "Answers"
MODEL, QUESTION, COUNT = "deeper-lstm-norm-i", "what is the colour of the shirt", 16


class AnswerScores(ClassScores):
    """Logits of answers to one question."""

    def __init__(self, answerer: Any, question: Tensor, count: int) -> None:
        super().__init__(answerer, count)
        self.question = question

    def plain(self, images: Tensor) -> Any:
        """Photo and question in, logits out."""
        features = self.model.encode(images)
        return self.model.decode(features, self.question.expand(len(images), -1)).logits


def build(count: int, device: str) -> Ready:
    """The first answers of the bundled model."""
    task: Any = mmexplain.load(MODEL, "vqa", device)
    image = photos(1, task.answerer.input_size, device)
    question = task.context([QUESTION])["question"]
    layer = task.default_layer()
    batch = batch_of("image", image, question=question)
    subject = Subject(
        AnswerScores(task.answerer, question, count),
        image,
        [layer],
        explained(task, batch, numbered(count, "answer"), [layer]),
    )
    return grad_cam_case(subject)


def cases(tiny: bool) -> Iterator[Case]:
    """One."""
    if not tiny:
        name = f"{MODEL}, {COUNT} answers"
        yield Case(GROUP, name, MODEL, 1, COUNT, partial(build, COUNT), against_peers=True, quick=True)
