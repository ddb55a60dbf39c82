"""Shards on their way through a cluster, one row each: read at one end, put into the store at the other.

Nothing here imports torch: most processes of a cluster only read and write, and are up in a moment without it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from mmexplain import errors
from mmexplain.errors import InputError, MMExplainError
from mmexplain.jobs.content import data, plain_path
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.manifest import Manifest
from mmexplain.jobs.shards import Shards, put

CARRIED = 128 * 2**20
"""Bytes of a shard's photos that are read ahead at most, as large as Ray's own blocks; the actor reads the others."""

READERS = 8
"""Threads that read, in each process."""

_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("inputs", pa.int64()),
        ("contents", pa.large_list(pa.large_binary())),
        ("refusals", pa.large_list(pa.string())),
        ("file", pa.large_binary()),
        ("fault", pa.string()),
    ]
)


def parcel(number: int, fault: MMExplainError | OSError | None = None, **values: Any) -> pa.Table:
    """A shard on its way: first its photos' bytes, or why they cannot be had; then the file of its rows; then nothing
    but how many inputs it has.

    Args:
        number: of the shard.
        fault: what must stop the run. It travels to the driver as it is, because what is raised within Ray comes out as
            a page of text.
        values: of the other columns.
    """
    return pa.Table.from_pylist([{"number": number, "fault": fault and _sealed(fault), **values}], _SCHEMA)


def _sealed(fault: Exception) -> str:
    """An error as text: the name of its kind, and what it was made of."""
    ours = [kind.__name__ for kind in type(fault).__mro__ if kind is OSError or kind.__module__ == errors.__name__]
    return json.dumps([ours[0], fault.args], default=str)


def fault_of(text: str) -> Exception:
    """The error that :func:`parcel` was given."""
    name, arguments = json.loads(text)
    kind: type[Exception] = OSError if name == "OSError" else getattr(errors, name)
    return kind(*arguments)


def read(table: pa.Table, job: Job, manifest: Manifest) -> pa.Table:
    """The bytes of a shard's photos, :data:`CARRIED` of them; videos are left to the actor."""
    number = table["number"][0].as_py()
    try:
        items = manifest.items(*job.stretch(number))
    except MMExplainError as error:
        return parcel(number, fault=error)
    contents: list[bytes | None] = [None] * len(items)
    refusals: list[str | None] = [None] * len(items)
    room = CARRIED if job.task != "action" else 0
    with ThreadPoolExecutor(READERS, "read") as readers:
        for start in range(0, len(items), READERS):
            if room <= 0:
                break
            for place, found in enumerate(readers.map(_content, items[start : start + READERS]), start):
                if isinstance(found, bytes):
                    contents[place] = found
                    room -= len(found)
                else:
                    refusals[place] = found
    return parcel(number, contents=contents, refusals=refusals)


def _content(item: Item) -> bytes | str | None:
    """The bytes of a photo, or why they cannot be had. Of a plain file the actor finds that out, as the local engine
    does; to ask a server a second time takes too long."""
    try:
        return data(item)
    except InputError as error:
        return None if item.source.strip() and plain_path(item) is not None else str(error)


def write(table: pa.Table, shards: Shards) -> pa.Table:
    """A shard's file put into the store; the same one again if the task is repeated."""
    number = table["number"][0].as_py()
    if table["fault"][0].is_valid:
        return table
    try:
        put(shards.fs, shards.path(number), table["file"][0].as_py())
    except OSError as error:
        return parcel(number, fault=error)
    return parcel(number, inputs=table["inputs"][0].as_py())
