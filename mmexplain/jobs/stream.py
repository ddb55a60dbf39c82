"""Shards read, explained and turned into tables at the same time. Both engines run this and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pyarrow as pa
import torch

from mmexplain.explanation import Explanation
from mmexplain.jobs.item import Item
from mmexplain.jobs.manifest import Manifest
from mmexplain.jobs.pictures import write_overlays
from mmexplain.jobs.rows import Rows
from mmexplain.jobs.shards import Shards
from mmexplain.jobs.worker import Input, Outcome, Worker, outcomes

BATCHES_AHEAD = 2
"""Batches that are read before they are explained, and that wait to become rows."""

Progress = Callable[[int], None]
"""Told how many inputs have come out since it was told last."""

Keep = Callable[[int, pa.Table], object]
"""Takes the number of a shard and all of its rows."""


def stream(
    worker: Worker,
    manifest: Manifest,
    shards: Shards,
    todo: Sequence[int],
    keep: Keep,
    *,
    threads: int,
    ready: Callable[[Item], Input] | None = None,
    progress: Progress | None = None,
) -> None:
    """Explain the items of the shards ``todo``, one after the other.

    Threads read and decode, the caller's runs the model, another one makes rows and keeps them, and others make the
    pictures of the maps for it. Each waits for the next when it is ahead, so that memory does not grow with the number
    of inputs.

    Args:
        worker: explains them.
        manifest: the items.
        shards: where pictures of maps go.
        todo: numbers of the shards.
        keep: called with the rows of each shard, in another thread.
        threads: that read, and as many that make pictures.
        ready: reads an item, as :meth:`Worker.ready` does, which is called where this is left out.
        progress: told how many inputs have come out.

    Raises:
        OSError: the disk refused a shard or a picture; the shards before it are kept.
    """

    def batches() -> Iterator[tuple[int, list[Item]]]:
        for number in todo:
            for batch in worker.batches(manifest.items(*worker.job.stretch(number))):
                yield number, batch

    pending: deque[Future[None]] = deque()
    with ExitStack() as stack:
        # What a thread sets becomes the default of threads to come.
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        readers = stack.enter_context(ThreadPoolExecutor(threads, "read", alone))
        painters = stack.enter_context(ThreadPoolExecutor(threads, "paint", alone))
        # Left before those that paint for it.
        writing = stack.enter_context(ThreadPoolExecutor(1, "write", alone))
        made = _Tables(worker, shards, keep, painters)
        # Left in this order: what is read ahead is dropped, what is computed is written.
        stack.callback(readers.shutdown, wait=False, cancel_futures=True)
        left: dict[int, int] = {}
        for number, found in outcomes(worker, batches(), readers.submit, BATCHES_AHEAD, ready or worker.ready):
            start, stop = worker.job.stretch(number)
            left[number] = left.get(number, stop - start) - len(found)
            pending.append(writing.submit(made.add, found))
            if not left[number]:
                # At once: what is whole is not to wait for the next shard's first batch.
                del left[number]
                pending.append(writing.submit(made.finish, number))
            while len(pending) > BATCHES_AHEAD:
                pending.popleft().result()
            if progress is not None:
                progress(len(found))
        while pending:
            pending.popleft().result()


def alone() -> None:
    """Compute with one thread in this thread: the model has the others. Threads of several threads each get into each
    other's way, which cost a captioner a third of its speed."""
    torch.set_num_threads(1)


class _Tables:
    """Makes rows of outcomes, and a table of a shard's rows.

    Args:
        worker: whose outcomes they are.
        shards: where pictures of maps go.
        keep: takes the tables.
        painters: threads that make the pictures.
    """

    def __init__(self, worker: Worker, shards: Shards, keep: Keep, painters: ThreadPoolExecutor) -> None:
        self._job = worker.job
        self._shards = shards
        self._keep = keep
        self._painters = painters
        self._rows = Rows(self._job.map_shape)

    def add(self, found: Sequence[Outcome]) -> None:
        """The rows of a batch."""
        painted: list[Future[None] | None] = [None] * len(found)
        if self._job.overlays:
            for place, (item, outcome) in enumerate(found):
                if isinstance(outcome, Explanation):
                    painted[place] = self._painters.submit(write_overlays, self._shards, item, outcome)
        for (item, outcome), picture in zip(found, painted, strict=True):
            if not isinstance(outcome, Explanation):
                self._rows.fail(item, outcome)
                continue
            try:
                # Before the rows: the photo is read again, and may be gone.
                if picture is not None:
                    picture.result()
                self._rows.add(item, outcome)
            except OSError:  # of the disk that is written to
                raise
            except Exception as error:  # of whatever kind: it becomes a row
                self._rows.fail(item, error)

    def finish(self, number: int) -> None:
        """All rows of the shard are there."""
        rows, self._rows = self._rows, Rows(self._job.map_shape)
        table = rows.table()
        start, stop = self._job.stretch(number)
        if len(table.column("input").unique()) != stop - start:
            raise RuntimeError(f"shard {number} does not account for each of its {stop - start} inputs")
        self._keep(number, table)
