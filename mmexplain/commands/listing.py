"""``methods``, ``models`` and ``layers``: what there is to choose from."""

from __future__ import annotations

import math
from typing import Any

import click

from mmexplain.commands.options import device_option, examples
from mmexplain.commands.progress import working
from mmexplain.errors import ModelError


@click.command(
    short_help="List the methods.",
    epilog=examples("mmexplain methods", 'mmexplain classify photo.jpg --method "occlusion(patch=15)"'),
)
def methods() -> None:
    """List the methods: what each needs, what it costs for K targets, where it was published and which parameters it
    has; first those that make maps (--method), then those that tell which words of a text counted (--text).

    Parameters are written in parentheses, in quotes for the shell: --method "occlusion(patch=15)".
    """
    from mmexplain.commands.tables import console, plain_table
    from mmexplain.methods.registry import DEFAULT_METHOD, METHODS
    from mmexplain.methods.text import TEXT_METHODS

    table = plain_table("method", "what it shows", whole=("method",))
    for method in METHODS.values():
        default = " (default)" if method.name == DEFAULT_METHOD else ""
        table.add_row(method.name, method.summary + default)
        table.add_row("", f"needs {method.needs}; {method.cost}; {method.paper}", style="dim")
        if method.parameters:
            written = ", ".join(f"{name}={value!r}" for name, value in method.parameters.items())
            table.add_row("", f"parameters: {written}", style="dim")
    console().print(table)
    console().print()
    table = plain_table("text method", "what it shows", "formula", "paper", whole=("text method",))
    for text_method in TEXT_METHODS.values():
        table.add_row(text_method.name, text_method.summary, text_method.formula, text_method.paper)
    console().print(table)


@click.group(
    short_help="List the models, or pull one.",
    invoke_without_command=True,
    epilog=examples(
        "mmexplain models",
        "mmexplain models pull i3d-kinetics400",
        "mmexplain classify photo.jpg --model torchvision:resnet50",
    ),
)
@click.pass_context
def models(context: click.Context) -> None:
    """List the models that --model takes; 'pull' fetches one that does not come with the package."""
    if context.invoked_subcommand is not None:
        return
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


@models.command(short_help="List what a model can say.", epilog=examples("mmexplain models labels deeper-lstm-norm-i"))
@click.argument("model", metavar="ID|PATH")
def labels(model: str) -> None:
    """List the classes, answers or actions of a model, one a line: what --target and --answer take."""
    with working("loading the model"):
        from mmexplain.tasks.registry import load

        found = getattr(load(model, device="cpu"), "labels", None)
    if found is None:
        raise ModelError(f"{model!r} has no list of what it can say: a captioner says words, others may have no names")
    for label in found:
        click.echo(label)


@models.command(short_help="Fetch the weights of a model.", epilog=examples("mmexplain models pull i3d-kinetics400"))
@click.argument("model", metavar="ID")
def pull(model: str) -> None:
    """Fetch the weights of the model ID into the user's cache, once; a second time does nothing."""
    from mmexplain.tasks.registry import pull as pull_weights

    with working(f"fetching {model}") as say:
        path = pull_weights(model, say)
    click.echo(f"{model}: {path}")


@click.command(
    short_help="List the layers of a model.",
    epilog=examples("mmexplain layers --model efficientnet-lite0", "mmexplain layers --model torchvision:vgg16 --all"),
)
@click.option("--model", metavar="ID|PATH", required=True, help="Model, see 'mmexplain models'.")
@click.option("--all", "everything", is_flag=True, help="List layers whose output is no map, too.")
@device_option
def layers(model: str, everything: bool, device: str) -> None:
    """List the layers of a model that --layer takes, in the order in which they run.

    OUTPUT is the shape that the layer puts out for one photo or clip, MAP the grid of places that it is read as.
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
    """Every layer as it ran on an empty photo, or on an empty clip."""
    from PIL import Image

    from mmexplain.layer_analysis import EMPTY
    from mmexplain.taps import trace

    if hasattr(task, "frames"):
        empty = task.empty()
        return trace(task.model, lambda: task.encode({"clip": empty}), empty.shape[2:], task.reader)
    photo = Image.new("RGB", EMPTY, "grey")
    task = task.on(photo)
    batch = task.prepare(photo)
    (image,) = (value for value in batch.inputs.values() if value.is_floating_point() and value.ndim >= 4)
    return trace(task.model, lambda: task.trial(batch.inputs), image.shape[2:], batch.reader or task.reader)
