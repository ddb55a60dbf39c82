"""Files of a store: each is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import contextlib
import io
import os
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mmexplain.errors import InputError

ROWS = "rows"
"""Folder of the shards: ``STORE/rows/*.parquet`` is all that other programs need."""

OPENED_AT_ONCE = 16
"""Shards that are looked at together: elsewhere each takes as long as the way there and back."""

_NAME = re.compile(r"part-(\d{6,})\.parquet")


def opened(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path or URL, and the path in it.

    Raises:
        InputError: no such file system, or what it needs is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"cannot open {url!r}: {' '.join(str(error).split())}") from None
    return fs, path


def put(fs: fsspec.AbstractFileSystem, path: str, data: bytes, *, force: bool = True) -> None:
    """Write a file in one step: a reader sees nothing, the file before, or all of it.

    On a disk it is written under another name, forced onto the disk and renamed; object stores do this by themselves.

    Args:
        fs: where to.
        path: in it.
        data: the whole file.
        force: wait until the disk holds it; what can be made again need not.

    Raises:
        OSError: the system refused; nothing is left behind.
    """
    if not isinstance(fs, LocalFileSystem):
        fs.makedirs(fs._parent(path), exist_ok=True)
        fs.pipe_file(path, data)
        return
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            if force:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(final)
        if force:
            _force(final.parent)
    finally:
        with contextlib.suppress(OSError):  # of the disk that refused before
            partial.unlink(missing_ok=True)


def _force(folder: Path) -> None:
    """Force the names in a folder onto the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Shards:
    """The rows of a store, a Parquet file for each stretch of inputs.

    Args:
        fs: of the store.
        root: its folder.
    """

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str) -> None:
        self.fs = fs
        self.root = root

    def path(self, number: int) -> str:
        """Where shard ``number`` stands."""
        return f"{self.root}/{ROWS}/part-{number:06d}.parquet"

    def numbers(self) -> list[int]:
        """The shards that are there, increasing."""
        folder = f"{self.root}/{ROWS}"
        self.fs.invalidate_cache(folder)
        if not self.fs.isdir(folder):
            return []
        names = [_NAME.fullmatch(path.rpartition("/")[2]) for path in self.fs.ls(folder, detail=False)]
        return sorted(int(name[1]) for name in names if name)

    def whole(self, verify: bool = False) -> list[int]:
        """The shards that are there and can be read: a disk that lost power may hold less than it said.

        Args:
            verify: read all of each file and compare its checksums, instead of its end alone.
        """
        numbers = self.numbers()
        read = self._intact if verify else self._readable
        with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
            return [number for number, fine in zip(numbers, pool.map(read, numbers), strict=True) if fine]

    def size(self) -> int:
        """Of all shards, bytes."""
        folder = f"{self.root}/{ROWS}"
        self.fs.invalidate_cache(folder)
        entries = self.fs.ls(folder, detail=True) if self.fs.isdir(folder) else []
        return sum(int(entry["size"] or 0) for entry in entries if _NAME.fullmatch(entry["name"].rpartition("/")[2]))

    def _readable(self, number: int) -> bool:
        try:
            with self.fs.open(self.path(number), "rb") as file:
                pq.ParquetFile(file)
        except (pa.ArrowException, OSError, ValueError):
            return False
        return True

    def _intact(self, number: int) -> bool:
        try:
            with self.fs.open(self.path(number), "rb") as file:
                pq.read_table(file, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError):
            return False
        return True

    def write(self, number: int, table: pa.Table, told: Mapping[str, Any] | None = None) -> int:
        """Write a shard in one step; an earlier one of that number is replaced.

        Args:
            number: of the shard.
            table: its rows.
            told: what else to note in the file's metadata.

        Returns:
            Its size, bytes.

        Raises:
            OSError: the system refused.
        """
        data = encoded(table, told)
        put(self.fs, self.path(number), data)
        return len(data)

    def sweep(self) -> None:
        """Remove what a run that was killed left half written. No other run may be writing."""
        if isinstance(self.fs, LocalFileSystem):
            for partial in Path(self.root).rglob(".*.partial"):
                partial.unlink(missing_ok=True)


def encoded(table: pa.Table, told: Mapping[str, Any] | None = None) -> bytes:
    """A table as a Parquet file: names by dictionary, all of it compressed by zstd. Maps are left as they are: with
    their bytes split they would take less, but DuckDB cannot read 16-bit floats then."""
    if told:
        metadata = {str(name): str(value) for name, value in told.items()}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    buffer = io.BytesIO()
    # Maps, statistics and scores hardly repeat; texts do.
    by_dictionary = [
        *(field.name for field in table.schema if _is_text(field.type)),
        "words.list.element",
        "map_shape.list.element",
        *(f"geometry.{name}.list.element" for name in ("input", "box", "shown")),
    ]
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=by_dictionary,
        row_group_size=16_384,
        write_page_checksum=True,
    )
    return buffer.getvalue()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))
