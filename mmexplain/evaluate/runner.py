"""Going through a protocol's items: what is stored already is not measured again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.fingerprint import readable, settings_of
from mmexplain.evaluate.protocol import Item, Progress, Protocol, Row
from mmexplain.evaluate.result import Result
from mmexplain.evaluate.store import Store

ROWS = "rows.jsonl"


def run(
    protocol: Protocol, out: str | Path | None = None, limit: int | None = None, progress: Progress | None = None
) -> Result:
    """Measure all items of a protocol, or the first ``limit`` of them.

    Args:
        protocol: what is measured, and how.
        out: folder for rows as they come in, and at the end ``result.json``, ``result.md`` and ``result.png``; a run
            that was interrupted goes on there. None keeps everything in memory.
        limit: items at most, the first ones; a later run may take more.
        progress: told how many items of how many are done; those that were stored count.

    Raises:
        InputError: the data cannot be read, ``out`` cannot be written or holds results of other settings, data or
            weights, or no item could be measured.
    """
    started = time.perf_counter()
    folder = None if out is None else Path(out)
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: measure 1 item or more")
    everything = _distinct(protocol.items())
    items = everything[:limit]
    if not items:
        raise InputError(f"protocol {protocol.name!r} finds nothing to measure in its data")
    rows: list[tuple[str, Row]] = []
    settings = settings_of(protocol, everything)
    with Store(None if folder is None else folder / ROWS, settings, protocol.metrics) as store:
        todo = [item for item in items if item.key not in store]
        done = len(items) - len(todo)
        for start in range(0, len(todo), protocol.batch):
            part = todo[start : start + protocol.batch]
            for item, found in zip(part, protocol.measure(part), strict=True):
                store.add(item.key, found)
            done += len(part)
            if progress is not None:
                progress(done, len(items))
        rows = [(item.key, row) for item in items for row in store.rows[item.key]]
    if not rows:
        raise InputError(f"protocol {protocol.name!r} could measure none of the {len(items)} items")
    result = Result.of(protocol, rows, len(items), time.perf_counter() - started)
    result = replace(result, settings=readable(settings))
    if folder is not None:
        result.save(folder)
    return result


def _distinct(items: Sequence[Item]) -> list[Item]:
    seen: set[str] = set()
    for item in items:
        if item.key in seen:
            raise InputError(f"two items of the data are called {item.key!r}")
        seen.add(item.key)
    return list(items)
