"""Results of evaluations in their folders: read back, and measured without a new date for what was measured before."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmexplain.evaluate.intervals import Mean
from mmexplain.evaluate.protocol import Metric, Progress, Protocol
from mmexplain.evaluate.result import Line, Result
from mmexplain.evaluate.runner import ROWS, run


def saved(folder: Path) -> Result | None:
    """The result in a folder of :func:`mmexplain.evaluate.runner.run`; None where there is none, where it is of a
    version with other fields, or where its rows are not all there."""
    try:
        record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        found = _result(record)
        stored = [json.loads(line) for line in (folder / ROWS).read_text(encoding="utf-8").splitlines()[1:]]
        # The order of items in the file is that in which they were measured, the first ones first.
        rows = [(entry["item"], row) for entry in stored[: found.items] for row in entry["rows"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return replace(found, rows=rows) if len(stored) >= found.items else None


def run_or_keep(protocol: Protocol, folder: Path, limit: int | None = None, progress: Progress | None = None) -> Result:
    """As :func:`mmexplain.evaluate.runner.run`; where every row was there already, date, machine and seconds stay those
    of the result that was saved when they were measured."""
    before, stored = saved(folder), _stored(folder)
    result = run(protocol, folder, limit, progress)
    if before is not None and _stored(folder) == stored:
        result = replace(result, made=before.made, seconds=before.seconds)
        result.save(folder)
    return result


def _stored(folder: Path) -> int:
    """Items whose rows are in a folder; the first line holds the settings."""
    path = folder / ROWS
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def _result(record: dict[str, Any]) -> Result:
    """What :meth:`Result.to_json` told."""
    lines = [
        Line(line["labels"], {name: Mean(**_numbers(mean)) for name, mean in line["means"].items()})
        for line in record["lines"]
    ]
    metrics = tuple(Metric(**metric) for metric in record["metrics"])
    return Result(**{**record, "labels": tuple(record["labels"]), "metrics": metrics, "lines": lines})


def _numbers(mean: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in mean.items()}
