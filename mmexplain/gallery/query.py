"""Which rows of a store: a condition and an order, both SQL expressions over its columns."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from mmexplain.errors import InputError
from mmexplain.jobs.schema import COLUMNS
from mmexplain.jobs.store import Store

TOLD = tuple(name for name in COLUMNS if name not in ("map", "provenance", "attributions", "error", "error_type"))
"""What is read of rows that are listed: all but what is large and what the rows of errors alone have."""

_AT_ONCE = 16_384
_NOTHING = ("where_clause", "having", "qualify", "sample")


def condition(where: str | None) -> str:
    """SQL that is true for the rows that are meant: those with a map, for which ``where`` holds.

    Args:
        where: one expression over the columns of ``rows``; None for all of them.

    Raises:
        InputError: it is not one SQL expression.
    """
    if where is None:
        return "error IS NULL"
    _require_expression(where)
    return f"error IS NULL AND (\n{where}\n)"  # a comment at its end must not swallow the bracket


def order(sort: str | None) -> str:
    """SQL after ``ORDER BY``: as ``sort`` says, what is unknown last, and then by input and target.

    Raises:
        InputError: it is not a list of SQL expressions, each perhaps with ASC or DESC.
    """
    places = "input, target, layer, method"
    if sort is None:
        return places
    asked = f"cannot sort by {sort!r}"
    node = _parsed(f"SELECT 1 ORDER BY\n{sort}\n", asked)
    kinds = [modifier["type"] for modifier in node["modifiers"]]
    if kinds != ["ORDER_MODIFIER"] or not _bare(node) or len(node["select_list"]) != 1:
        raise InputError(f'{asked}: give columns or expressions, as in "probability" or "entropy desc"')
    listed = sort.strip()
    return f"{listed}\n, {places}"


def count(store: Store, where: str | None = None) -> int:
    """How many rows there are.

    Raises:
        InputError: the expression is wrong; the message says what DuckDB minds.
    """
    found = ask(store, f"SELECT count(*) AS n FROM rows WHERE {condition(where)}", where)
    return int(found.column("n")[0].as_py())


def select(store: Store, where: str | None = None, sort: str | None = None, limit: int | None = None) -> pa.Table:
    """Rows without their maps, in the order asked for.

    Raises:
        InputError: an expression is wrong; the message says what DuckDB minds.
    """
    columns = ", ".join(f'"{name}"' for name in TOLD)
    most = "" if limit is None else f" LIMIT {int(limit)}"
    query = f"SELECT {columns} FROM rows WHERE {condition(where)} ORDER BY {order(sort)}{most}"
    return ask(store, query, where, sort)


def ask(store: Store, query: str, *expressions: str | None) -> pa.Table:
    """The whole answer to a query.

    Args:
        store: whose rows are meant.
        query: that DuckDB runs.
        expressions: what in it the user wrote, for messages.

    Raises:
        InputError: it cannot be run.
    """
    with _telling(expressions):
        return pa.RecordBatchReader.from_stream(store.sql(query)).read_all()


def stream(store: Store, query: str, *expressions: str | None) -> Iterator[pa.RecordBatch]:
    """The answer to a query piece by piece: in the order of the store's files, where the query gives no other.

    Raises:
        InputError: it cannot be run.
    """
    with _telling(expressions):
        found: Any = store.sql(query)
        # Unlike Arrow's capsules, of which the first releases of DuckDB hold the whole answer; renamed in its second.
        read = getattr(found, "to_arrow_reader", None) or found.fetch_record_batch
        yield from read(_AT_ONCE)


@contextmanager
def _telling(expressions: tuple[str | None, ...]) -> Generator[None]:
    """One line for what DuckDB minds, when it reads the query or while it runs it."""
    try:
        yield
    except (InputError, duckdb.Error, pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split()).removeprefix("the query cannot be run: ")
        # what follows quotes a query that nobody wrote
        reason = said.partition(" LINE ")[0].partition(" The above exception ")[0]
        quoted = " and ".join(repr(text) for text in expressions if text)
        raise InputError(f"{quoted or 'the store'} cannot be asked: {reason}") from None


def _require_expression(where: str) -> None:
    asked = f"{where!r} is not one SQL expression"
    node = _parsed(f"SELECT\n{where}\n", asked)
    listed = node["select_list"]
    if len(listed) != 1 or listed[0]["alias"] or listed[0]["class"] == "STAR" or node["modifiers"] or not _bare(node):
        raise InputError(f"{asked}: give a condition, as in \"word = 'dog' and probability < .3\"")


def _parsed(query: str, asked: str) -> dict[str, Any]:
    """The tree of a query of one SELECT, which DuckDB reads and does not run."""
    with duckdb.connect() as connection:
        try:
            (found,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
        except duckdb.Error as error:
            raise InputError(f"{asked}: {' '.join(str(error).split())}") from None
    record = json.loads(found[0])
    if record["error"]:
        said = record["error_message"]
        raise InputError(f"{asked}: {said if record['error_type'] == 'parser' else 'it holds a statement'}")
    if len(record["statements"]) != 1:
        raise InputError(f"{asked}: it holds {len(record['statements'])} statements")
    node: dict[str, Any] = record["statements"][0]["node"]
    if node["type"] != "SELECT_NODE":
        raise InputError(f"{asked}: it holds a statement")
    return node


def _bare(node: dict[str, Any]) -> bool:
    """Nothing but what stands after SELECT, and after ORDER BY."""
    others = any(node[name] for name in _NOTHING) or node["group_expressions"] or node["cte_map"]["map"]
    return not others and node["from_table"]["type"] == "EMPTY"
