"""The manifest: a job's items, frozen in its store, so that whoever resumes it sees the same ones."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, islice, pairwise
from typing import Any, BinaryIO

import fsspec
import pyarrow
import pyarrow.parquet
from fsspec.implementations.local import LocalFileSystem

from mmexplain.errors import InputError
from mmexplain.jobs.item import Item
from mmexplain.jobs.places import telling

ROW_GROUP = 10_000
"""So many items are written, and read, at once."""

_DIGEST = b"mmexplain.digest"
_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("number", pyarrow.int64(), nullable=False),
        pyarrow.field("id", pyarrow.string(), nullable=False),
        pyarrow.field("source", pyarrow.string(), nullable=False),
        ("offset", pyarrow.int64()),
        ("size", pyarrow.int64()),
        ("caption", pyarrow.string()),
        ("question", pyarrow.string()),
        pyarrow.field("answers", pyarrow.list_(pyarrow.string()), nullable=False),
    ]
)


def freeze(items: Iterable[Item], path: str, fs: fsspec.AbstractFileSystem) -> int:
    """Write a manifest; nothing is at ``path`` before it is whole.

    Args:
        items: numbered from 0 without a gap; one row group of them is in memory at a time.
        path: where to, in the file system; a manifest that is there is replaced.
        fs: the store's file system.

    Returns:
        How many items there are.

    Raises:
        InputError: the items are misnumbered, a text is no Unicode, or the file cannot be written.
    """
    folder, _, name = path.rpartition("/")
    # Named like all that is half written, so that one that a killed run left is known for what it is.
    partial = f"{folder}{'/' if '/' in path else ''}.{name}.{uuid.uuid4().hex}.partial"
    try:
        if folder:
            fs.makedirs(folder, exist_ok=True)
        with fs.open(partial, "wb") as file:
            count = _write(iter(items), file)
            if isinstance(fs, LocalFileSystem):
                file.flush()
                os.fsync(file.fileno())
        fs.mv(partial, path)
    except BaseException as error:
        with suppress(Exception):  # what went wrong first is what is told
            fs.rm(partial)
        if isinstance(error, OSError | pyarrow.ArrowException):
            raise InputError(f"the manifest {path!r} cannot be written ({' '.join(str(error).split())})") from None
        raise
    return count


def _write(items: Iterator[Item], file: BinaryIO) -> int:
    digest, count = hashlib.sha256(), 0
    with pyarrow.parquet.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        while some := list(islice(items, ROW_GROUP)):
            for number, item in enumerate(some, count):
                if item.number != number:
                    raise InputError(f"item {item.id!r} has the number {item.number}, but is the {number}th, from 0")
                digest.update(_canonical(item))
            columns = {name: [getattr(item, name) for item in some] for name in _SCHEMA.names}
            writer.write_table(pyarrow.table(columns, schema=_SCHEMA), row_group_size=ROW_GROUP)
            count += len(some)
        writer.add_key_value_metadata({_DIGEST: digest.hexdigest()})
    return count


def _canonical(item: Item) -> bytes:
    """One line of JSON, in which no two items are the same."""
    row = [item.number, item.id, item.source, item.offset, item.size, item.caption, item.question, item.answers]
    try:
        return (json.dumps(row, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        raise InputError(f"item {item.id!r} holds what is no character of Unicode; rename or rewrite it") from None


@dataclass(frozen=True)
class Manifest:
    """A frozen manifest. Threads may share it, and it may be sent to other processes: no file stays open.

    Attributes:
        path: in the file system.
        fs: the store's file system.
        digest: SHA-256 over all items, in hexadecimal digits; manifests of the same items have the same one.
    """

    path: str
    fs: fsspec.AbstractFileSystem
    digest: str
    _starts: tuple[int, ...] = field(repr=False)
    _metadata: pyarrow.parquet.FileMetaData = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: str, fs: fsspec.AbstractFileSystem) -> Manifest:
        """Open what :func:`freeze` wrote; only its end is read.

        Raises:
            InputError: there is none, or it is no manifest.
        """
        with telling(path), fs.open(path, "rb") as file:
            try:
                parquet = pyarrow.parquet.ParquetFile(file)
            except pyarrow.ArrowException as error:
                raise InputError(f"{path!r} is no manifest, or is damaged ({' '.join(str(error).split())})") from None
            metadata, columns = parquet.metadata, parquet.schema_arrow.names
        digest = (metadata.metadata or {}).get(_DIGEST)
        if digest is None or columns != _SCHEMA.names:
            raise InputError(f"{path!r} is no manifest of mmexplain's")
        sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        return cls(path, fs, digest.decode(), tuple(accumulate(sizes, initial=0)), metadata)

    def __len__(self) -> int:
        return self._starts[-1]

    def items(self, start: int = 0, stop: int | None = None) -> list[Item]:
        """The items of a slice, as a list's; no row groups but theirs are read.

        Raises:
            InputError: the file can no longer be read.
        """
        rows = range(len(self))[start:stop]
        if not rows:
            return []
        first, last = bisect_right(self._starts, rows[0]) - 1, bisect_right(self._starts, rows[-1]) - 1
        with telling(self.path), self.fs.open(self.path, "rb") as file:
            parquet = pyarrow.parquet.ParquetFile(file, metadata=self._metadata)
            table = parquet.read_row_groups(range(first, last + 1), use_threads=False)
        table = table.slice(rows[0] - self._starts[first], len(rows))
        columns: list[list[Any]] = [table[name].to_pylist() for name in _SCHEMA.names]
        columns[-1] = [tuple(answers) for answers in columns[-1]]
        return [Item(*row) for row in zip(*columns, strict=True)]

    def __iter__(self) -> Iterator[Item]:
        """All items, a row group of them in memory at a time."""
        for start, stop in pairwise(self._starts):
            yield from self.items(start, stop)
