"""Many machines: Ray Data reads, an actor pool that holds the model explains, tasks write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmexplain.jobs.store import Store
from mmexplain.jobs.worker import Worker


def run_ray(
    worker: Worker,
    store: Store,
    todo: Sequence[int],
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Explain the items of the shards ``todo`` on a Ray cluster."""
    raise NotImplementedError
