"""From Explanations to rows of a store, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.jobs.item import Item
from mmexplain.jobs.schema import COLUMNS, schema
from mmexplain.jobs.statistics import statistics
from mmexplain.picture import Picture
from mmexplain.record import finite
from mmexplain.targets import Target


class Rows:
    """Rows of some inputs, column by column, until they are a table.

    Args:
        map_shape: of every map; None where they differ.
    """

    def __init__(self, map_shape: Sequence[int] | None) -> None:
        self._shape = None if map_shape is None else tuple(map_shape)
        self._columns: dict[str, list[Any]] = {name: [] for name in COLUMNS if name != "map"}
        self._maps: list[NDArray[np.float16] | None] = []

    def __len__(self) -> int:
        return len(self._maps)

    def add(self, item: Item, explanation: Explanation) -> None:
        """The rows of an input that was explained: layer by layer and method by method, of each all targets. If it
        raises, there are none of them.

        Raises:
            ValueError: a map has another shape than the store's.
        """
        before = len(self)
        try:
            self._add(item, explanation)
        except BaseException:
            for column in (*self._columns.values(), self._maps):
                del column[before:]
            raise

    def _add(self, item: Item, explanation: Explanation) -> None:
        for raw in explanation.maps.values():
            if self._shape is not None and tuple(raw.shape[1:]) != self._shape:
                raise ValueError(f"a map of {_size(raw.shape[1:])} values in a store of {_size(self._shape)}")
        shared = {
            "input": item.number,
            "id": item.id,
            "source": item.source,
            "task": explanation.task,
            "model": explanation.model,
            "text": explanation.text,
            "words": explanation.words or None,
            "height": explanation.geometry.original[0],
            "width": explanation.geometry.original[1],
            "geometry": _geometry(explanation.geometry),
            "provenance": json.dumps(finite(explanation.provenance), sort_keys=True),
        }
        targets = [_target(target) for target in explanation.targets]
        scores = explanation.scores.tolist()
        probabilities = None if explanation.probabilities is None else explanation.probabilities.tolist()
        for key in explanation.maps:
            raw = explanation.maps[key].detach().float().cpu()
            values, scales = _packed(raw)
            told = _statistics(_over_space(explanation, key, raw), explanation.geometry)
            for number, target in enumerate(targets):
                self._append(
                    {
                        **shared,
                        **target,
                        **told[number],
                        "target": number,
                        "score": scores[number],
                        "probability": None if probabilities is None else probabilities[number],
                        "layer": key.layer,
                        "method": key.method,
                        "map_scale": scales[number],
                        "map_shape": list(raw.shape[1:]),
                        "attributions": _attributions(explanation, number),
                    },
                    values[number],
                )

    def fail(self, item: Item, error: BaseException) -> None:
        """The row of an input that could not be explained."""
        text = " ".join(str(error).split()) or type(error).__name__
        self._append(
            {
                "input": item.number,
                "id": item.id,
                "source": item.source,
                "text": item.caption if item.caption is not None else item.question,
                "error": text,
                "error_type": type(error).__name__,
            },
            None,
        )

    def _append(self, row: Mapping[str, Any], values: NDArray[np.float16] | None) -> None:
        for name, column in self._columns.items():
            column.append(row.get(name))
        self._maps.append(values)

    def table(self) -> pa.Table:
        """All rows, those of each input together, in the order of the inputs' numbers."""
        wanted = schema(self._shape)
        order = np.argsort(np.array(self._columns["input"], dtype=np.int64), kind="stable")
        columns = [
            self._map_column(order)
            if field.name == "map"
            else pa.array([self._columns[field.name][place] for place in order], field.type)
            for field in wanted
        ]
        return pa.Table.from_arrays(columns, schema=wanted)

    def _map_column(self, order: Iterable[int]) -> pa.Array:
        maps = [self._maps[place] for place in order]
        missing = pa.array([values is None for values in maps], pa.bool_())
        if self._shape is not None:
            blank = np.zeros(math.prod(self._shape), np.float16)
            flat = np.concatenate([blank if values is None else values for values in maps] or [blank[:0]])
            storage = pa.FixedSizeListArray.from_arrays(pa.array(flat), len(blank), mask=missing)
            return pa.ExtensionArray.from_storage(schema(self._shape).field("map").type, storage)
        lengths = [0 if values is None else len(values) for values in maps]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        flat = np.concatenate([values for values in maps if values is not None] or [np.zeros(0, np.float16)])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=missing)


def explanation_of(rows: Sequence[Mapping[str, Any]], picture: Picture, pixel_methods: frozenset[str]) -> Explanation:
    """The Explanation that the rows of one input were made of, with maps rounded to 16 bits.

    Args:
        rows: all of its rows, as :meth:`pyarrow.Table.to_pylist` gives them; ``map`` flat.
        picture: of its source.
        pixel_methods: names of the methods whose maps have a channel axis.
    """
    first = rows[0]
    by_key: dict[MapKey, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_key.setdefault(MapKey(row["layer"], row["method"]), []).append(row)
    targets = next(iter(by_key.values()))
    probabilities = [row["probability"] for row in targets]
    return Explanation(
        task=first["task"],
        model=first["model"],
        text=first["text"],
        targets=[_target_of(row) for row in targets],
        scores=torch.tensor([row["score"] for row in targets]),
        probabilities=None if None in probabilities else torch.tensor(probabilities),
        maps={key: torch.stack([_map_of(row) for row in found]) for key, found in by_key.items()},
        geometry=geometry_of(first),
        picture=picture,
        words=list(first["words"] or ()),
        provenance=json.loads(first["provenance"]),
        pixel_methods=pixel_methods,
        text_maps=_text(targets, lambda found: torch.tensor(found["values"])),
        text_errors=_text(targets, lambda found: None if found["error"] is None else torch.tensor(found["error"])),
    )


def _packed(raw: Tensor) -> tuple[list[NDArray[np.float16]], list[float]]:
    """Maps ``[K, *S]`` as 16-bit floats from -1 to 1, and what each is to be multiplied with: the smallest of the raw
    values would vanish in 16 bits, and the largest overflow."""
    flat = raw.flatten(1)
    scales = flat.abs().amax(1)
    unit = flat / scales.where(scales > 0, 1.0)[:, None]
    return list(unit.half().numpy()), scales.tolist()


def _map_of(row: Mapping[str, Any]) -> Tensor:
    values = torch.from_numpy(np.asarray(row["map"], dtype=np.float32).copy())
    raw: Tensor = values * row["map_scale"]
    return raw.view(*row["map_shape"])


def _over_space(explanation: Explanation, key: MapKey, raw: Tensor) -> Tensor:
    """Maps without the channels of a pixel method."""
    if key.method not in explanation.pixel_methods:
        return raw
    return torch.stack([explanation.map(number, key.layer, key.method) for number in range(len(raw))]).float().cpu()


def _statistics(maps: Tensor, geometry: Geometry) -> list[dict[str, Any]]:
    found = statistics(maps, geometry)
    x, y = found.centroid.T.tolist()
    columns = {
        "centroid_x": x,
        "centroid_y": y,
        "entropy": found.entropy.tolist(),
        "area": found.area.tolist(),
        "minimum": found.minimum.tolist(),
        "maximum": found.maximum.tolist(),
    }
    rows = []
    for number, peak in enumerate(found.peak):
        x, y, frame = (*peak, None, None)[:3] if peak is not None else (None, None, None)
        row = {name: None if math.isnan(values[number]) else values[number] for name, values in columns.items()}
        rows.append({**row, "peak_x": x, "peak_y": y, "peak_frame": frame})
    return rows


def _target(target: Target) -> dict[str, Any]:
    return {
        "label": target.label,
        "kind": target.kind,
        "position": target.index,
        "content": target.content,
        "ids": list(target.ids),
        "n_words": target.words,
        "versus": None if target.versus is None else json.dumps(target.versus.to_dict()),
        "weight": target.weight,
    }


def _target_of(row: Mapping[str, Any]) -> Target:
    return Target(
        label=row["label"],
        kind=row["kind"],
        ids=tuple(row["ids"]),
        index=row["position"],
        content=row["content"],
        versus=None if row["versus"] is None else Target.from_dict(json.loads(row["versus"])),
        words=row["n_words"],
        weight=row["weight"],
    )


def _geometry(geometry: Geometry) -> dict[str, Any]:
    return {name: value for name, value in geometry.to_dict().items() if name != "original"}


def geometry_of(row: Mapping[str, Any]) -> Geometry:
    """How the model's input lay over the original, from any row of an input."""
    return Geometry.from_dict({**row["geometry"], "original": (row["height"], row["width"])})


def _attributions(explanation: Explanation, number: int) -> list[dict[str, Any]] | None:
    if not explanation.text_maps:
        return None
    return [
        {
            "method": method,
            "values": values[number].tolist(),
            "error": float(explanation.text_errors[method][number]) if method in explanation.text_errors else None,
        }
        for method, values in explanation.text_maps.items()
    ]


def _text(
    targets: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], Tensor | None]
) -> dict[str, Tensor]:
    """Method → what ``read`` finds in the attributions of all targets, where it finds something."""
    named: dict[str, list[Tensor]] = {}
    for row in targets:
        for found in row["attributions"] or ():
            value = read(found)
            if value is not None:
                named.setdefault(found["method"], []).append(value)
    return {method: torch.stack(values) for method, values in named.items()}


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
