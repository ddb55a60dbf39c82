"""What an evaluation found: means with confidence intervals, as JSON, a Markdown table and a figure."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmexplain.evaluate.intervals import LEVEL, Mean, mean
from mmexplain.evaluate.protocol import Metric, Protocol, Row
from mmexplain.render.whole import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """One line of the table: what is averaged, and the means by metric."""

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
        lines: in the order in which their labels first came up.
        settings: of the protocol.
        notes: what a reader must know.
        items: how many were measured.
        seconds: wall-clock time of this run, which may have found rows of an earlier one.
        made: when, where and with what.
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
                    )
                    for metric in protocol.metrics
                    if (held := [(key, row) for key, row in group if metric.name in row])
                },
            )
            for labels, group in groups.items()
        ]
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
            lines,
            dict(protocol.settings()),
            list(protocol.notes()),
            items,
            round(seconds, 1),
            made,
        )

    def markdown(self) -> str:
        """The table with its notes, as Markdown."""
        heads, *cells = self.cells()
        aligned = ["---"] * len(self.labels) + ["---:"] * (len(heads) - len(self.labels))
        table = [f"| {' | '.join(row)} |" for row in (heads, aligned, *cells)]
        return "\n".join([f"# {self.title}", "", *table, "", *(f"{line}\n" for line in self.told())])

    def cells(self) -> list[list[str]]:
        """The table as text, its heads first; columns of numbers follow those of :attr:`labels`."""
        shown = [metric for metric in self.metrics if any(metric.name in line.means for line in self.lines)]
        heads = [*self.labels, *(f"{metric.title}{_ARROWS[metric.better]}" for metric in shown), "n"]
        return [heads] + [
            [
                *line.labels.values(),
                *(_told(line.means.get(metric.name), metric) for metric in shown),
                str(max((found.rows for found in line.means.values()), default=0)),
            ]
            for line in self.lines
        ]

    def told(self) -> list[str]:
        """What stands below the table: what the numbers are, the notes, settings and machine."""
        made = ", ".join(f"{name} {value}" for name, value in self.made.items() if name not in ("date", "machine"))
        return [
            f"{self.items:,} items; mean [{LEVEL:.0%} bootstrap interval over items]; n: numbers in the mean.",
            *self.notes,
            f"Settings: {', '.join(f'{name} {value}' for name, value in self.settings.items())}.",
            f"{self.made['machine']}, {made}; {self.made['date']}.",
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-able; what is not a number is None."""
        record: dict[str, Any] = asdict(self)
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


def _told(found: Mean | None, metric: Metric) -> str:
    if found is None or math.isnan(found.value):
        return "–"
    scale, digits = (100, 1) if metric.percent else (1, 3)
    value = f"{scale * found.value:.{digits}f}"
    if math.isnan(found.low):
        return value
    return f"{value} [{scale * found.low:.{digits}f}, {scale * found.high:.{digits}f}]"
