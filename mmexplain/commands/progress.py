"""Signs of life on stderr; nothing where stderr is no terminal, so that logs hold results and errors alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from time import monotonic

LINE_SECONDS = 60.0
"""Between the lines of :func:`counting` in a log."""


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with a text while something takes its time; yields a function that changes the text.

    Whatever libraries print meanwhile goes to stderr: stdout is for the result.
    """
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.console import Console

        with Console(stderr=True).status(f"{text} …") as status:
            yield lambda changed: status.update(f"{changed} …")


@contextmanager
def steps(total: int) -> Iterator[Callable[[str], None]]:
    """A bar over ``total`` steps; yields a function that is called with a text before each step.

    Where stderr is no terminal each step is a line of its own: such work takes long enough for a log to want it.
    """
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            begun = 0

            def note(text: str) -> None:
                nonlocal begun
                begun += 1
                print(f"[{begun}/{total}] {text}", file=sys.stderr, flush=True)

            yield note
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=total)
            begun = -1

            def advance(text: str) -> None:
                nonlocal begun
                begun += 1
                progress.update(task, completed=begun, description=text)

            yield advance


@contextmanager
def counting(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time that is left; yields a function that is told how many of how many are done.

    Where stderr is no terminal a line is written now and then, none in the first minute.
    """
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            said = monotonic()

            def note(done: int, total: int) -> None:
                nonlocal said
                if monotonic() - said >= LINE_SECONDS:
                    said = monotonic()
                    print(f"{text}: {done} of {total}", file=sys.stderr, flush=True)

            yield note
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            Remaining(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(text, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
