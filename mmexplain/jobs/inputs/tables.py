"""Tables of inputs: JSON Lines, CSV, TSV and Parquet, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow.parquet

from mmexplain.errors import InputError
from mmexplain.jobs.inputs.columns import Entry, Wanted, entries, find, source_of
from mmexplain.jobs.inputs.found import folder_of
from mmexplain.jobs.inputs.unique import Seen
from mmexplain.jobs.places import join, opened, opened_text, parent, suffix_of

SUFFIXES = (
    *(kind + packed for kind in (".jsonl", ".ndjson", ".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".xz")),
    ".parquet",
)

# So many rows are asked where their photos lie.
_PROBED = 20

_BATCH = 4096

Row = dict[str, Any]


def read(tables: Sequence[str], wanted: Wanted, images: str | None = None) -> Iterator[Entry]:
    """The items of one table or of several, which are read as one.

    A row's id is what its column ``id`` says, else the path that it names; where a path comes twice, it is followed
    by ``#`` and the row's number, counted from 0 through all tables. Every caption of a list is an item of its own,
    with ``#`` and its number after the row's id.

    Args:
        tables: places.
        wanted: what the task reads.
        images: the folder that relative paths start from; the table's own, or ``images`` in it, by default.

    Raises:
        InputError: a table cannot be read, lacks a column or has none of the files it names.
    """
    for table in tables:
        wanted.require(_columns(table, wanted), table)
    numbered = _needs_numbers(tables, wanted)
    start = 0
    for table in tables:
        some = [source_of(row, wanted, repr(table)) for row in islice(_rows(table, wanted), _PROBED)]
        inside = (".",) if images else (".", "images")
        folder = folder_of(some, [images or parent(table)], wanted.medium, inside)
        number = start
        for number, row in enumerate(_rows(table, wanted), start):
            where = f"row {number - start + 1} of {table!r}"
            name = source_of(row, wanted, where)
            own_id = f"{name}#{number}" if numbered or not name else name
            yield from entries(row, wanted, where, join(folder, name) if name else "", own_id)
        start = number + 1


def _columns(table: str, wanted: Wanted) -> list[str]:
    """Of JSON Lines those of as many rows as it takes to find all that the task needs."""
    if suffix_of(table) == ".parquet":
        return _schema(table)
    columns: dict[str, None] = {}
    for row in _rows(table, wanted):
        columns.update(dict.fromkeys(row))
        if suffix_of(table).startswith((".csv", ".tsv")):
            break
        if all(find(columns, wanted.names[role]) for role in wanted.required):
            break
    if not columns:
        raise InputError(f"{table!r} has no rows")
    return list(columns)


def _needs_numbers(tables: Sequence[str], wanted: Wanted) -> bool:
    """Whether paths cannot stand for ids: they come twice, or some rows have ids and others none."""
    seen, named = Seen(), False
    for table in tables:
        for row in _rows(table, wanted):
            if find(row, wanted.names["id"]):
                named = True
                break  # rows that have none get numbers, whatever follows
            seen.add(source_of(row, wanted, repr(table)))
    return named or bool(seen.repeated())


def _rows(table: str, wanted: Wanted) -> Iterator[Row]:
    suffix = suffix_of(table)
    if suffix == ".parquet":
        return _parquet(table, wanted)
    if suffix.startswith((".csv", ".tsv")):
        return _delimited(table, "\t" if suffix.startswith(".tsv") else ",")
    return _lines(table)


def _schema(table: str) -> list[str]:
    with opened(table) as file:
        return [str(name) for name in pyarrow.parquet.ParquetFile(file).schema_arrow.names]


def _parquet(table: str, wanted: Wanted) -> Iterator[Row]:
    with opened(table) as file:
        parquet = pyarrow.parquet.ParquetFile(file)
        known = {name for names in wanted.names.values() for name in names}
        columns = [name for name in parquet.schema_arrow.names if name.strip().casefold() in known]
        for batch in parquet.iter_batches(_BATCH, columns=columns):
            yield from batch.to_pylist()


# Python's own readers and not pyarrow's: those guess the type of a column from its first block and fail at the next
# one, where ids are numbers first and words later, or a text is once a list.


def _delimited(table: str, delimiter: str) -> Iterator[Row]:
    with opened_text(table) as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        header = next(rows, [])
        for row in rows:
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
            elif row:  # blank lines have none
                line = f"{table!r}, line {rows.line_num}"
                raise InputError(f"{line}: {len(row)} cells under a header of {len(header)}; is a quote missing?")


def _lines(table: str) -> Iterator[Row]:
    with opened_text(table) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{table!r} is not JSON Lines: line {number}: {error}") from None
            if not isinstance(row, dict):
                raise InputError(f"{table!r}, line {number}: one object {{...}} is expected, not {line.strip():.40}")
            yield row
