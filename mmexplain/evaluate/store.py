"""Rows on disk, a line an item, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mmexplain.errors import InputError
from mmexplain.evaluate.protocol import Metric, Row


class Store:
    """Measured rows in a JSON Lines file: the first line holds the settings, each further one an item's key and rows.

    A line is written in one piece when its item is done; a line that was cut off by a crash, or damaged otherwise, is
    dropped and its item measured again.

    Args:
        path: of the file, made if needed; None keeps the rows in memory.
        settings: what they depend on.
        metrics: numbers that rows may hold; a row that has something else there is damaged.

    Raises:
        InputError: the file holds rows of other settings, is no such file, or cannot be written.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any], metrics: Sequence[Metric] = ()) -> None:
        self.rows: dict[str, list[Row]] = {}
        self._path = path
        self._metrics = metrics
        self._settings = json.loads(json.dumps(dict(settings)))
        self._file: Any = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            kept = self._read() if self._path.exists() and self._path.stat().st_size else []
            # What is whole is written anew, so that a line that was cut off does not stay in the middle.
            partial = self._path.with_name(self._path.name + ".partial")
            lines = [json.dumps({"settings": self._settings}), *kept]
            partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            partial.replace(self._path)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {str(self._path)!r}: {(error.strerror or str(error)).lower()}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def add(self, key: str, rows: Sequence[Row]) -> None:
        """Keep the rows of an item."""
        line = json.dumps({"item": key, "rows": list(rows)}, allow_nan=False)
        if self._file is not None:
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as error:
                raise InputError(f"cannot write {str(self._path)!r}: {error.strerror or error}") from None
        self.rows[key] = json.loads(line)["rows"]

    def _read(self) -> list[str]:
        """The lines of items as they are, but damaged ones: these items are measured again."""
        assert self._path is not None
        first, *lines = self._path.read_bytes().split(b"\n")
        self._check(_record(first).get("settings"))
        kept = []
        for line in lines:
            found = _record(line)
            key, rows = found.get("item"), found.get("rows")
            if isinstance(key, str) and isinstance(rows, list) and all(map(self._is_row, rows)):
                self.rows[key] = rows
                kept.append(line.decode())
        return kept

    def _check(self, stored: Any) -> None:
        if not isinstance(stored, dict):
            raise InputError(f"{str(self._path)!r} is not a file of results; choose another --out")
        if stored != self._settings:
            absent = object()
            names = {**stored, **self._settings}
            differing = [name for name in names if stored.get(name, absent) != self._settings.get(name, absent)]
            raise InputError(
                f"{str(self._path)!r} holds results of other settings ({', '.join(sorted(differing))}): choose "
                "another --out, or remove it"
            )

    def _is_row(self, row: Any) -> bool:
        return isinstance(row, dict) and all(
            (row[metric.name] is None or isinstance(row[metric.name], int | float))
            and (not metric.within or metric.within in row)
            for metric in self._metrics
            if metric.name in row
        )


def _record(line: bytes) -> dict[str, Any]:
    """The object on a line; empty for whatever else stands there."""
    try:
        found = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
