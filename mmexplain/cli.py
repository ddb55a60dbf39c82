"""The command line: its verbs, and how they fail.

Only click is imported here. What a verb needs beyond that (torch takes seconds) is imported when the verb runs.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from mmexplain.commands.acting import action
from mmexplain.commands.answering import vqa
from mmexplain.commands.evaluating import evaluate
from mmexplain.commands.explaining import caption, classify
from mmexplain.commands.gallery import gallery
from mmexplain.commands.jobs import run
from mmexplain.commands.layering import layers_report
from mmexplain.commands.listing import layers, methods, models
from mmexplain.commands.options import examples
from mmexplain.commands.serving import app
from mmexplain.commands.showing import demo
from mmexplain.commands.stopping import Stopped
from mmexplain.commands.studies import study
from mmexplain.errors import MMExplainError

BAD_INPUT = 2
INTERRUPTED = 130


class OneLine(click.ClickException):
    """Something that the user can mend: one line on stderr, exit code 2."""

    exit_code = BAD_INPUT

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"mmexplain: {' '.join(self.message.split())}", file=file, err=file is None)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input and bad usage end in :class:`OneLine`; a bug keeps its traceback."""
    try:
        yield
    except MMExplainError as error:
        raise OneLine(str(error)) from None
    except NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "mmexplain"
        raise OneLine(f"{error.format_message().rstrip('.')} (see '{path} --help')") from None
    except MemoryError:
        raise OneLine("out of memory: close other programs, or use a smaller photo or model") from None


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Warnings and log lines of libraries stay away from the user's terminal, unless Python was told to show them."""
    if sys.warnoptions:
        yield
        return
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class Verbs(click.Group):
    """The group of verbs."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments before the verb."""
        with one_line_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        try:
            with one_line_errors(), quiet_libraries():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            told = f"; {stop}" if isinstance(stop, Stopped) else ""
            click.echo(f"mmexplain: interrupted{told}", err=True)
            ctx.exit(INTERRUPTED)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "mmexplain demo                  a report on sample photos",
        "mmexplain caption photo.jpg     a caption, and a map for each of its words",
        'mmexplain vqa photo.jpg "what is the dog doing"    an answer, and a map for each you name',
        "mmexplain classify photo.jpg    the likeliest classes, and a map for each",
        "mmexplain action clip.mp4       the likeliest actions, and maps over space and time",
        "mmexplain run caption photos/ --out store/    many inputs, into a table that resumes",
        "mmexplain gallery store/ --out report/       what a run has written, as pages to look through",
        "mmexplain app                   all of it in a browser",
        "mmexplain caption --help        every verb has help of its own",
    ),
)
@click.version_option(package_name="mmexplain", message="%(prog)s %(version)s")
def cli() -> None:
    """See where a vision-language model looked, for every thing it said."""


_EXPLAINING = (caption, vqa, classify, action, layers_report, run, gallery)
for _verb in (*_EXPLAINING, evaluate, study, methods, models, layers, demo, app):
    cli.add_command(_verb)


def main() -> None:
    """Entry point of the ``mmexplain`` program."""
    # Read when torch is imported: its C++ code would write warnings past Python.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="mmexplain")


if __name__ == "__main__":
    main()
