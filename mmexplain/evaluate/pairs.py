"""Rows of two methods that measure the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmexplain.evaluate.intervals import Mean, difference
from mmexplain.evaluate.protocol import Metric, Row


def beyond(
    rows: Sequence[tuple[str, Row]], metric: Metric, method: str, against: str, labels: Mapping[str, str]
) -> Mean | None:
    """By how much a method's numbers are larger than another's, in the mean of their pairs.

    Rows make a pair that are of one item and agree in all text but the method (the class, the target); where an item
    has several such rows, as for the words of a caption, they are paired in their order. Where their numbers differ
    nothing tells which go together, and they are left out.

    Args:
        rows: each with its item's key.
        metric: of which numbers.
        method: whose numbers.
        against: the other method.
        labels: of the rows that are looked at, besides the method.

    Returns:
        None without a pair.
    """
    held: dict[tuple[object, ...], tuple[list[Row], list[Row]]] = {}
    for key, row in rows:
        name = row.get("method")
        if (
            metric.name in row
            and name in (method, against)
            and all(str(row.get(k, "")) == v for k, v in labels.items())
        ):
            told = sorted((k, v) for k, v in row.items() if isinstance(v, str) and k != "method")
            held.setdefault((key, *told), ([], []))[name == against].append(row)
    pairs = [
        (str(key), one[metric.name], other[metric.name], str(one.get(metric.within)))
        for (key, *_), (own, others) in held.items()
        if len(own) == len(others)
        for one, other in zip(own, others, strict=True)
    ]
    if not pairs:
        return None
    items, values, numbers, groups = zip(*pairs, strict=True)
    return difference(values, numbers, items, within=groups if metric.within else None)
