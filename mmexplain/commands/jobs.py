"""``run``: many inputs in, a store out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmexplain.commands.options import (
    device_option,
    examples,
    json_option,
    method_option,
    model_option,
    precision_option,
    score_option,
)
from mmexplain.commands.progress import counting, working
from mmexplain.commands.stopping import Stopped
from mmexplain.errors import InputError

if TYPE_CHECKING:
    from mmexplain.jobs.run import Summary

TASKS = ("caption", "vqa", "classify", "action")
GOES_ON = "the parts that are whole stay, and the same command with --resume goes on"


@click.command(
    short_help="Explain many inputs into a store that resumes.",
    epilog=examples(
        "mmexplain run caption photos/ --out store/",
        "mmexplain run caption photos/ --out store/ --resume",
        "mmexplain run vqa photos/ --question 'what is the dog doing' --out store/",
        "mmexplain run vqa questions.csv --out store/ --method gradcam --method layercam --limit 1000",
        "mmexplain run vqa v2_OpenEnded_mscoco_val2014_questions.json --images val2014/ --out store/",
        "mmexplain run classify 'shards/{000..127}.tar' --engine ray --workers 8 --out store/",
        "mmexplain run action 'clips/**/*.mp4' --out store/ --overlays",
    )
    + "\n\n\b\nINPUT is one of:\n"
    "  a folder or a glob of photos (of videos for 'action')\n"
    "  JSONL, CSV, TSV or Parquet with columns image (or video), caption, question, answers, id\n"
    "  COCO caption JSON, VQA v2 questions JSON\n"
    "  WebDataset tars: one, a glob, or shards/{000..127}.tar\n"
    "Any of them may be a URL that fsspec opens.",
)
@click.argument("task", type=click.Choice(TASKS))
@click.argument("source", metavar="INPUT")
@click.option("--out", metavar="STORE", required=True, help="Folder or URL of the store, which is made.")
@model_option
@method_option
@click.option(
    "--layer",
    "layers",
    metavar="NAME",
    multiple=True,
    help="Repeatable; a dotted name or a glob.  [default: the last grid]",
)
@click.option(
    "--target",
    "targets",
    metavar="LABEL",
    multiple=True,
    help="An answer, a class or an action that every input is explained for. Repeatable.",
)
@click.option(
    "--top", metavar="K", type=click.IntRange(min=1), help="The model's K likeliest answers, classes or actions."
)
@click.option("--beam", metavar="N", type=click.IntRange(min=1), help="Width of a captioner's search.")
@click.option("--whole", is_flag=True, help="Explain captions as a whole too.")
@click.option("--prompt", metavar="TEXT", help="What a captioner of transformers is asked.")
@score_option
@click.option("--text", metavar="NAME", multiple=True, help="Explain the words that were read too. Repeatable.")
@click.option("--question", metavar="TEXT", help="What is asked of photos that come without a question.")
@click.option("--generate", is_flag=True, help="Leave out the captions that INPUT has, and let the model speak.")
@click.option("--images", metavar="DIR", help="Where relative paths in a table or JSON begin.  [default: its folder]")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first N inputs only.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option(
    "--batch",
    metavar="N|auto",
    default="auto",
    show_default=True,
    help="Inputs at a time; auto tries which is fastest.",
)
@click.option(
    "--memory",
    metavar="GIB",
    type=click.FloatRange(min=0, min_open=True),
    help="What a batch may take.  [default: half of what is free]",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    help="local: threads that read. ray: copies of the model.  [default: one for each core; one for each GPU]",
)
@click.option(
    "--shard", metavar="N", type=click.IntRange(min=1), help="Inputs whose rows make one file.  [default: 32 to 1,024]"
)
@click.option("--overlays", is_flag=True, help="Write every map as a picture too, into STORE/overlays/.")
@click.option("--seed", metavar="N", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@device_option
@precision_option
@click.option("--resume", is_flag=True, help="Go on with a store that was not finished; begin one where there is none.")
@json_option
def run(task: str, source: str, out: str, as_json: bool, **options: Any) -> None:
    """Explain every input of INPUT into the columnar store STORE.

    What is wrong with an input (missing, damaged, without a question) becomes a row that says so. The exit code is 0
    only if every input is accounted for.
    """
    batch = _batch(options.pop("batch"))
    memory = options.pop("memory")
    with working("starting"):
        try:
            from mmexplain.jobs.job import OPTIONS, Job
            from mmexplain.jobs.run import run as run_job
        except ModuleNotFoundError as error:
            raise InputError(f"'run' needs {error.name}: pip install 'mmexplain[jobs]'") from None
        from mmexplain.memory import keep_freed
        from mmexplain.tasks.registry import DEFAULTS

        keep_freed()
        told = {name: options.pop(name) for name in ("targets", "top", "beam", "whole", "prompt", "score", "text")}
        given = {name: value for name, value in told.items() if value not in (None, (), False)}
        for name in given:
            if name not in OPTIONS[task]:
                raise InputError(f"--{'target' if name == 'targets' else name} is not for task {task!r}")
        if "text" in given and "all" in given["text"]:
            given["text"] = "all"
        job = Job(
            task,
            options.pop("model") or DEFAULTS[task],
            methods=options.pop("methods"),
            layers=options.pop("layers"),
            options={name: list(value) if isinstance(value, tuple) else value for name, value in given.items()},
            seed=options.pop("seed"),
            device=options.pop("device"),
            precision=options.pop("precision"),
            overlays=options.pop("overlays"),
        )
    try:
        with counting("explaining") as progress:
            found = run_job(
                job,
                source,
                out,
                batch=batch,
                memory=None if memory is None else int(memory * 2**30),
                progress=progress,
                **options,
            )
    except KeyboardInterrupt:
        raise Stopped(GOES_ON) from None
    if as_json:
        click.echo(json.dumps(_record(found), indent=2, allow_nan=False))
    else:
        _show(found)


def _batch(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch {text!r}: give a number from 1, or auto")
    return int(text)


def _record(found: Summary) -> dict[str, Any]:
    failed = {
        name: {"inputs": count, "first": item, "error": text} for name, (count, item, text) in found.failed.items()
    }
    return {
        "store": found.store,
        "inputs": found.inputs,
        "explained": found.explained,
        "failed": failed,
        "rows": found.rows,
        "bytes": found.size,
        "done": found.done,
        "seconds": round(found.seconds, 3),
    }


def _show(found: Summary) -> None:
    from rich.text import Text

    from mmexplain.commands.tables import console

    screen = console()
    size = f"{found.size / 1e9:,.2f} GB" if found.size >= 1e9 else f"{found.size / 1e6:,.1f} MB"
    screen.print(Text(f"{found.explained:,} of {found.inputs:,} inputs explained: {found.rows:,} rows, {size}"))
    if found.done and found.seconds:
        screen.print(
            Text(f"{found.done:,} in {found.seconds:,.1f} s: {found.done / found.seconds:,.1f} a second", style="dim")
        )
    for name, (count, item, text) in found.failed.items():
        screen.print(Text(f"{count:,} failed ({name}), the first is {item!r}: {text}"))
    screen.print(Text(f"wrote {Path(found.store) if '://' not in found.store else found.store}"))
