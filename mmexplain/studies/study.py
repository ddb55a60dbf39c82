"""What a study found: tables, whether its controls held, and how it was made."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmexplain.evaluate.intervals import LEVEL, Mean
from mmexplain.render.whole import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | Mean | None
"""What stands in a table: a text, a number, a mean with its interval, or nothing."""

MACHINE: dict[str, Callable[[], str]] = {
    "date": lambda: datetime.now(UTC).date().isoformat(),
    "machine": lambda: f"{platform.machine()}, {torch.get_num_threads()} threads",
    "mmexplain": lambda: version("mmexplain"),
    "torch": lambda: torch.__version__,
}


@dataclass(frozen=True)
class Table:
    """One table of a study.

    Attributes:
        title: what it is of.
        heads: names of the columns; the first ``labels`` of them hold texts.
        rows: cells, as many a row as there are heads.
        labels: columns of texts.
        percent: heads of the columns whose numbers are shares, told as percentages.
        digits: behind the decimal point, of all other numbers that are not whole.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    labels: int = 1
    percent: Sequence[str] = ()
    digits: int = 2

    def __post_init__(self) -> None:
        """Every row is as long as the heads."""
        if any(len(row) != len(self.heads) for row in self.rows):
            raise ValueError(f"{self.title}: a row of another length than {len(self.heads)}")

    def cells(self) -> list[list[str]]:
        """The rows as text, for people."""
        return [
            [self._told(cell, head in self.percent) for head, cell in zip(self.heads, row, strict=True)]
            for row in self.rows
        ]

    def _told(self, cell: Cell, percent: bool) -> str:
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return "–"
        if isinstance(cell, Mean):
            return cell.told(100, 1) if percent else cell.told(digits=self.digits)
        if isinstance(cell, float):
            return f"{100 * cell:.1f}" if percent else f"{cell:.{self.digits}f}"
        return f"{cell:,}" if isinstance(cell, int) else cell


@dataclass(frozen=True)
class Control:
    """Something that would have come out otherwise if the finding were an artefact.

    Attributes:
        what: what was expected, in a sentence.
        found: what came out, in a few words and numbers.
        held: whether it came out as expected.
    """

    what: str
    found: str
    held: bool


@dataclass(frozen=True)
class Study:
    """The outcome of a study.

    Attributes:
        name: of the study, as its verb is called.
        title: in words.
        tables: what was found.
        controls: what could have failed, and whether it did.
        settings: what it was made with, JSON-able.
        notes: what a reader must know, a sentence or two each.
        items: photos, or whatever was studied.
        seconds: wall-clock time.
        details: further numbers for ``study.json``, JSON-able.
        made: when, where and with what.
    """

    name: str
    title: str
    tables: Sequence[Table]
    controls: Sequence[Control]
    settings: dict[str, Any]
    notes: Sequence[str]
    items: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=lambda: {name: told() for name, told in MACHINE.items()})

    @property
    def held(self) -> bool:
        """Whether all controls came out as expected."""
        return all(control.held for control in self.controls)

    def told(self) -> list[str]:
        """What stands below the tables."""
        settings = "; ".join(f"{name} {_readable(value)}" for name, value in self.settings.items())
        made = ", ".join(f"{name} {value}" for name, value in self.made.items() if name not in ("date", "machine"))
        intervals = any(isinstance(cell, Mean) for table in self.tables for row in table.rows for cell in row)
        return [
            f"{self.items:,} items" + (f"; mean [{LEVEL:.0%} bootstrap interval over items]." if intervals else "."),
            *self.notes,
            *([f"Settings: {settings}."] if settings else []),
            f"{self.made['machine']}, {made}; {self.made['date']}.",
        ]

    def markdown(self) -> str:
        """Tables, controls and notes as Markdown."""
        lines = [f"# {self.title}", ""]
        for table in self.tables:
            aligned = ["---"] * table.labels + ["---:"] * (len(table.heads) - table.labels)
            cells = [[_escaped(cell) for cell in row] for row in (list(table.heads), *table.cells())]
            rows = (cells[0], aligned, *cells[1:])
            lines += [f"## {table.title}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
        lines += ["## Controls", ""]
        lines += [f"- **{_word(control)}**: {control.what} {control.found}" for control in self.controls]
        return "\n".join([*lines, "", *(f"{line}\n" for line in self.told())])

    def to_json(self) -> dict[str, Any]:
        """All of it, JSON-able; what is not a number is None."""
        record: dict[str, Any] = _plain(asdict(self))
        return record | {"held": self.held}

    def save(self, folder: Path, figure: Figure | None = None) -> list[Path]:
        """Write ``study.json``, ``study.md`` and, where there is a figure, ``study.png`` into a folder.

        Raises:
            InputError: the system refused.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "study.json", folder / "study.md"]
        with whole(paths[0]) as partial:
            partial.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        with whole(paths[1]) as partial:
            partial.write_text(self.markdown() + "\n", encoding="utf-8")
        if figure is not None:
            paths.append(folder / "study.png")
            with whole(paths[2]) as partial:
                figure.savefig(partial, format="png", dpi=130)
        return paths


def _word(control: Control) -> str:
    return "held" if control.held else "failed"


def _escaped(cell: str) -> str:
    """A cell that ends no column and is no HTML: names of files and of people are strangers' words."""
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")


def _readable(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "none" if value is None else str(value)


def _plain(value: Any) -> Any:
    """Without what JSON has no word for."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
