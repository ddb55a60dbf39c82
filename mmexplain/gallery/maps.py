"""Maps of a store on one grid over the photo, whatever their resolution and whatever was cropped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.geometry import Geometry
from mmexplain.jobs.places import telling
from mmexplain.jobs.rows import geometry_of
from mmexplain.jobs.store import Store, flattened, stretches

CELLS = 32
"""On each side of the grid."""

NEEDED = ("input", "target", "layer", "method", "map", "map_shape", "geometry", "height", "width")
"""Columns without which a map cannot be laid over its photo."""

_MOST_SAMPLES = 16


def read(
    store: Store, shard: int, columns: Sequence[str] | None = None, inputs: Iterable[int] | None = None
) -> pa.Table:
    """Rows of one file of a store that have a map, maps as plain lists.

    Args:
        store: where it is.
        shard: its number.
        columns: those that are read; all where left out.
        inputs: only rows of these.

    Raises:
        InputError: the file is damaged.
    """
    chosen = ds.field("error").is_null()
    if inputs is not None:
        chosen &= ds.field("input").isin(sorted(inputs))
    with telling(store.shards.path(shard)):
        return flattened(store.shard(shard, columns, chosen))


def by_input(table: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """The rows of each input, which lie together, as plain values; ``map`` as a flat float16 array."""
    plain, maps = table.drop_columns(["map"]), table.column("map")
    for start, stop in stretches(table):
        rows = plain.slice(start, stop - start).to_pylist()
        for place, row in enumerate(rows, start):
            row["map"] = maps[place].values.to_numpy()
        yield rows


def laid(
    rows: Sequence[Mapping[str, Any]], pixels: bool, cells: int = CELLS, *, positive: bool = False
) -> NDArray[np.float64]:
    """Maps of one input by one method at one layer on the grid: ``[len(rows), cells, cells]``, each in units of its own
    largest magnitude; signed, or with ``positive`` their positive part.

    Of a pixel method the value of largest magnitude among the colours is taken, as everywhere; of a clip the mean over
    time.
    """
    first = rows[0]
    values = np.stack([row["map"] for row in rows]).astype(np.float32)
    found = torch.from_numpy(values).view(len(rows), *first["map_shape"])
    if pixels:
        found = found.gather(1, found.abs().argmax(dim=1, keepdim=True))[:, 0]
    if positive:
        found = found.clamp(min=0)
    geometry = geometry_of(first)
    return on_grid(found if geometry.frames is None else found.mean(dim=1), geometry, cells)


def on_grid(maps: Tensor, geometry: Geometry, cells: int = CELLS) -> NDArray[np.float64]:
    """Maps ``[N, h, w]`` over a model's input as ``[N, cells, cells]`` over the photo; NaN in cells whose centre was
    not seen.

    A cell holds the map at its centre, interpolated as for display; of a map finer than the grid the mean over so
    many places in the cell that none of the map's own cells is passed over.
    """
    height, width = geometry.original
    left, top, right, bottom = geometry.box
    finest = max(maps.shape[-1] * width / (right - left), maps.shape[-2] * height / (bottom - top))
    samples = min(_MOST_SAMPLES, max(1, math.ceil(finest / cells)))
    flat = Geometry(geometry.original, geometry.input, geometry.box, geometry.shown)  # over space alone
    over = flat.to_original(maps, size=(cells * samples, cells * samples)).double().numpy()
    parts = over.reshape(len(maps), cells, samples, cells, samples)
    seen = np.isfinite(parts)
    counts = seen.sum(axis=(2, 4))
    sums = np.where(seen, parts, 0.0).sum(axis=(2, 4))
    centre = flat.seen((cells, cells)).numpy()
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(centre & (counts > 0), sums / counts, np.nan)
    return mean
