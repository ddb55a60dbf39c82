"""Two runs over the same inputs: two models, or one before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from mmexplain.evaluate.intervals import Mean, mean
from mmexplain.gallery.maps import CELLS, NEEDED, by_input, laid, read
from mmexplain.gallery.query import ask, condition
from mmexplain.jobs.store import Store
from mmexplain.ranks import spearman

Key = tuple[str, str]

_ROWS = """
WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY input, kind, label, layer, method ORDER BY position, target) AS nth
    FROM rows WHERE error IS NULL
)
SELECT input, id, text, target, kind, label, position, layer, method, probability, nth,
    (peak_x + 0.5) / width AS x, (peak_y + 0.5) / height AS y, width, height
FROM numbered WHERE {condition}
"""
# Where both said the same, a word is found by its place; otherwise the second "dog" of one is the second of the other.
_JOIN = """
SELECT a.id, a.kind, a.label, a.position, b.position AS other_position, a.text, b.text AS other_text,
    a.layer, a.method, b.layer AS other_layer, b.method AS other_method,
    a.input, a.target, b.input AS other_input, b.target AS other_target,
    a.probability::DOUBLE AS probability, b.probability::DOUBLE AS other_probability,
    CASE WHEN isfinite(a.probability) AND isfinite(b.probability)
        THEN a.probability::DOUBLE - b.probability::DOUBLE END AS change,
    sqrt((((a.x - b.x) * a.width) ** 2 + ((a.y - b.y) * a.height) ** 2) / (a.width ** 2 + a.height ** 2)) AS distance
FROM mine a JOIN keys k ON a.layer = k.layer AND a.method = k.method
JOIN others b ON b.layer = k.other_layer AND b.method = k.other_method
    AND a.id = b.id AND a.kind = b.kind AND a.label = b.label
    AND CASE WHEN a.text IS NOT DISTINCT FROM b.text AND a.position IS NOT NULL
        THEN a.position IS NOT DISTINCT FROM b.position ELSE a.nth = b.nth END
ORDER BY a.input, a.layer, a.method, a.target
"""
_KEYS = "SELECT layer, method FROM rows WHERE error IS NULL GROUP BY ALL ORDER BY min(input), layer, method"
_IDS = "SELECT input, id FROM rows WHERE error IS NULL GROUP BY ALL ORDER BY input"


def compare(store: Store, other: Store, where: str | None = None, *, cells: int = CELLS) -> pa.Table:
    """A row for each target that both stores explain, as they lie in the first.

    Inputs are joined on their id, targets on kind and label: a word that a sentence says more than once on its
    position where both sentences are the same, otherwise the first with the first, the second with the second. Maps
    are joined where layer and method are the same; if that joins none, where the method is, and at last the first of
    one with the first of the other.

    Columns: ``id``, ``kind``, ``label``, ``position``, ``other_position``, ``text``, ``other_text``, ``layer``,
    ``method``, ``other_layer``, ``other_method``; ``input``, ``target``, ``other_input``, ``other_target`` (numbers in
    the stores); ``probability``, ``other_probability`` and ``change``, the first less the second; ``correlation``,
    Spearman's of both maps, each carried to a common grid over the photo, where both were seen; ``distance`` of the
    peaks as a share of the photo's diagonal. Null where nothing is known: of a flat map there is neither peak nor
    correlation.

    Args:
        store: one run.
        other: the one that it is held against.
        where: an SQL expression over the columns of ``rows`` that chooses targets of ``store``.
        cells: on each side of the grid.

    Raises:
        InputError: the expression is wrong.
    """
    with duckdb.connect() as connection:
        connection.register("mine", ask(store, _ROWS.format(condition=condition(where)), where))
        connection.register("others", ask(other, _ROWS.format(condition="true")))
        names = ("layer", "method", "other_layer", "other_method")
        pairs = [(*one, *two) for one, two in key_pairs(_keys(store), _keys(other))]
        columns = zip(*pairs, strict=True) if pairs else [()] * 4
        connection.register(
            "keys", pa.table({name: pa.array(found, pa.string()) for name, found in zip(names, columns, strict=True)})
        )
        joined = pa.RecordBatchReader.from_stream(connection.sql(_JOIN)).read_all()
    correlations = _correlations(store, other, joined, cells)
    place = joined.column_names.index("distance")
    return joined.add_column(place, "correlation", pa.array(correlations, pa.float64()))


def key_pairs(keys: Sequence[Key], others: Sequence[Key]) -> list[tuple[Key, Key]]:
    """Which ``(layer, method)`` of one store is held against which of the other."""
    same = [(key, key) for key in keys if key in others]
    if same or not keys or not others:
        return same
    by_method = {method: (layer, method) for layer, method in reversed(others)}
    alike: dict[str, tuple[Key, Key]] = {}
    for key in keys:
        if key[1] in by_method:
            alike.setdefault(key[1], (key, by_method[key[1]]))
    return list(alike.values()) or [(keys[0], others[0])]


@dataclass(frozen=True)
class Unpaired:
    """What only one of two stores has.

    Attributes:
        inputs: ids of the inputs that only the first explains.
        other_inputs: those that only the second does.
        targets: how many rows of the first have no partner.
        other_targets: how many of the second.
    """

    inputs: list[str]
    other_inputs: list[str]
    targets: int
    other_targets: int


def unpaired(store: Store, other: Store, compared: pa.Table, where: str | None = None) -> Unpaired:
    """What :func:`compare` left out: inputs of all that either store explains, and rows of those that were asked for.

    Args:
        store: one run.
        other: the other.
        compared: their comparison.
        where: what was asked of it; the rows of ``other`` are counted whatever it says, if it says nothing.
    """
    mine, others = (ask(each, _IDS).column("id").to_pylist() for each in (store, other))
    here, there = set(mine), set(others)
    total = ask(store, f"SELECT count(*) AS n FROM rows WHERE {condition(where)}", where).column("n")[0].as_py()
    others_total = ask(other, "SELECT count(*) AS n FROM rows WHERE error IS NULL").column("n")[0].as_py()
    return Unpaired(
        [name for name in mine if name not in there],
        [name for name in others if name not in here],
        total - compared.num_rows,
        others_total - compared.num_rows if where is None else 0,
    )


def summary(compared: pa.Table) -> dict[str, Mean]:
    """Means over all pairs with 95 % bootstrap intervals, whose draws are of inputs: ``change``, its magnitude
    ``absolute_change``, ``correlation`` and ``distance``."""
    items = compared.column("id").to_pylist()
    change = compared.column("change").to_pylist()
    values = {
        "change": change,
        "absolute_change": [None if value is None else abs(value) for value in change],
        "correlation": compared.column("correlation").to_pylist(),
        "distance": compared.column("distance").to_pylist(),
    }
    return {name: mean(found, items) for name, found in values.items()}


def _keys(store: Store) -> list[Key]:
    return [(row["layer"], row["method"]) for row in ask(store, _KEYS).to_pylist()]


def _correlations(store: Store, other: Store, joined: pa.Table, cells: int) -> list[float | None]:
    """Of every pair, in their order; a file of the first store and a few of the second are in memory at a time."""
    columns = ("input", "target", "layer", "method")
    mine, others = _Grids(store, cells), _Grids(other, cells)
    wanted = joined.select([*columns, *(f"other_{name}" for name in columns)]).to_pylist()
    found: list[float | None] = []
    for _, group in groupby(wanted, key=lambda row: row["input"]):
        for row in group:
            one = mine.get(*(row[name] for name in columns))
            two = others.get(*(row[f"other_{name}"] for name in columns))
            both = torch.from_numpy(np.isfinite(one) & np.isfinite(two))
            value = spearman(torch.from_numpy(one)[both], torch.from_numpy(two)[both]) if both.any() else math.nan
            found.append(None if math.isnan(value) else value)
    return found


class _Grids:
    """Maps of a store on the grid, by input; made when they are asked for, and kept for the input asked for last."""

    KEPT = 4

    def __init__(self, store: Store, cells: int) -> None:
        self._store = store
        self._cells = cells
        self._shards: dict[int, dict[int, list[dict[str, Any]]]] = {}
        self._input = -1
        self._maps: dict[tuple[int, str, str], NDArray[np.float64]] = {}

    def get(self, number: int, target: int, layer: str, method: str) -> NDArray[np.float64]:
        """``[cells, cells]``, NaN where unseen."""
        if number != self._input:
            self._input, self._maps = number, dict(self._laid(number))
        return self._maps[target, layer, method]

    def _laid(self, number: int) -> Iterator[tuple[tuple[int, str, str], NDArray[np.float64]]]:
        rows = sorted(self._rows(number), key=lambda row: (row["layer"], row["method"]))
        for (layer, method), group in groupby(rows, key=lambda row: (row["layer"], row["method"])):
            alike = list(group)
            maps = laid(alike, method in self._store.job.pixel_methods, self._cells)
            for row, values in zip(alike, maps, strict=True):
                yield (row["target"], layer, method), values

    def _rows(self, number: int) -> list[dict[str, Any]]:
        shard = number // self._store.job.shard
        if shard not in self._shards:
            while len(self._shards) >= self.KEPT:
                del self._shards[next(iter(self._shards))]
            self._shards[shard] = {rows[0]["input"]: rows for rows in by_input(read(self._store, shard, NEEDED))}
        return self._shards[shard][number]
