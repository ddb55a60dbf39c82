"""A run's results, as they lie on disk: queried as a table, or given back as Explanations one by one."""

from __future__ import annotations

import glob
import json
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mmexplain.errors import InputError, did_you_mean
from mmexplain.explanation import Explanation
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.manifest import Manifest
from mmexplain.jobs.pictures import picture
from mmexplain.jobs.rows import explanation_of, geometry_of
from mmexplain.jobs.schema import schema
from mmexplain.jobs.shards import ROWS, Shards, opened, put

if TYPE_CHECKING:
    import duckdb

SETTINGS = "run.json"
MANIFEST = "inputs.parquet"

SYNONYMS = {
    "word": "kind IN ('word', 'span')",
    "answer": "kind = 'answer'",
    "class": "kind = 'class'",
    "action": "kind = 'action'",
}
"""Names that queries may use for ``label`` where the target is of that kind; null in other rows."""


class Store:
    """What a run has written so far. Opening it reads little; rows and pictures are read when they are asked for.

    ``ROOT/rows/*.parquet`` can be read without mmexplain, by DuckDB, pandas, Polars or Arrow: one row for each input,
    target, layer and method, and one for each input that could not be explained; :data:`mmexplain.jobs.schema.COLUMNS`
    says what is in them.

    Attributes:
        root: its folder, as it was given.
        job: what was done to every input.
        shards: its files.
    """

    def __init__(self, root: str, fs: fsspec.AbstractFileSystem, path: str, job: Job) -> None:
        self.root = root
        self.job = job
        self.shards = Shards(fs, path)

    def __len__(self) -> int:
        """How many inputs there are, explained or not."""
        return self.job.count

    def __repr__(self) -> str:
        return f"<Store {self.root}: {self.job.count:,} inputs, {self.job.task} by {self.job.model}>"

    @cached_property
    def manifest(self) -> Manifest:
        """The inputs."""
        return Manifest.open(f"{self.shards.root}/{MANIFEST}", self.shards.fs)

    def missing(self, verify: bool = False) -> list[int]:
        """Numbers of the shards that are not there yet, or damaged.

        Args:
            verify: read all rows to find damage, instead of the ends of files.
        """
        there = set(self.shards.whole(verify))
        return [number for number in range(self.job.shards) if number not in there]

    # -- as a table ------------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> ds.Dataset:
        """The rows as an Arrow dataset, read as they are needed."""
        paths = [self.shards.path(number) for number in self.shards.numbers()]
        wanted = schema(self.job.map_shape)
        if not paths:
            return ds.dataset(wanted.empty_table())
        return ds.dataset(paths, schema=wanted, format="parquet", filesystem=self.shards.arrow)

    def table(self, columns: Sequence[str] | None = None, filter: Any = None) -> pa.Table:
        """Rows as an Arrow table.

        Args:
            columns: names of those wanted; all where left out, maps included.
            filter: an Arrow expression, ``pyarrow.compute.field("label") == "dog"``.
        """
        with _telling(self.root):
            return self.dataset.to_table(columns=None if columns is None else list(columns), filter=filter)

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Ask DuckDB: the table is called ``rows``.

        Besides its columns there are ``word``, ``answer``, ``class`` and ``action``, which are the ``label`` of targets
        of that kind.

        Args:
            query: ``"select word, avg(area) from rows group by word order by 2"``.

        Raises:
            InputError: it is not one query that DuckDB understands.
        """
        import duckdb

        connection = duckdb.connect()
        try:
            if len(duckdb.extract_statements(query)) != 1:
                raise InputError(f"give one query, not {query!r:.200}")
            self._view(connection)
            return connection.sql(query)
        except duckdb.Error as error:
            told = " ".join(str(error).partition("\nLINE ")[0].split())
            raise InputError(f"the query cannot be run: {told}") from None

    def _view(self, connection: duckdb.DuckDBPyConnection) -> None:
        names = ", ".join(f'CASE WHEN {test} THEN label END AS "{name}"' for name, test in SYNONYMS.items())
        if not self.shards.numbers():
            columns = schema(None)
            # DuckDB takes no 16-bit floats from Arrow.
            place = columns.get_field_index("map")
            columns = columns.set(place, columns.field(place).with_type(pa.list_(pa.float32())))
            connection.register("nothing", columns.empty_table())
            connection.execute(f"CREATE VIEW rows AS SELECT *, {names} FROM nothing")
            return
        protocol = self.shards.fs.protocol
        local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)
        if not local:
            connection.register_filesystem(self.shards.fs)
        prefix = "" if local else f"{protocol if isinstance(protocol, str) else protocol[0]}://"
        pattern = f"{prefix}{glob.escape(self.shards.root)}/{ROWS}/part-*.parquet".replace("'", "''")
        connection.execute(f"CREATE VIEW rows AS SELECT *, {names} FROM read_parquet('{pattern}')")

    def errors(self) -> pa.Table:
        """The inputs that could not be explained: number, id, source, ``error`` and ``error_type``."""
        found = ds.field("error").is_valid()
        return self.table(["input", "id", "source", "error", "error_type"], found).sort_by("input")

    # -- as Explanations -------------------------------------------------------------------------------------------

    def __getitem__(self, key: int | str) -> Explanation:
        """The Explanation of one input, by its number or its id. Its picture is read from its source when it is looked
        at; its maps are rounded to 16 bits.

        Raises:
            InputError: there is no such input, it has not been explained yet, or could not be.
        """
        number = self._number(key)
        try:
            return self._explanation(self.shard(number // self.job.shard, filters=ds.field("input") == number))
        except FileNotFoundError:
            raise InputError(f"input {key!r} of {self.root!r} has not been explained yet: resume the run") from None

    def __iter__(self) -> Iterator[Explanation]:
        """The Explanations of all inputs that were explained, in their order, a shard in memory at a time."""
        for number in self.shards.numbers():
            table = self.shard(number)
            for start, stop in stretches(table):
                rows = table.slice(start, stop - start)
                if rows.column("error")[0].as_py() is None:
                    yield self._explanation(rows)

    def shard(self, number: int, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
        """The rows of one file.

        Args:
            number: of the shard.
            columns: names of those that are read; all where left out.
            filters: an Arrow expression that the rows fulfil.

        Raises:
            FileNotFoundError: it has not been written yet.
            InputError: it is damaged.
        """
        path = self.shards.path(number)
        wanted = None if columns is None else list(columns)
        with _telling(path), self.shards.open(number) as file:
            return pq.read_table(file, schema=schema(self.job.map_shape), columns=wanted, filters=filters)

    def item(self, number: int) -> Item:
        """What the manifest says of an input."""
        (found,) = self.manifest.items(number, number + 1)
        return found

    def _number(self, key: int | str) -> int:
        if not isinstance(key, str):
            if not -self.job.count <= (place := operator.index(key)) < self.job.count:
                raise InputError(f"there is no input {key}: {self.root!r} has {self.job.count:,}, counted from 0")
            return place % self.job.count
        found = self.table(["input"], ds.field("id") == key).column("input")
        if not len(found):
            near = did_you_mean(key, self.table(["id"]).column("id").unique().to_pylist())
            raise InputError(f"there is no input {key!r} in {self.root!r}{near}")
        return int(found[0].as_py())

    def _explanation(self, table: pa.Table) -> Explanation:
        rows = flattened(table).to_pylist()
        first = rows[0]
        if first["error"] is not None:
            raise InputError(f"input {first['id']!r} could not be explained: {first['error']}")
        shown = picture(first["source"], lambda: self.item(first["input"]), geometry_of(first))
        return explanation_of(rows, shown, frozenset(self.job.pixel_methods))


@contextmanager
def _telling(place: str) -> Iterator[None]:
    """What Arrow raises of a file that is damaged becomes one line."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{place!r} is damaged ({' '.join(str(error).split())}): --resume makes it again") from None


def stretches(table: pa.Table) -> Iterator[tuple[int, int]]:
    """Where the rows of each input begin and end; they lie together."""
    inputs = table.column("input").to_numpy()
    if len(inputs):
        yield from pairwise([0, *(np.flatnonzero(np.diff(inputs)) + 1).tolist(), len(inputs)])


def flattened(table: pa.Table) -> pa.Table:
    """The table with maps as plain lists, whatever their type on disk."""
    place = table.schema.get_field_index("map")
    if place < 0 or not isinstance(table.schema.field(place).type, pa.BaseExtensionType):
        return table
    chunks = [chunk.storage for chunk in table.column(place).chunks]
    kind = table.schema.field(place).type.storage_type
    return table.set_column(place, "map", pa.chunked_array(chunks, kind))


def open_store(path: str | Path) -> Store:
    """What ``mmexplain run`` wrote, or is writing.

    Args:
        path: its folder, or any URL that fsspec opens.

    Raises:
        InputError: it is no store, or one of another format.
    """
    root = str(path)
    fs, folder = opened(root)
    try:
        record = json.loads(fs.cat_file(f"{folder}/{SETTINGS}"))
        job = Job.from_dict(record)
    except InputError as error:
        raise InputError(f"{root!r} cannot be read: {error}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{root!r} is no store of `mmexplain run`: it has no {SETTINGS}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{root}/{SETTINGS} is damaged: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {root!r}: {error.strerror or error}") from None
    return Store(root, fs, folder, job)


def save_settings(fs: fsspec.AbstractFileSystem, folder: str, job: Job) -> None:
    """Write down what a run does: the last thing that makes a folder a store."""
    put(fs, f"{folder}/{SETTINGS}", json.dumps(job.to_dict(), indent=2).encode())
