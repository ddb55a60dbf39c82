"""Options that the verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

import click

from mmexplain.precisions import PRECISIONS

Command = Callable[..., Any]


def examples(*lines: str) -> str:
    """The end of a verb's help; click reflows all text but that after a line with a backspace."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


@dataclass(frozen=True)
class Request:
    """What every explaining verb is told.

    Attributes:
        source: path of the photo or the video.
        model: identifier or path; None for the verb's default.
        methods: names from the registry;
        layers: dotted names or globs; none for the model's default.
        device: as the user wrote it.
        out: file or folder to write to; None for the verb's default.
        as_json: print the record of the result instead of a table.
        precision: what the part of the model that sees the photo runs in.
        sanity: compare the maps with those of random weights.
    """

    source: str
    model: str | None
    methods: tuple[str, ...]
    layers: tuple[str, ...]
    device: str
    out: str | None
    as_json: bool
    precision: str
    sanity: bool = False


model_option = click.option(
    "--model", metavar="ID|PATH", help="Model, see 'mmexplain models'.  [default: the bundled one]"
)
device_option = click.option(
    "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."
)

precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="What the part of the model that sees the photo runs in; float32 leaves the model as it is. On a CPU with "
    "bfloat16 instructions, and on GPUs, bfloat16 is faster. Scores, gradients and maps are float32 either way.",
)

method_option = click.option(
    "--method",
    "methods",
    metavar="NAME",
    multiple=True,
    default=("gradcam",),
    show_default=True,
    help="Repeatable; see 'mmexplain methods'.",
)

score_option = click.option(
    "--score",
    type=click.Choice(["logit", "log-probability", "mean-log-probability"]),
    help="What is differentiated; of several tokens the sum, or their mean.  [default: logit; of models of "
    "transformers that write: log-probability]",
)


weight_option = click.option(
    "--weight",
    metavar="W",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="How much of the score of OTHER --versus takes away.",
)


def text_option(default: str) -> Callable[[Command], Command]:
    """``--text``, with what it is when it is left out."""
    return click.option(
        "--text",
        "text",
        metavar="NAME",
        multiple=True,
        default=(default,),
        show_default=True,
        help="How the words that the model read are explained: see 'mmexplain methods'; 'all', or 'none'. Repeatable.",
    )


def _options(source: str) -> tuple[Callable[[Command], Command], ...]:
    figure = "figure" if source == "IMAGE" else "film strip), FILE.mp4 or FILE.gif (overlay"
    return (
        click.argument("source", metavar=source),
        model_option,
        click.option(
            "--method",
            "methods",
            metavar="NAME",
            multiple=True,
            default=("gradcam",),
            show_default=True,
            help="Repeatable; see 'mmexplain methods'. With parameters in quotes: \"occlusion(patch=15)\"; a list of "
            'values makes a map for each: "occlusion(patch=[15, 35])".',
        ),
        click.option(
            "--layer",
            "layers",
            metavar="NAME",
            multiple=True,
            help="Repeatable; a dotted name or a glob, see 'mmexplain layers'.  [default: the model's last grid]",
        ),
        device_option,
        precision_option,
        click.option(
            "--out",
            metavar="FILE|DIR",
            help=f"FILE.html (report), FILE.png ({figure}), FILE.pdf or FILE.svg (figure for a paper), "
            "FILE.safetensors (raw maps), or a folder for report, pictures and raw maps.  "
            f"[default: {source}.mmexplain.html in the current folder; nothing with --json]",
        ),
        click.option(
            "--sanity",
            is_flag=True,
            help="Explain again with 3 draws of random weights, and say how alike the maps are (rank correlation; "
            "about 0 is chance): a map that stays the same tells little of the model. From .4 on part of it, from .7 "
            "on most of it is called so; these cut-offs are mmexplain's own. Takes about four times as long.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else."),
    )


def explaining_options(source: str) -> Callable[[Command], Command]:
    """Give a verb the shared options, handed over as one :class:`Request`.

    Args:
        source: what the verb explains, as its help calls it: IMAGE or VIDEO.
    """

    def decorator(command: Command) -> Command:
        @wraps(command)
        def wrapped(**options: Any) -> Any:
            request = Request(**{field.name: options.pop(field.name) for field in fields(Request)})
            return command(request, **options)

        decorated: Command = wrapped
        for option in reversed(_options(source)):
            decorated = option(decorated)
        return decorated

    return decorator


layer_option = click.option(
    "--layer", metavar="NAME", help="A dotted name, see 'mmexplain layers'.  [default: the model's last grid]"
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def seed_option(what: str) -> Callable[[Command], Command]:
    """``--seed``; ``what`` is drawn with it, as the help says it."""
    return click.option(
        "--seed", metavar="N", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help=what
    )
