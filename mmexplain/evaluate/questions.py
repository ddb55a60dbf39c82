"""Asking a model about inputs that a metric has changed, after it was explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.explainer import problem_of
from mmexplain.explanation import Explanation
from mmexplain.probe import Probe
from mmexplain.problem import Rows, Score, padded

if TYPE_CHECKING:
    from mmexplain.tasks.base import Batch, Task


def context_of(task: Task, explanations: Sequence[Explanation]) -> dict[str, Tensor]:
    """What was read beside the photos: for captions, all of whose words were explained, their tokens ``[B, T]``; for
    answers the questions' tokens."""
    if task.name == "vqa":
        read: dict[str, Tensor] = task.context([e.text for e in explanations])  # type: ignore[attr-defined]
        return read
    if task.name != "caption":
        return {}
    end = task.captioner.vocabulary.end  # type: ignore[attr-defined]
    spoken = []
    for explanation in explanations:
        said = {target.index or 0: target.ids for target in explanation.targets if target.kind == "word"}
        spoken.append([token for index in sorted(said) for token in said[index]])
    longest = max(map(len, spoken))
    device = next(task.model.parameters()).device
    return {"tokens": torch.tensor([[*row, *[end] * (longest - len(row))] for row in spoken], device=device)}


def probe_of(task: Task, batch: Batch, explanations: Sequence[Explanation], seed: int = 0) -> Probe:
    """The model of B explained inputs, with the targets that were explained.

    Args:
        task: of a model that sees photos or clips; of captions, all words were explained.
        batch: what was explained, prepared, with all that was read beside the photos.
        explanations: one for each input of the batch.
        seed: of what is drawn at random.
    """
    longest = max(map(len, explanations))
    scores = torch.stack([torch.cat([e.scores, e.scores[-1:].expand(longest - len(e))]) for e in explanations])
    return Probe(
        problem_of(task, batch),
        padded([explanation.targets for explanation in explanations]),
        scores,
        [],
        logits=task.logits,
        probability=task.probability,
        black=task.black(),
        seed=seed,
    )


@dataclass
class Question:
    """A number of changed inputs, made when it is their turn.

    Attributes:
        owner: which of the B inputs they are made of.
        count: how many there are.
        make: ``(numbers) → [r, C, *P]``, those with these numbers.
    """

    owner: int
    count: int
    make: Callable[[range], Tensor]


def ask(probe: Probe, questions: Sequence[Question], score: Score | None = None) -> list[Tensor]:
    """The scores of all changed inputs, run together in batches as large as memory allows, whatever question they are
    of.

    Returns:
        For each question ``[count, K]`` float32 on the CPU.
    """
    places = [(number, row) for number, question in enumerate(questions) for row in range(question.count)]
    found = []
    for part in probe.parts(len(places)):
        wanted: dict[int, list[int]] = {}
        for number, row in places[part]:
            wanted.setdefault(number, []).append(row)
        images = torch.cat([questions[n].make(range(rows[0], rows[-1] + 1)) for n, rows in wanted.items()])
        owners = torch.tensor([questions[number].owner for number, _ in places[part]], device=images.device)
        found.append(probe.score(images, owners, score).cpu())
    if not found:
        return []
    return list(torch.cat(found).split([question.count for question in questions]))


def probability(probe: Probe) -> Score:
    """What reads the targets' probabilities off the output, ``[R, K]``."""

    def read(output: Any, rows: Rows) -> Tensor:
        found = probe.probability(output, rows)
        if found is None:
            raise InputError("faithfulness is measured in probabilities, and this model puts out none")
        return found

    return read
