"""A study's outcome on stdout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mmexplain.studies import Study


def show(study: Study, files: Sequence[Path], as_json: bool) -> None:
    """Print tables, controls and files for people, or one JSON object."""
    if as_json:
        record = {**study.to_json(), "files": [str(file) for file in files]}
        click.echo(json.dumps(record, indent=2, allow_nan=False))
        return
    from rich.text import Text

    from mmexplain.commands.tables import console, plain_table

    screen = console()
    for table in study.tables:
        screen.print(Text(table.title, style="bold"))
        labels = tuple(table.heads[: table.labels])
        drawn = plain_table(*table.heads, right=tuple(table.heads[table.labels :]), whole=labels)
        for row in table.cells():
            drawn.add_row(*map(Text, row))
        screen.print(drawn)
        screen.print()
    for control in study.controls:
        word, style = ("control held", "green") if control.held else ("control failed", "bold red")
        screen.print(Text(f"{word}: ", style=style) + Text(f"{control.what} {control.found}", style="default"))
    screen.print()
    for line in study.told():
        screen.print(Text(line, style="dim"))
    for file in files:
        screen.print(Text(f"wrote {file}"))
