"""Results as text for people, on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation, MapKey

PIPED_WIDTH = 240
"""Columns where stdout is no terminal: nothing is cut off or wrapped."""


def console() -> Console:
    """The place that results are printed to."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def plain_table(*columns: str, right: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Table:
    """A table without frames; the columns in ``right`` are numbers, those in ``whole`` are never broken."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column in whole)
    return table


def show_explanation(explanation: Explanation, files: list[str]) -> None:
    """The text, a row for each target, and where the maps were written."""
    screen = console()
    if explanation.text is not None:
        screen.print(Text(explanation.text, style="bold"))
        screen.print()
    first = "word" if explanation.text is not None else "class"
    contrasts = any(target.kind == "contrast" for target in explanation.targets)
    with_score = contrasts or explanation.probabilities is None
    keys = list(explanation.maps)
    peaks = ["peak (x, y)"] if len(keys) == 1 else [f"peak of {_title(explanation, key)}" for key in keys]
    numbers = [*(["score"] if with_score else []), "probability", *peaks]
    table = plain_table(first, *numbers, right=tuple(numbers))
    for number, target in enumerate(explanation.targets):
        cells = [f"{float(explanation.scores[number]):.3f}"] if with_score else []
        cells.append("–" if explanation.probabilities is None else f"{float(explanation.probabilities[number]):.3f}")
        for key in keys:
            peak = explanation.peak(number, key.layer, key.method)
            cells.append("–" if peak is None else f"{peak[0]}, {peak[1]}")
        # Function words are seldom about a place.
        table.add_row(Text(target.label), *map(Text, cells), style=None if target.content else "dim")
    screen.print(table)
    screen.print()
    for file in files:
        screen.print(Text(f"wrote {file}"))
    made = f"{', '.join(explanation.methods)} at {', '.join(explanation.layers)}"
    screen.print(Text(f"{explanation.model}: {made}, {explanation.seconds:.2f} s", style="dim"))


def _title(explanation: Explanation, key: MapKey) -> str:
    return key.method if len(explanation.layers) == 1 or key.layer == key.method else f"{key.method} at {key.layer}"
