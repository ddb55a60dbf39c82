"""``layers-report``: one photo, and its maps at every stage or block of a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmexplain.commands.options import device_option, examples, json_option
from mmexplain.commands.output import Destination
from mmexplain.commands.progress import working
from mmexplain.errors import InputError

if TYPE_CHECKING:
    from mmexplain.layer_report import LayersReport

SUFFIXES = (".html", ".png", ".json", ".safetensors")
FOLDER = ("report.html", "layers.png", "layers.json", "explanation.safetensors")


@click.command(
    "layers-report",
    short_help="Compare the maps of a photo layer by layer.",
    epilog=examples(
        "mmexplain layers-report photo.jpg --model torchvision:resnet50",
        'mmexplain layers-report photo.jpg --model torchvision:resnet50 --target "tiger cat" --target boxer --blocks',
        "mmexplain layers-report photo.jpg --model show-attend-tell --caption 'a dog and a cat' --target dog",
        "mmexplain layers-report photo.jpg --model deeper-lstm-norm-i --question 'what is it' --target dog --json",
    ),
)
@click.argument("source", metavar="IMAGE")
@click.option("--model", metavar="ID|PATH", required=True, help="Model of any task, see 'mmexplain models'.")
@click.option(
    "--target",
    "targets",
    metavar="NAME",
    multiple=True,
    help="A class; a word of the caption; an answer. Repeatable.  [default: the two likeliest; every word]",
)
@click.option("--question", metavar="TEXT", help="What a VQA model is asked.")
@click.option("--caption", metavar="TEXT", help="What a captioner is taken to say.  [default: its own caption]")
@click.option("--blocks", is_flag=True, help="Every block, not only the last of each stage.")
@click.option(
    "--layer", "layers", metavar="NAME", multiple=True, help="These layers instead: dotted names or globs. Repeatable."
)
@click.option("--method", metavar="NAME", default="gradcam", show_default=True, help="One that makes a map at a layer.")
@device_option
@click.option(
    "--out",
    metavar="FILE|DIR",
    help="FILE.html, FILE.png (figure), FILE.json (numbers), FILE.safetensors (raw maps), or a folder for all.  "
    "[default: IMAGE.layers.png in the current folder; nothing with --json]",
)
@json_option
def layers_report(
    source: str,
    model: str,
    targets: tuple[str, ...],
    question: str | None,
    caption: str | None,
    blocks: bool,
    layers: tuple[str, ...],
    method: str,
    device: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Map IMAGE at the end of every stage of a network, or at every block, and tell how the maps change with depth.

    Finds the layers by itself: blocks are what is repeated, a stage ends where the resolution drops. Prints a row for
    each layer and writes a figure, target by layer, to IMAGE.layers.png in the current folder, or to --out.
    """
    if blocks and layers:
        raise InputError("--blocks and --layer exclude each other: take every block, or name the layers")
    if out is None and not as_json:
        out = f"{Path(source).stem or 'photo'}.layers.png"
    destination = None if out is None else Destination(out, source, suffixes=SUFFIXES)
    with working("starting") as say:
        from mmexplain.io import load_image
        from mmexplain.layer_analysis import layers_report as analyse
        from mmexplain.methods.registry import get

        say("reading the photo")
        photo = load_image(source)
        get(method)
        say("loading the model")
        from mmexplain.tasks.registry import load, task_of_several

        task: Any = load(model, task_of_several(model, None if question is None else "vqa"), device)
        options = _options(task, model, question, caption)
        say("explaining")
        report = analyse(
            task, photo, targets or None, method=method, layers=layers or ("blocks" if blocks else None), **options
        )
    files: list[str] = []
    try:
        if destination is not None:
            with working("writing"):
                if destination.is_folder:
                    for name in FOLDER:
                        destination.put(name, report.save, files)
                else:
                    destination.keep(report.save, files)
    finally:  # what was computed is printed, even if it could not be written
        if as_json:
            click.echo(json.dumps(report.to_json(files), indent=2, allow_nan=False))
        else:
            _show(report, files)


def _options(task: Any, model: str, question: str | None, caption: str | None) -> dict[str, Any]:
    """What the task's ``explain`` is told of the text."""
    if task.name == "action":
        raise InputError(f"{model!r} explains videos; layers-report takes photos (mmexplain.layers_report takes both)")
    if question is not None and task.name != "vqa":
        raise InputError(f"--question is for VQA models; {model!r} is not one")
    if caption is not None and task.name != "caption":
        raise InputError(f"--caption is for captioners; {model!r} is not one")
    if task.name == "vqa":
        if question is None:
            raise InputError(f"{model!r} answers questions: ask one with --question")
        return {"question": question}
    return {} if caption is None else {"caption": caption}


def _show(report: LayersReport, files: list[str]) -> None:
    from rich.text import Text

    from mmexplain.commands.tables import console, plain_table
    from mmexplain.render.layers import two

    screen = console()
    explanation = report.explanation
    if explanation.text is not None:
        screen.print(Text(explanation.text, style="bold"))
        screen.print()
    several = len(explanation) > 1
    labels = [target.label for target in explanation.targets]
    numbers = ["map", *(f"ρ before: {label}" for label in labels), *(f"ρ last: {label}" for label in labels)]
    numbers += ["told apart", "1 - ρ of targets"] if several else []
    table = plain_table("layer", *numbers, right=tuple(numbers), whole=("layer",))
    for layer in report.layers:
        if layer.downsampled:
            table.add_section()
        cells = [("↓ " if layer.downsampled else "") + "×".join(map(str, layer.grid))]
        for values in (layer.neighbour, layer.last):
            cells += ["flat" if flat else two(value) for flat, value in zip(layer.flat, values, strict=True)]
        cells += [two(layer.discrimination), two(layer.difference)] if several else []
        table.add_row(Text(layer.name), *map(Text, cells))
    screen.print(table)
    screen.print()
    for line in report.summary():
        screen.print(Text(line))
    screen.print()
    for file in files:
        screen.print(Text(f"wrote {file}"))
    screen.print(Text(f"{explanation.model}: {report.method}, {explanation.seconds:.2f} s", style="dim"))
