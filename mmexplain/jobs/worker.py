"""A loaded model, and how it goes through the inputs of a shard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import torch

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.io import Photo
from mmexplain.jobs import fetch
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.tasks.base import Batch, PhotoTask, Task
from mmexplain.tasks.registry import load
from mmexplain.video import Video

Input = Batch | Photo | Video | Exception
"""An input made ready for the model, or why it could not be."""

Outcome = tuple[Item, Explanation | Exception]

_log = logging.getLogger(__name__)


class Worker:
    """A model ready to explain the items of a job.

    Args:
        job: what is done to each.
        task: the model, if it is loaded already.

    Raises:
        ModelError, CheckpointError, DeviceError: the model cannot be loaded.
    """

    def __init__(self, job: Job, task: Task | None = None) -> None:
        self.job = job
        self.task: Any = load(job.model, job.task, job.device) if task is None else task
        self._ahead = isinstance(self.task, PhotoTask) and not self.task.one_by_one and job.task != "action"

    def ready(self, item: Item, content: bytes | InputError | None = None) -> Input:
        """Read an item and make it a tensor, where the model takes photos of one size. Runs in any thread; what goes
        wrong is returned.

        Args:
            item: what to read.
            content: its photo's bytes, if they are there already, or why they cannot be had.
        """
        try:
            self._require_question(item)
            if self.job.task == "action":
                return fetch.video(item)
            if isinstance(content, InputError):
                raise content
            photo = replace(fetch.photo(item, content), shown=False)
            if not self._ahead:
                return photo
            batch: Batch = self.task.prepare([photo])
            return batch
        except Exception as error:  # of whatever kind: it becomes a row
            return error

    def batches(self, items: Sequence[Item]) -> list[list[Item]]:
        """The items of a shard as batches of those that can be asked together: captions of like length first."""
        if self.job.task == "action":
            return [[item] for item in items]
        groups: dict[Any, list[Item]] = {}
        for item in items:
            groups.setdefault((item.caption is None, item.answers), []).append(item)
        found = []
        for group in groups.values():
            group.sort(key=lambda item: len((item.caption or "").split()))
            found += [group[start : start + self.job.batch] for start in range(0, len(group), self.job.batch)]
        return found

    def explain(self, items: Sequence[Item], inputs: Sequence[Input]) -> list[Outcome]:
        """The items of a batch with their explanations, or with what went wrong.

        A batch that fails is explained in halves, so that one bad input costs no other its maps.
        """
        found: list[Outcome] = []
        good: dict[Any, list[tuple[Item, Any]]] = {}
        for item, ready in zip(items, inputs, strict=True):
            if isinstance(ready, Exception):
                found.append((item, ready))
            else:
                size = tuple(next(iter(ready.inputs.values())).shape[1:]) if isinstance(ready, Batch) else None
                good.setdefault(size, []).append((item, ready))
        for pairs in good.values():
            found += self._halving(pairs)
        return found

    def _halving(self, pairs: Sequence[tuple[Item, Any]]) -> list[Outcome]:
        try:
            return self._together(pairs)
        except Exception as error:  # of whatever kind: it becomes a row
            if len(pairs) == 1:
                _log.debug("%s could not be explained", pairs[0][0].id, exc_info=error)
                return [(pairs[0][0], error.with_traceback(None))]
        # Not within the except block: there the exception's frames still hold the tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        middle = len(pairs) // 2
        return [*self._halving(pairs[:middle]), *self._halving(pairs[middle:])]

    def _together(self, pairs: Sequence[tuple[Item, Any]]) -> list[Outcome]:
        items = [item for item, _ in pairs]
        inputs: Any = [ready for _, ready in pairs]
        if isinstance(inputs[0], Batch):
            inputs = Batch.joined(inputs)
        told = self._told(items)
        shared = {
            "methods": self.job.methods,
            "layers": list(self.job.layers) or None,
            "seed": self.job.seed,
            "precision": self.job.precision,
        }
        explanations = self.task.explain(inputs, **told, **shared)
        return list(zip(items, explanations, strict=True))

    def _told(self, items: Sequence[Item]) -> dict[str, Any]:
        """What the task's ``explain`` is told of these items; they have the same answers, and captions or none."""
        options = {name: value for name, value in self.job.options.items() if name != "targets"}
        targets = [*self.job.options.get("targets", ()), *items[0].answers]
        named: dict[str, Any]
        match self.job.task:
            case "caption":
                captions = None if items[0].caption is None else [item.caption for item in items]
                return {"caption": captions, **options}
            case "vqa":
                return {"question": [item.question for item in items], "answers": targets, **options}
            case "classify" if targets:
                named = {"targets": [self.task.target(name) for name in dict.fromkeys(targets)]}
            case _:
                named = {"targets": list(dict.fromkeys(targets)) or None}
        # Named targets are explained alone, as on the command line.
        return {**named, **{name: value for name, value in options.items() if not targets or name != "top"}}

    def _require_question(self, item: Item) -> None:
        if self.job.task == "vqa" and not (item.question or "").strip():
            raise InputError(f"input {item.id!r} has no question")


Ahead = Callable[[Callable[..., Any], Any], "Future[Any]"]
"""``submit`` of an executor."""


def outcomes(
    worker: Worker,
    batches: Iterator[tuple[int, list[Item]]],
    submit: Ahead,
    depth: int,
    ready: Callable[[Item], Input],
) -> Iterator[tuple[int, list[Outcome]]]:
    """The batches of shards explained one after the other, while those to come are read.

    Args:
        worker: explains them.
        batches: shard number and items.
        submit: runs a function in another thread.
        depth: batches that are read ahead.
        ready: reads an item, as :meth:`Worker.ready` does.
    """
    waiting: list[tuple[int, list[Item], list[Future[Input]]]] = []

    def fill() -> None:
        while len(waiting) <= depth:
            following = next(batches, None)
            if following is None:
                return
            number, items = following
            waiting.append((number, items, [submit(ready, item) for item in items]))

    fill()
    while waiting:
        number, items, futures = waiting.pop(0)
        inputs = [future.result() for future in futures]
        fill()
        yield number, worker.explain(items, inputs)
