"""One machine: inputs are read, explained and written at the same time, each shard committed when it is whole."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from mmexplain.errors import MMExplainError
from mmexplain.explanation import Explanation
from mmexplain.jobs.item import Item
from mmexplain.jobs.manifest import Manifest
from mmexplain.jobs.pictures import write_overlays
from mmexplain.jobs.rows import Rows
from mmexplain.jobs.shards import Shards
from mmexplain.jobs.worker import Outcome, Worker, outcomes

BATCHES_AHEAD = 2
"""Batches that are read before they are explained, and that wait to be written."""

Progress = Callable[[int], None]
"""Told how many inputs have come out since it was told last."""


class ShardWriter:
    """Makes rows of outcomes, and a file of a shard's rows.

    Args:
        worker: whose outcomes they are.
        shards: where the files go.
    """

    def __init__(self, worker: Worker, shards: Shards) -> None:
        self._job = worker.job
        self._shards = shards
        self._rows = Rows(self._job.map_shape)

    def add(self, found: Sequence[Outcome]) -> None:
        """The rows of a batch."""
        for item, outcome in found:
            if not isinstance(outcome, Explanation):
                self._rows.fail(item, outcome)
                continue
            try:
                # Before the rows: the photo is read again, and may be gone.
                if self._job.overlays:
                    write_overlays(self._shards, item, outcome)
                self._rows.add(item, outcome)
            except (MMExplainError, ValueError) as error:
                self._rows.fail(item, error)

    def commit(self, number: int) -> None:
        """Write the shard.

        Raises:
            OSError: the disk refused.
        """
        rows, self._rows = self._rows, Rows(self._job.map_shape)
        table = rows.table()
        start, stop = self._job.stretch(number)
        if len(table.column("input").unique()) != stop - start:
            raise RuntimeError(f"shard {number} does not account for each of its {stop - start} inputs")
        self._shards.write(number, table)


def run_local(
    worker: Worker,
    manifest: Manifest,
    shards: Shards,
    todo: Sequence[int],
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Explain the items of the shards ``todo`` in this process.

    Threads read and decode, this one runs the model, another one writes. Each waits for the next when it is ahead, so
    that memory does not grow with the number of inputs.

    Args:
        worker: explains them.
        manifest: the items.
        shards: where their rows go.
        todo: numbers of the shards.
        workers: threads that read; as many as there are cores, at most 8, where left out.
        progress: told how many inputs have come out.

    Raises:
        OSError: a shard could not be written; those before it are.
    """

    def stream() -> Iterator[tuple[int, list[Item]]]:
        for number in todo:
            for batch in worker.batches(manifest.items(*worker.job.stretch(number))):
                yield number, batch

    writer = ShardWriter(worker, shards)
    pending: deque[Future[None]] = deque()
    with ExitStack() as stack:
        readers = stack.enter_context(ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1), "read"))
        writing = stack.enter_context(ThreadPoolExecutor(1, "write"))
        # Left in this order: what is read ahead is dropped, what is computed is written.
        stack.callback(readers.shutdown, wait=False, cancel_futures=True)
        current: int | None = None
        for number, found in outcomes(worker, stream(), readers.submit, BATCHES_AHEAD):
            if current is not None and number != current:
                pending.append(writing.submit(writer.commit, current))
            current = number
            pending.append(writing.submit(writer.add, found))
            while len(pending) > BATCHES_AHEAD:
                pending.popleft().result()
            if progress is not None:
                progress(len(found))
        if current is not None:
            pending.append(writing.submit(writer.commit, current))
        while pending:
            pending.popleft().result()
