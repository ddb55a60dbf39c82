"""``app``: all of it in a browser."""

from __future__ import annotations

import signal
import sys
import threading
import webbrowser
from contextlib import ExitStack

import click

from mmexplain.commands.options import device_option, examples
from mmexplain.commands.progress import working
from mmexplain.commands.showing import has_display


@click.command(
    short_help="Open the app in a browser.",
    epilog=examples(
        "mmexplain app",
        "mmexplain app --model hf:Salesforce/blip-image-captioning-base --device cuda",
        "mmexplain app --host 0.0.0.0 --port 8000",
    ),
)
@click.option(
    "--host",
    metavar="NAME",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0 for everybody.",
)
@click.option("--port", metavar="N", type=click.IntRange(1, 65535), help="[default: a free one from 7860 on]")
@click.option(
    "--model",
    "models",
    metavar="[TASK=]ID|PATH",
    multiple=True,
    help="A model besides the bundled ones; TASK is caption, vqa, classify or action, for one that serves several. "
    "Repeatable.",
)
@device_option
@click.option("--share", is_flag=True, help="Open a public address by Gradio's service too.")
def app(host: str, port: int | None, models: tuple[str, ...], device: str, share: bool) -> None:
    """Serve captions, questions, classes, actions and layers to a browser, with sample photos to begin with, and to
    programs: the page's link "Use via API" says how.

    Only this machine can reach it, unless --host says otherwise. Uploads are deleted after an hour, and when it ends
    (Ctrl-C).
    """
    # A service manager ends it as Ctrl-C does, and uploads go in either case.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as serving:
        with working("loading the models"):
            from mmexplain.app.server import running

            address = serving.enter_context(running(models, host, port, device, share))
        click.echo(f"mmexplain is at {address} (Ctrl-C ends it)")
        if sys.stdout.isatty() and has_display():
            webbrowser.open(address)
        threading.Event().wait()
