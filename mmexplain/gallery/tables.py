"""The pages that are tables: statistics of labels, inputs that failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mmexplain.explanation import MapKey
from mmexplain.gallery.pages import Site, plural, some_of
from mmexplain.render.text import clean

MOST_LABELS = 2_000
MOST_ERRORS = 200
"""Rows of one page, at most: of each sort of error, of all labels."""


def write_statistics_page(site: Site, found: pa.Table) -> None:
    """Write the table of :func:`~mmexplain.gallery.label_statistics.label_statistics`."""
    listed = found.slice(0, MOST_LABELS).to_pylist()
    several = len({(row["layer"], row["method"]) for row in listed}) > 1
    kinds = len({row["kind"] for row in listed}) > 1
    columns = [("label", False), *([("kind", False)] if kinds else []), *([("map", False)] if several else [])]
    columns += [(title, True) for title in ("count", "inputs", "probability", "area", "entropy", "peak x", "peak y")]
    rows = []
    for row in listed:
        cells = [_text(row["label"] or "(empty)")]
        cells += [_text(row["kind"])] if kinds else []
        cells += [_text(MapKey(row["layer"], row["method"]).made)] if several else []
        cells += [_number(row["count"], "{:,}"), _number(row["inputs"], "{:,}"), _probability(row)]
        cells += [_number(row["mean_area"], "{:.3f}"), _number(row["mean_entropy"], "{:.3f}")]
        cells += [_number(row[name], "{:.0%}") for name in ("mean_peak_x", "mean_peak_y")]
        rows.append(cells)
    site.page(
        "statistics.html",
        "statistics.html.j2",
        "Statistics of labels",
        "statistics",
        shown=some_of(len(listed), found.num_rows, "row"),
        columns=[{"title": title, "number": number, "sorted": title == "count"} for title, number in columns],
        rows=rows,
    )


def write_errors_page(site: Site, errors: pa.Table, inputs: int) -> None:
    """Write the inputs that failed, by what went wrong.

    Args:
        site: that the page belongs to.
        errors: as :meth:`~mmexplain.jobs.store.Store.errors` gives them.
        inputs: how many there are in all.
    """
    by_type: dict[str, list[Mapping[str, Any]]] = {}
    for row in errors.to_pylist():
        by_type.setdefault(row["error_type"], []).append(row)
    groups = [
        {
            "name": clean(name),
            "count": plural(len(found), "input"),
            "rows": [{name: clean(row[name]) for name in ("id", "error", "source")} for row in found[:MOST_ERRORS]],
            "more": f"{len(found) - MOST_ERRORS:,}" if len(found) > MOST_ERRORS else "",
        }
        for name, found in sorted(by_type.items(), key=lambda group: (-len(group[1]), group[0]))
    ]
    shown = f"{errors.num_rows:,} of {plural(inputs, 'input')} could not be explained"
    site.page("errors.html", "errors.html.j2", "Inputs that failed", "errors", groups=groups, shown=shown)


def _text(value: str) -> dict[str, Any]:
    return {"told": clean(value), "value": None}


def _number(value: float | None, form: str) -> dict[str, Any]:
    return {"told": "–" if value is None else form.format(value), "value": value}


def _probability(row: Mapping[str, Any]) -> dict[str, Any]:
    cell = _number(row["mean_probability"], "{:.3f}")
    if row["probability_low"] is not None:
        cell["told"] += f" [{row['probability_low']:.3f}, {row['probability_high']:.3f}]"
    return cell
