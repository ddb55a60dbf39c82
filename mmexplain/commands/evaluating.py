"""``evaluate``: a published protocol over data, for one model and several methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import (
    device_option,
    examples,
    json_option,
    layer_option,
    method_option,
    precision_option,
    seed_option,
)
from mmexplain.commands.progress import counting, working
from mmexplain.commands.protocol_options import chosen
from mmexplain.commands.stopping import Stopped
from mmexplain.errors import InputError
from mmexplain.evaluate.registry import LAYOUTS, PROTOCOLS, get, known

if TYPE_CHECKING:
    from mmexplain.evaluate.result import Result

FILES = ("result.json", "result.md", "result.png")
GOES_ON = "the same command goes on where it stopped"
LOST = "what was measured is lost: with --out the same command would go on"


def _listed() -> str:
    """The protocols with their data, a line each, for the help."""
    protocols = [f"  {name:<20} {held.what:<36} {held.data}" for name, held in PROTOCOLS.items()]
    layouts = [f"  {name:<10} {text}" for name, text in LAYOUTS.items()]
    return "\n".join(["\b", "Protocols, and their data:", *protocols, "", "\b", "Data:", *layouts, "", ""])


@click.command(
    short_help="Measure methods by a published protocol.",
    epilog=_listed()
    + examples(
        "mmexplain evaluate pointing --data VOC2007/ImageSets/Main/test.txt --model torchvision:resnet50 --out pg/",
        "mmexplain evaluate localisation --data ILSVRC/val/ --model efficientnet-lite0 --method cam --out loc/",
        "mmexplain evaluate pointing --data coco/ --model efficientnet-lite0 --limit 100 --set tolerance=0 --json",
        "mmexplain evaluate faithfulness --data photos/ --model efficientnet-lite0 --set metrics=drop,road",
        "mmexplain evaluate data-randomisation --data photos/ --model true.safetensors --against permuted.safetensors",
    ),
)
@click.argument("protocol", metavar="PROTOCOL")
@click.option("--data", metavar="PATH", required=True, help="Folder or file of data, see below.")
@click.option("--model", metavar="ID|PATH", required=True, help="Model, see 'mmexplain models'.")
@click.option(
    "--against", metavar="ID|PATH", help="For 'data-randomisation': the same model, trained on permuted labels."
)
@method_option
@layer_option
@seed_option("Of whatever is drawn at random.")
@click.option(
    "--set",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the protocol, lists with commas: metrics=drop,road. Repeatable; an unknown name gets the list "
    "of all with their defaults.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="The first N items only, in the data's order; with the same --out a larger N measures the rest.",
)
@device_option
@precision_option
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for result.json, result.md and result.png, and for what is measured as it comes in: "
    "an interrupted evaluation goes on there.",
)
@json_option
def evaluate(
    protocol: str,
    data: str,
    model: str,
    against: str | None,
    methods: tuple[str, ...],
    layer: str | None,
    seed: int,
    options: tuple[str, ...],
    limit: int | None,
    device: str,
    precision: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Measure how good maps are by PROTOCOL: a mean with a 95 % bootstrap interval for each method.

    Prints the table; with --out it is written too, as JSON, Markdown and a figure.
    """
    known(protocol)
    existing(data)
    folder = writable(out, "an evaluation")
    with working("starting") as say:
        kind: Any = get(protocol)
        if kind.compares != (against is not None):
            raise InputError(
                f"protocol {protocol!r} compares two models: name the other with --against"
                if kind.compares
                else f"protocol {protocol!r} measures one model: --against is for those that compare two"
            )
        from mmexplain.memory import keep_freed
        from mmexplain.methods.registry import select

        keep_freed()
        names = [method.name for method in select(methods)]
        others = chosen(kind, options)
        say("loading the model")
        from mmexplain.tasks.registry import load, task_of_several

        wanted = kind.wants(Path(data))
        task: Any = load(model, task_of_several(model, wanted), device)
        task.precision = precision
        if against is not None:
            others["against"] = load(against, task_of_several(against, task.name), device)
            others["against"].precision = precision
        say("reading the data")
        made = kind(task, Path(data), names, layer=layer, seed=seed, **others)
        if long := made.preparing():
            say(long)
            made.items()
    from mmexplain.evaluate.runner import run

    try:
        with counting(protocol) as progress:
            result = run(made, folder, limit, progress)
    except KeyboardInterrupt:
        raise Stopped(LOST if folder is None else GOES_ON) from None
    files = [] if folder is None else [str(folder / name) for name in FILES]
    if as_json:
        click.echo(json.dumps({**result.to_json(), "files": files}, indent=2, allow_nan=False))
    else:
        _show(result, files)


def _show(result: Result, files: list[str]) -> None:
    from rich.text import Text

    from mmexplain.commands.tables import console, plain_table

    screen = console()
    screen.print(Text(result.title, style="bold"))
    screen.print()
    heads, *rows = result.cells()
    table = plain_table(*heads, right=tuple(heads[len(result.labels) :]), whole=result.labels)
    for row in rows:
        table.add_row(*map(Text, row))
    screen.print(table)
    screen.print()
    for line in result.told():
        screen.print(Text(line, style="dim"))
    for file in files:
        screen.print(Text(f"wrote {file}"))
