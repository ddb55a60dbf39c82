"""Where a model looks for a label: the mean of its maps over all inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmexplain.gallery.maps import CELLS, NEEDED, by_input, laid, read
from mmexplain.gallery.query import ask, condition, stream
from mmexplain.jobs.store import Store

TOP = 24
"""Labels, unless another number is asked for."""

_GROUP = ("kind", "label", "layer", "method")

Group = tuple[str, str, str, str]
Key = tuple[int, int, str, str]


@dataclass(frozen=True)
class Aggregate:
    """The maps of one label by one method at one layer, taken together.

    Attributes:
        kind: word, answer, class and so on.
        label: what was explained.
        layer: where the maps were read.
        method: how they were made.
        n: how many maps went in.
        empty: how many did not, because nothing in them that the model saw is positive.
        mean: ``[cells, cells]`` float64 over the photo, whatever its shape: how much of the evidence lies there, as a
            multiple of what an even map would have there; NaN where no map saw anything.
        seen: ``[cells, cells]`` int64: how many of the ``n`` maps saw each cell.
        peak: mean place of the maps' peaks as shares of the photo's width and height; None where none has one.
        thirds: ``[3, 3]`` float64: share of the peaks in the upper, middle and lower third of the photo (rows), and in
            its left, middle and right third (columns). NaN where there is no peak.
        entropy: of the mean: 0 where it lies in one cell, 1 where it is even; NaN where ``n`` is 0.
    """

    kind: str
    label: str
    layer: str
    method: str
    n: int
    empty: int
    mean: NDArray[np.float64]
    seen: NDArray[np.int64]
    peak: tuple[float, float] | None
    thirds: NDArray[np.float64]
    entropy: float


def aggregate(store: Store, where: str | None = None, *, top: int | None = TOP, cells: int = CELLS) -> list[Aggregate]:
    """The mean map of every label, those with most maps first.

    Of each map the positive part is carried to the photo (what was cropped away is unseen there) and scaled
    so that its mean over the cells seen is 1: every input has the same say, however strong its gradients are, and an
    even map is 1 everywhere, however much was cropped. (With the peak scaled to 1 instead, maps that are spread out
    would outvote those that point at one place.) Of every cell the mean is taken over the maps that saw it. Of a clip
    the map's mean over time is taken.

    The store is read once, one file in memory at a time; sums are kept in float64.

    Args:
        store: of any task.
        where: an SQL expression over the columns of ``rows`` that chooses some, as in ``"word = 'dog'"``.
        top: how many labels (for each layer and method); None for all.
        cells: on each side of the grid.

    Raises:
        InputError: the expression is wrong.
    """
    listed = _labels(store, where, top)
    sums = {group: _Sum(cells) for group in listed}
    for shard, chosen in _chosen(store, where, sums):
        for rows in by_input(read(store, shard, NEEDED, {key[0] for key in chosen})):
            _add(rows, chosen, sums, frozenset(store.job.pixel_methods), cells)
    return [sums[group].result(group) for group in listed]


def _labels(store: Store, where: str | None, top: int | None) -> list[Group]:
    """The labels with most rows, alike for all layers and methods."""
    names = ", ".join(_GROUP)
    some = "" if top is None else f" WHERE place <= {int(top)}"
    query = (
        f"WITH one AS (SELECT {names}, count(*) AS n FROM rows WHERE {condition(where)} GROUP BY ALL), "
        f"two AS (SELECT *, max(n) OVER (PARTITION BY kind, label) AS most FROM one), "
        f"three AS (SELECT *, dense_rank() OVER (ORDER BY most DESC, kind, label) AS place FROM two) "
        f"SELECT * FROM three{some} ORDER BY place, layer, method"
    )
    return [tuple(row[name] for name in _GROUP) for row in ask(store, query, where).to_pylist()]


def _chosen(store: Store, where: str | None, sums: dict[Group, _Sum]) -> Iterator[tuple[int, dict[Key, Group]]]:
    """Shard by shard which rows belong to which label; their peaks are added on the way."""
    query = (
        "SELECT input, target, layer, method, kind, label, (peak_x + 0.5) / width AS x, (peak_y + 0.5) / height AS y "
        f"FROM rows WHERE {condition(where)}"
    )
    number, chosen = -1, dict[Key, Group]()
    for batch in stream(store, query, where):
        for row in batch.to_pylist():
            group: Group = (row["kind"], row["label"], row["layer"], row["method"])
            if group not in sums:
                continue
            shard = row["input"] // store.job.shard
            if shard != number:
                if chosen:
                    yield number, chosen
                number, chosen = shard, {}
            chosen[row["input"], row["target"], row["layer"], row["method"]] = group
            if row["x"] is not None:
                sums[group].see_peak(row["x"], row["y"])
    if chosen:
        yield number, chosen


def _add(
    rows: list[dict[str, Any]],
    chosen: dict[Key, Group],
    sums: dict[Group, _Sum],
    pixels: frozenset[str],
    cells: int,
) -> None:
    """The maps of one input, those of one layer and method at a time."""
    alike: dict[tuple[str, str], list[tuple[Group, dict[str, Any]]]] = {}
    for row in rows:
        group = chosen.get((row["input"], row["target"], row["layer"], row["method"]))
        if group is not None:
            alike.setdefault((row["layer"], row["method"]), []).append((group, row))
    for (_, method), found in alike.items():
        maps = laid([row for _, row in found], method in pixels, cells, positive=True)
        for (group, _), values in zip(found, maps, strict=True):
            sums[group].add(values)


class _Sum:
    """What is kept of a label while its maps go by."""

    def __init__(self, cells: int) -> None:
        self.total = np.zeros((cells, cells))
        self.seen = np.zeros((cells, cells), np.int64)
        self.n = self.empty = self.peaks = 0
        self.place = np.zeros(2)
        self.thirds = np.zeros((3, 3), np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """A map without negative values on the grid, NaN where unseen."""
        seen = np.isfinite(values)
        known = np.where(seen, values, 0.0)
        whole = known.sum()
        if not whole > 0:
            self.empty += 1
            return
        self.n += 1
        self.total += known * (seen.sum() / whole)
        self.seen += seen

    def see_peak(self, x: float, y: float) -> None:
        """A map's peak, as shares of the photo's width and height."""
        self.peaks += 1
        self.place += x, y
        self.thirds[min(2, int(3 * y)), min(2, int(3 * x))] += 1

    def result(self, group: Group) -> Aggregate:
        """All that went by."""
        with np.errstate(invalid="ignore"):
            mean = self.total / self.seen
            thirds = self.thirds / np.float64(self.peaks)
        x, y = (self.place / max(1, self.peaks)).tolist()
        peak = (x, y) if self.peaks else None
        return Aggregate(*group, self.n, self.empty, mean, self.seen, peak, thirds, _entropy(mean))


def _entropy(mean: NDArray[np.float64]) -> float:
    known = mean[np.isfinite(mean)]
    if not known.sum() > 0:
        return math.nan
    if known.size == 1:
        return 0.0
    share = known[known > 0] / known.sum()
    return float(-(share * np.log(share)).sum() / math.log(known.size))
