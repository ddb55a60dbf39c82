"""How many inputs at a time: found by trying, because models, devices and photos differ too much to reckon it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import psutil
import torch

from mmexplain.errors import InputError, MMExplainError, TargetError
from mmexplain.explanation import Explanation
from mmexplain.jobs.item import Item
from mmexplain.jobs.worker import Input, Outcome, Worker

MOST = 64
"""Largest batch that is tried."""

GAIN = 1.05
"""A larger batch is taken if it is faster by this much: it costs memory, and more is lost when it fails."""

FAULTS = 4
"""So many inputs fail for the same want of the model or the settings before it is taken for theirs: one photo alone may
make a model's scores infinite."""

LOOKS = 1024
"""So many inputs are looked at to find one that can be read: that there is no such layer is to be told before millions
of rows say so."""

MEMORY_SHARE = 0.5
"""Share of the memory that is free which a batch may take."""


@dataclass(frozen=True)
class Trial:
    """What was found.

    Attributes:
        batch: inputs at a time.
        outcomes: of the inputs that were tried last.
        tried: batch → inputs per second, and bytes that it took.
    """

    batch: int
    outcomes: list[Outcome]
    tried: dict[int, tuple[float, int]]

    @property
    def explanations(self) -> list[Explanation]:
        """Those that could be made."""
        return [found for _, found in self.outcomes if isinstance(found, Explanation)]


def try_batches(worker: Worker, items: Iterable[Item], memory: int | None = None, batch: int | None = None) -> Trial:
    """Try batches of 1, 2, 4, … of these items until they bring no more speed or would not fit.

    Args:
        worker: explains them.
        items: of the run; the first are looked at.
        memory: bytes that a batch may take; half of what is free where left out.
        batch: what was decided already: only what maps look like is to be seen.

    Raises:
        MMExplainError: not one of the first inputs can be explained, and not for want of something in the input: no
            such layer, a method that the model does not support.
    """
    limit = _free(worker) * MEMORY_SHARE if memory is None else memory
    single = batch is not None or worker.job.task == "action" or worker.task.one_by_one
    largest = 1 if single else MOST
    usable = _usable(worker, items, max(largest, FAULTS))
    best, speed = 1, 0.0
    tried: dict[int, tuple[float, int]] = {}
    # What the model does at its first run only (choosing kernels, compiling) is not to be charged to a batch of one.
    outcomes = _warm(worker, usable)
    if batch is not None:
        return Trial(batch, outcomes, tried)
    size = 1
    while usable and size <= min(largest, len(usable)):
        pairs = usable[:size]
        started = time.perf_counter()
        with _peak(worker) as peak:
            outcomes = worker.explain([item for item, _ in pairs], [made for _, made in pairs])
        reached = size / (time.perf_counter() - started)
        tried[size] = reached, peak[0]
        if reached > speed * GAIN:
            best, speed = size, reached
        elif size >= 4 * best:
            break
        if 2 * peak[0] > limit:
            break
        size *= 2
    return Trial(best, outcomes, tried)


def _usable(worker: Worker, items: Iterable[Item], wanted: int) -> list[tuple[Item, Input]]:
    """Those of the first inputs that can be read; more are looked at where there is none among them."""
    found: list[tuple[Item, Input]] = []
    for number, item in enumerate(islice(items, LOOKS)):
        if len(found) == wanted or (found and number >= MOST):
            break
        made = worker.ready(item)
        if not isinstance(made, Exception):
            found.append((item, made))
    return found


def _warm(worker: Worker, usable: Sequence[tuple[Item, Input]]) -> list[Outcome]:
    """Explain one input after the other until one succeeds.

    Raises:
        MMExplainError: none does, and it is not the inputs' fault.
    """
    outcomes: list[Outcome] = []
    faults: list[MMExplainError] = []
    for item, made in usable:
        outcomes = worker.explain([item], [made])
        fault = outcomes[0][1]
        if isinstance(fault, Explanation):
            return outcomes
        own = isinstance(fault, TargetError) and (item.answers or item.caption is not None)
        if isinstance(fault, MMExplainError) and not isinstance(fault, InputError) and not own:
            faults.append(fault)
            if len(faults) == FAULTS:
                break
    if faults:
        raise faults[0]
    return outcomes


def _free(worker: Worker) -> int:
    if (device := _device(worker)).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _device(worker: Worker) -> torch.device:
    found: torch.device = getattr(worker.task, "device", torch.device("cpu"))
    return found


@contextmanager
def _peak(worker: Worker) -> Iterator[list[int]]:
    """Bytes by which memory grew at most within the block, in a list of one."""
    found = [0]
    device = _device(worker)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        torch.cuda.synchronize(device)
        found[0] = torch.cuda.max_memory_allocated(device) - before
        return
    process, over = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.005):
            found[0] = max(found[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
