"""``methods``, ``models`` and ``layers``: what there is to choose from."""

from __future__ import annotations

import math
from typing import Any

import click

from mmexplain.commands.options import device_option, examples
from mmexplain.commands.progress import working

EMPTY = (640, 480)
"""Width and height of the photo on which layers are listed; most models crop it to a size of their own."""


@click.command(short_help="List the methods.", epilog=examples("mmexplain methods"))
def methods() -> None:
    """List the methods that make maps: what each needs, what it costs and where it was published."""
    from mmexplain.commands.tables import console, plain_table
    from mmexplain.methods.registry import DEFAULT_METHOD, METHODS

    table = plain_table("method", "what it shows", "needs", "paper", whole=("method",))
    for method in METHODS.values():
        default = " (default)" if method.name == DEFAULT_METHOD else ""
        table.add_row(method.name, method.summary + default, method.needs, method.paper)
    console().print(table)


@click.command(
    short_help="List the models.",
    epilog=examples("mmexplain models", "mmexplain classify photo.jpg --model torchvision:resnet50"),
)
def models() -> None:
    """List the models that --model takes."""
    from mmexplain.commands.tables import console, plain_table
    from mmexplain.tasks.registry import DEFAULTS
    from mmexplain.tasks.registry import models as known_models

    table = plain_table("model", "verb", "what it is", "MB", "licence", "", right=("MB",), whole=("model",))
    for info in known_models():
        notes = ["default"] if DEFAULTS[info.task] == info.id else []
        if not info.available:
            notes.append(f"not available: {info.hint}")
        size = "" if info.size is None else f"{info.size:.1f}"
        style = None if info.available else "dim"
        table.add_row(info.id, info.task, info.what, size, info.licence, "; ".join(notes), style=style)
    console().print(table)


@click.command(
    short_help="List the layers of a model.",
    epilog=examples("mmexplain layers --model efficientnet-lite0", "mmexplain layers --model torchvision:vgg16 --all"),
)
@click.option("--model", metavar="ID|PATH", required=True, help="Model, see 'mmexplain models'.")
@click.option("--all", "everything", is_flag=True, help="List layers whose output is no map, too.")
@device_option
def layers(model: str, everything: bool, device: str) -> None:
    """List the layers of a model that --layer takes, in the order in which they run.

    OUTPUT is the shape that the layer puts out for one photo, MAP the grid of places that it is read as.
    """
    with working("loading the model") as say:
        from mmexplain.commands.tables import console, plain_table
        from mmexplain.tasks.registry import load

        task = load(model, device=device)
        say("running it once")
        records, default = _trace(task), task.default_layer()

    counts: dict[str, int] = {}
    for record in records:
        counts[record.name] = counts.get(record.name, 0) + 1
    seen: dict[str, int] = {}
    table = plain_table("layer", "type", "output", "map", "", right=("output", "map"), whole=("layer",))
    for record in records:
        name = record.name
        if counts[name] > 1:
            seen[name] = seen.get(name, -1) + 1
            name = f"{name}@{seen[name]}"
        is_map = record.maps is not None and math.prod(record.maps[2:]) > 1
        if is_map or everything:
            grid = "×".join(map(str, record.maps[2:])) if is_map and record.maps else "–"
            note = "default" if default in (name, record.name) else ""
            style = None if is_map else "dim"
            table.add_row(name, record.kind, "×".join(map(str, record.shape[1:])), grid, note, style=style)
    console().print(table)


def _trace(task: Any) -> list[Any]:
    """Every layer as it ran on an empty photo."""
    from PIL import Image

    from mmexplain.taps import trace

    batch = task.prepare(Image.new("RGB", EMPTY, "grey"))
    (image,) = (value for value in batch.inputs.values() if value.is_floating_point() and value.ndim >= 4)
    return trace(task.model, lambda: task.encode(batch.inputs), image.shape[2:])
