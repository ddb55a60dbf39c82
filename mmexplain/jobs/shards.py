"""Files of a store: each is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import contextlib
import io
import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mmexplain.errors import InputError

ROWS = "rows"
"""Folder of the shards: ``STORE/rows/*.parquet`` is all that other programs need."""

OPENED_AT_ONCE = 16
"""Shards that are looked at together: elsewhere each takes as long as the way there and back."""

_VERIFIED = 256
"""Rows that are read at a time to see whether a shard is damaged."""

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

    @property
    def arrow(self) -> Any:
        """The file system as Arrow reads it best. Disks by its own: its threads may outlive a read, and one that asks
        for Python's lock to close a file of Python's while the process ends aborts that process."""
        return pa.fs.LocalFileSystem() if isinstance(self.fs, LocalFileSystem) else self.fs

    def open(self, number: int) -> Any:
        """A shard to be read by Arrow.

        Raises:
            FileNotFoundError: it is not there.
        """
        path = self.path(number)
        return pa.OSFile(path) if isinstance(self.fs, LocalFileSystem) else self.fs.open(path, "rb")

    def numbers(self) -> list[int]:
        """The shards that are there, increasing."""
        return sorted(self._sizes())

    def whole(self, verify: bool = False) -> list[int]:
        """The shards that are there and can be read: a disk that lost power may hold less than it said.

        Args:
            verify: read all of each file and compare its checksums, instead of its end alone.
        """
        numbers = self.numbers()
        with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
            fine = pool.map(lambda number: self._readable(number, verify), numbers)
            return [number for number, readable in zip(numbers, fine, strict=True) if readable]

    def size(self) -> int:
        """Of all shards, bytes."""
        return sum(self._sizes().values())

    def _sizes(self) -> dict[int, int]:
        """Bytes of each shard that is there."""
        folder = f"{self.root}/{ROWS}"
        self.fs.invalidate_cache(folder)
        entries = self.fs.ls(folder, detail=True) if self.fs.isdir(folder) else []
        named = [(_NAME.fullmatch(entry["name"].rpartition("/")[2]), entry["size"]) for entry in entries]
        return {int(name[1]): int(size or 0) for name, size in named if name}

    def _readable(self, number: int, verify: bool) -> bool:
        try:
            with self.open(number) as file:
                found = pq.ParquetFile(file, page_checksum_verification=verify)
                # Piece by piece: a shard may hold 256 MiB of maps, and several are read at a time.
                for _ in found.iter_batches(_VERIFIED) if verify else ():
                    pass
        except (pa.ArrowException, OSError, ValueError):
            return False
        return True

    def write(self, number: int, table: pa.Table) -> int:
        """Write a shard in one step; an earlier one of that number is replaced.

        Args:
            number: of the shard.
            table: its rows.

        Returns:
            Its size, bytes.

        Raises:
            OSError: the system refused.
        """
        data = encoded(table)
        put(self.fs, self.path(number), data)
        return len(data)

    def sweep(self) -> None:
        """Remove what a run that was killed left half written. No other run may be writing."""
        if isinstance(self.fs, LocalFileSystem):
            for partial in Path(self.root).rglob(".*.partial"):
                partial.unlink(missing_ok=True)


def encoded(table: pa.Table) -> bytes:
    """A table as a Parquet file: names by dictionary, all of it compressed by zstd. Maps are left as they are: with
    their bytes split they would take less, but DuckDB cannot read 16-bit floats then."""
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
