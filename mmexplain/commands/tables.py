"""Results as text for people, on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation, MapKey

MISSED = 0.1
"""Share from which on a map that should add up is said to miss it."""

PIPED_WIDTH = 240
"""Columns where stdout is no terminal: nothing is cut off or wrapped."""


_FIRST = {"caption": "word", "classify": "class", "vqa": "answer", "action": "action"}


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
    clip = explanation.geometry.frames is not None
    first = _FIRST.get(explanation.task, "target")
    contrasts = any(target.kind == "contrast" for target in explanation.targets)
    with_score = contrasts or explanation.probabilities is None
    keys = list(explanation.maps)
    peaks = (
        ["peak (x, y), frame" if clip else "peak (x, y)"]
        if len(keys) == 1
        else [f"peak of {_title(explanation, key)}" for key in keys]
    )
    numbers = [*(["score"] if with_score else []), "probability", *peaks]
    table = plain_table(first, *numbers, right=tuple(numbers))
    for number, target in enumerate(explanation.targets):
        cells = [f"{float(explanation.scores[number]):.3f}"] if with_score else []
        cells.append("–" if explanation.probabilities is None else _share(float(explanation.probabilities[number])))
        for key in keys:
            peak = explanation.peak(number, key.layer, key.method)
            cells.append("–" if peak is None else ", ".join(map(str, peak)))
        # Function words are seldom about a place.
        table.add_row(Text(target.label), *map(Text, cells), style=None if target.content else "dim")
    screen.print(table)
    screen.print()
    for line in _misses(explanation):
        screen.print(Text(line, style="yellow"))
        screen.print()
    if explanation.task == "vqa" and explanation.text_maps:
        _show_words(explanation, screen)
    for file in files:
        screen.print(Text(f"wrote {file}"))
    keys = list(explanation.maps)
    made = f"{', '.join(explanation.methods)} at {', '.join(explanation.layers)}"
    if any(key.layer == key.method for key in keys):
        made = ", ".join(key.made for key in keys)
    screen.print(Text(f"{explanation.model}: {made}, {explanation.seconds:.2f} s", style="dim"))


def _misses(explanation: Explanation) -> list[str]:
    """A line for each method whose maps were to add up and do not."""
    lines = []
    for method in explanation.methods:
        errors = (explanation.provenance.get(method) or {}).get("completeness_error", [])
        if errors and max(errors) > MISSED:
            told = ", ".join(f"{error:.0%}" for error in errors)
            lines.append(f"{method}: the maps miss what they should add up to by {told}; take more steps")
    return lines


def _show_words(explanation: Explanation, screen: Console) -> None:
    """What each word of the question added to each answer, by the method that promises to add up if there is one; and
    the words that the model does not know."""
    method = explanation.text_methods[0]
    labels = [target.label for target in explanation.targets]
    table = plain_table(method, *labels, right=tuple(labels))
    values = explanation.text_maps[method].T.tolist()
    unknown = explanation.provenance.get("unknown_words", [])
    for word, added in zip(explanation.words, values, strict=True):
        name = f"{word} (unknown)" if word in unknown else word
        table.add_row(Text(name), *(Text("" if value != value else f"{value:+.2f}") for value in added))
    errors = explanation.text_errors.get(method)
    if errors is not None:
        # NaN stands for words that were not read.
        together = explanation.text_maps[method].nansum(1).tolist()
        table.add_row(Text("together"), *(f"{total:+.2f}" for total in together), style="dim")
        table.add_row(Text("off what the words changed by"), *(f"{e:.1%}" for e in errors.tolist()), style="dim")
    screen.print(table)
    screen.print()
    if unknown:
        screen.print(Text(f"the model does not know: {', '.join(unknown)}", style="yellow"))
        screen.print()


def _share(probability: float) -> str:
    return "<0.001" if 0 < probability < 0.0005 else f"{probability:.3f}"


def _title(explanation: Explanation, key: MapKey) -> str:
    return key.method if len(explanation.layers) == 1 or key.layer == key.method else f"{key.method} at {key.layer}"
