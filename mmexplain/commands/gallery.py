"""``gallery``: a look at what a run has written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mmexplain.commands.options import examples, json_option
from mmexplain.commands.progress import counting, working
from mmexplain.errors import InputError

if TYPE_CHECKING:
    from mmexplain.gallery.write import Written


@click.command(
    short_help="Look at a store: a gallery in HTML.",
    epilog=examples(
        "mmexplain gallery store/ --out report/",
        "mmexplain gallery store/ --where \"word = 'dog' and probability < .3\" --sort probability --out dogs/",
        'mmexplain gallery store/ --where content --sort "entropy desc" --limit 2000 --out spread/',
        "mmexplain gallery after/ --against before/ --out difference/",
    )
    + "\n\n\b\nBesides the columns of the store EXPRESSION may use\n"
    "  word, answer, class, action    the label of targets of that kind\n"
    "and nothing but one SQL expression: DuckDB evaluates it.",
)
@click.argument("store", metavar="STORE")
@click.option("--out", metavar="DIR", required=True, help="Folder of the gallery: new, empty, or an earlier gallery.")
@click.option("--where", metavar="EXPRESSION", help="Which maps.  [default: all]")
@click.option(
    "--sort", metavar="EXPRESSION", help='In which order; "entropy desc" for the largest first.  [default: the run\'s]'
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=500, show_default=True, help="Cards, at most."
)
@click.option("--per-page", metavar="N", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--against", metavar="STORE", help="Another run over the same inputs, compared with this one.")
@json_option
def gallery(store: str, out: str, against: str | None, as_json: bool, **options: Any) -> None:
    """Write a gallery of what 'mmexplain run' has written to STORE.

    Cards with every map over its photo, in pages that need no server; where the model looks for each word, on average;
    statistics; inputs that failed. Open DIR/index.html.
    """
    with working("reading"):
        try:
            from mmexplain.gallery import write_gallery
            from mmexplain.jobs.store import open_store
        except ModuleNotFoundError as error:
            raise InputError(f"'gallery' needs {error.name}: pip install 'mmexplain[jobs]'") from None
        opened = open_store(store)
        other = None if against is None else open_store(against)
    with counting("drawing") as progress, _one_thread():
        found = write_gallery(opened, out, against=other, progress=progress, **options)
    if as_json:
        click.echo(json.dumps(_record(found), indent=2, allow_nan=False))
    else:
        _show(found)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Maps are small: threads of torch would wait for each other longer than they work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _record(found: Written) -> dict[str, Any]:
    names = ("cards", "total", "pages", "inputs", "lost", "errors", "labels", "pairs")
    return {
        "gallery": str(found.path),
        **{name: getattr(found, name) for name in names},
        "seconds": round(found.seconds, 3),
    }


def _show(found: Written) -> None:
    from rich.text import Text

    from mmexplain.commands.tables import console
    from mmexplain.gallery.pages import plural

    screen = console()
    shown = f"{found.cards:,} of {found.total:,}" if found.cards < found.total else f"{found.total:,}"
    screen.print(Text(f"{shown} maps, of {plural(found.inputs, 'input')}, on {plural(found.pages, 'page')}"))
    if found.pairs is not None:
        screen.print(Text(f"{plural(found.pairs, 'pair')} compared"))
    if found.lost:
        screen.print(Text(f"{plural(found.lost, 'picture')} cannot be read any more", style="yellow"))
    if found.errors:
        screen.print(Text(f"{plural(found.errors, 'input')} could not be explained: see errors.html"))
    screen.print(Text(f"wrote {found.path}  ({found.seconds:,.1f} s)"))
