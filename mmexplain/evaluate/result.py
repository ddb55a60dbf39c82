"""What an evaluation found: means with confidence intervals, as JSON, a Markdown table and a figure."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmexplain.evaluate.intervals import LEAST, LEVEL, Mean, mean
from mmexplain.evaluate.pairs import beyond
from mmexplain.evaluate.protocol import Metric, Protocol, Row
from mmexplain.render.whole import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        labels: name of a label column → what stands in it: what the means are taken over.
        means: name of a metric → its mean.
    """

    labels: dict[str, str]
    means: dict[str, Mean]


@dataclass(frozen=True)
class Result:
    """The table of a protocol.

    Attributes:
        protocol: its name.
        title: of the table.
        labels: names of the label columns.
        metrics: what the number columns hold.
        lines: together where the other labels agree, in the order in which these first came up; then by method, in
            the order in which they were asked for, and controls.
        settings: of the protocol.
        notes: what a reader must know.
        items: how many were measured.
        seconds: wall-clock time of this run, which may have found rows of an earlier one.
        made: when, where and with what.
        rows: that the means are of, each with its item's key; in no file of the result.
    """

    protocol: str
    title: str
    labels: tuple[str, ...]
    metrics: tuple[Metric, ...]
    lines: list[Line]
    settings: dict[str, Any]
    notes: list[str]
    items: int
    seconds: float
    made: dict[str, str]
    rows: Sequence[tuple[str, Row]] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, protocol: Protocol, rows: Sequence[tuple[str, Row]], items: int, seconds: float) -> Result:
        """Means of measured rows.

        Args:
            protocol: that measured them.
            rows: each with its item's key.
            items: how many there were.
            seconds: what the run took.
        """
        groups: dict[tuple[str, ...], list[tuple[str, Row]]] = {}
        for key, row in rows:
            groups.setdefault(tuple(str(row.get(label, "")) for label in protocol.labels), []).append((key, row))
        lines = [
            Line(
                dict(zip(protocol.labels, labels, strict=True)),
                {
                    metric.name: mean(
                        [row[metric.name] for _, row in held],
                        [key for key, _ in held],
                        within=[str(row[metric.within]) for _, row in held] if metric.within else None,
                        share=metric.percent,
                    )
                    for metric in protocol.metrics
                    if (held := [(key, row) for key, row in group if metric.name in row])
                },
            )
            for labels, group in groups.items()
        ]
        settings = dict(protocol.settings())
        made = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "mmexplain": version("mmexplain"),
            "torch": torch.__version__,
        }
        return cls(
            protocol.name,
            protocol.title,
            protocol.labels,
            protocol.metrics,
            _ordered(lines, [str(name) for name in settings.get("methods") or ()]),
            settings,
            list(protocol.notes()),
            items,
            round(seconds, 1),
            made,
            rows,
        )

    def beyond(self, method: str, metric: str, against: str, /, **labels: str) -> Mean | None:
        """By how much a method's numbers are larger than those of another on the same things: the mean of paired
        differences, with its interval; see :func:`mmexplain.evaluate.pairs.beyond`.

        Args:
            method: whose numbers.
            metric: name of one of :attr:`metrics`.
            against: the other method, or a control.
            labels: the other label columns of the lines; those that are not told are not looked at.

        Returns:
            None where no rows can be paired.

        Raises:
            KeyError: no such metric.
        """
        found = {found.name: found for found in self.metrics}[metric]
        return beyond(self.rows, found, method, against, labels)

    def markdown(self) -> str:
        """The table with its notes, as Markdown."""
        heads, *cells = self.cells()
        aligned = ["---"] * len(self.labels) + ["---:"] * (len(heads) - len(self.labels))
        table = [f"| {' | '.join(row)} |" for row in (heads, aligned, *cells)]
        return "\n".join([f"# {self.title}", "", *table, "", *(f"{line}\n" for line in self.told())])

    def cells(self) -> list[list[str]]:
        """The table as text, its heads first; columns of numbers follow those of :attr:`labels`.

        Where several methods are in it, each line has the paired difference of the first metric from the first method.
        """
        shown = self._shown()
        first = self._first()
        heads = [*self.labels, *(f"{metric.title}{_ARROWS[metric.better]}" for metric in shown)]
        table = [[*heads, *([] if first is None else [f"beyond {first}"]), "n"]]
        for line in self.lines:
            means = [line.means.get(metric.name) for metric in shown]
            rows = next((found.rows for found in means if found is not None), 0)
            cells = [_told(found, metric, rows) for found, metric in zip(means, shown, strict=True)]
            if first is not None:
                cells.append(self._beyond(line, first, rows))
            table.append([*line.labels.values(), *cells, str(rows)])
        return table

    def told(self) -> list[str]:
        """What stands below the table: what the numbers are, the notes, settings and machine."""
        made = ", ".join(f"{name} {value}" for name, value in self.made.items() if name not in ("date", "machine"))
        found = [mean for line in self.lines for mean in line.means.values() if mean.rows]
        few = "" if all(mean.items >= LEAST for mean in found) else f" No interval below {LEAST} items."
        first = self._first()
        differences = []
        if first is not None:
            metric = self._shown()[0]
            differences.append(
                f"beyond {first}: the difference of {metric.title} from {first} on the same things, pair by pair"
                f"{', in percentage points' if metric.percent else ''}."
            )
        return [
            f"{self.items:,} items; mean [{LEVEL:.0%} bootstrap interval over items; Wilson's where all are 0 or all "
            f"are 1]; n: numbers in the first mean of a line, and beside a mean of another number.{few}",
            *differences,
            *self._undefined(),
            *self.notes,
            f"Settings: {'; '.join(f'{name} {_readable(value)}' for name, value in self.settings.items())}.",
            f"{self.made['machine']}, {made}; {self.made['date']}.",
        ]

    def _shown(self) -> list[Metric]:
        return [metric for metric in self.metrics if any(metric.name in line.means for line in self.lines)]

    def _first(self) -> str | None:
        """The method that others are compared with: the first, if there are others."""
        methods = list(dict.fromkeys(line.labels["method"] for line in self.lines if "method" in line.labels))
        return methods[0] if len(methods) > 1 and self.rows and self._shown() else None

    def _beyond(self, line: Line, first: str, rows: int) -> str:
        labels = {name: text for name, text in line.labels.items() if name != "method"}
        metric = self._shown()[0]
        if line.labels["method"] == first or metric.name not in line.means:
            return ""
        found = self.beyond(line.labels["method"], metric.name, first, **labels)
        return "" if found is None or math.isnan(found.value) else _told(found, metric, rows, "+")

    def _undefined(self) -> list[str]:
        """Which lines lack numbers, and how many."""
        shown = self._shown()
        lines = []
        for line in self.lines:
            lacking = [
                f"{line.means[metric.name].undefined:,} of {metric.title}"
                for metric in shown
                if metric.name in line.means and line.means[metric.name].undefined
            ]
            if lacking:
                lines.append(f"{' / '.join(filter(None, line.labels.values()))}: {', '.join(lacking)}")
        if not lines:
            return []
        more = f"; and in {len(lines) - _TOLD:,} lines more" if len(lines) > _TOLD else ""
        return [f"Undefined (flat or unusable maps), and in no mean: {'; '.join(lines[:_TOLD])}{more}."]

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-able; what is not a number is None."""
        record: dict[str, Any] = asdict(replace(self, rows=()))
        del record["rows"]
        for line in record["lines"]:
            for found in line["means"].values():
                for name, value in found.items():
                    found[name] = None if isinstance(value, float) and math.isnan(value) else value
        return record

    def figure(self) -> Figure:
        """The means with their intervals; see :func:`mmexplain.render.means.means_figure`."""
        from mmexplain.render.means import means_figure

        return means_figure(self)

    def save(self, folder: Path) -> list[Path]:
        """Write ``result.json``, ``result.md`` and ``result.png`` into a folder.

        Raises:
            InputError: the system refused.
        """
        paths = [folder / f"result.{suffix}" for suffix in ("json", "md", "png")]
        with whole(paths[0]) as partial:
            partial.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        with whole(paths[1]) as partial:
            partial.write_text(self.markdown() + "\n", encoding="utf-8")
        with whole(paths[2]) as partial:
            self.figure().savefig(partial, format="png", dpi=130)
        return paths


_ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
_TOLD = 12
"""Lines that the note on undefined numbers goes into."""


def _told(found: Mean | None, metric: Metric, rows: int, sign: str = "") -> str:
    """A mean with its interval, and the number of its rows where that is not the line's."""
    if found is None or math.isnan(found.value):
        return "–"
    told = found.told(100, 1, sign) if metric.percent else found.told(sign=sign)
    return told if found.rows == rows else f"{told} (n {found.rows})"


def _ordered(lines: list[Line], asked: Sequence[str]) -> list[Line]:
    groups: dict[tuple[str, ...], int] = {}
    methods = {name: place for place, name in enumerate(dict.fromkeys(asked))}
    places = []
    for line in lines:
        group = tuple(text for name, text in line.labels.items() if name != "method")
        method = line.labels.get("method", "")
        # A method that reads several layers has a line for each: "gradcam at layer4".
        base = method if method in methods else method.split(" at ")[0]
        places.append((groups.setdefault(group, len(groups)), methods.get(base, len(methods))))
    return [lines[number] for number in sorted(range(len(lines)), key=lambda number: places[number])]


def _readable(value: Any) -> str:
    if value is None or value == "default":
        return "the model's own"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
