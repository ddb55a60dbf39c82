"""One machine: inputs are read, explained and written at the same time, each shard committed when it is whole."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmexplain.jobs.manifest import Manifest
from mmexplain.jobs.shards import Shards
from mmexplain.jobs.stream import Progress, stream
from mmexplain.jobs.worker import Worker


def run_local(
    worker: Worker,
    manifest: Manifest,
    shards: Shards,
    todo: Sequence[int],
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Explain the items of the shards ``todo`` in this process.

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
    threads = workers or min(8, os.cpu_count() or 1)
    stream(worker, manifest, shards, todo, shards.write, threads=threads, progress=progress)
