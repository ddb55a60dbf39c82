"""``caption`` and ``classify``: a photo in, maps out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmexplain.commands.options import Request, examples, explaining_options
from mmexplain.commands.output import Destination
from mmexplain.commands.progress import working
from mmexplain.errors import InputError

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation

TOP = 3
"""Classes that ``classify`` explains when it is told neither which nor how many."""


@click.command(
    short_help="Caption a photo and show where each word came from.",
    epilog=examples(
        "mmexplain caption photo.jpg",
        "mmexplain caption photo.jpg --out maps/ --method gradcam --method attention",
        'mmexplain caption photo.jpg --caption "a dog catches a red frisbee" --words "dog,a red frisbee"',
        "mmexplain caption photo.jpg --versus dog cat",
        "mmexplain caption photo.jpg --json | jq .text",
    ),
)
@click.option("--caption", "text", metavar="TEXT", help="Explain this caption instead of the model's own.")
@click.option("--words", metavar="A,B,…", help="Only these words and phrases of the caption, separated by commas.")
@click.option(
    "--versus",
    nargs=2,
    multiple=True,
    metavar="WORD OTHER",
    help="Explain too why the caption has WORD rather than OTHER. Repeatable.",
)
@click.option(
    "--score",
    type=click.Choice(["logit", "log-probability"]),
    default="logit",
    show_default=True,
    help="What is differentiated for a word; a whole caption always is by its log-probability.",
)
@click.option("--whole", is_flag=True, help="Explain the caption as a whole too.")
@click.option(
    "--beam", metavar="N", type=click.IntRange(min=1), default=3, show_default=True, help="Width of the search."
)
@explaining_options
def caption(
    request: Request,
    text: str | None,
    words: str | None,
    versus: tuple[tuple[str, str], ...],
    score: str,
    whole: bool,
    beam: int,
) -> None:
    """Caption the photo IMAGE and map where in it every word came from.

    Prints the caption and writes a report to IMAGE.mmexplain.html in the current folder, or to --out.
    """
    if text is not None and not text.strip():
        raise InputError(f"the caption {text!r} is empty; write one, or leave --caption out to have one made")
    wanted = None if words is None else [word.strip() for word in words.split(",") if word.strip()]
    if wanted == []:
        raise InputError(f"--words {words!r} names no word; write them with commas between, as in dog,frisbee")
    against = _contrasts(versus) or None
    options = {"caption": text, "words": wanted, "whole": whole, "versus": against, "beam": beam, "score": score}
    _explain("caption", request, lambda task: options)


@click.command(
    short_help="Classify a photo and show where each class is seen.",
    epilog=examples(
        "mmexplain classify photo.jpg --top 5",
        'mmexplain classify photo.jpg --target "tiger cat" --target boxer',
        'mmexplain classify photo.jpg --versus "tiger cat" tabby --out contrast.png',
        "mmexplain classify photo.jpg --model torchvision:resnet50 --method guided-gradcam",
    ),
)
@click.option("--target", "targets", metavar="LABEL", multiple=True, help="A class by name or number. Repeatable.")
@click.option("--top", metavar="K", type=click.IntRange(min=1), help=f"The K likeliest classes.  [default: {TOP}]")
@click.option(
    "--versus",
    nargs=2,
    multiple=True,
    metavar="LABEL OTHER",
    help="Explain why LABEL rather than OTHER. Repeatable.",
)
@explaining_options
def classify(request: Request, targets: tuple[str, ...], top: int | None, versus: tuple[tuple[str, str], ...]) -> None:
    """Classify the photo IMAGE and map where in it each class is seen.

    Prints the classes and writes a report to IMAGE.mmexplain.html in the current folder, or to --out.
    """
    if targets and top is not None:
        raise InputError("--top and --target exclude each other: name the classes, or say how many")

    def options(task: Any) -> dict[str, Any]:
        if not targets and not versus:
            return {"top": TOP if top is None else top}
        named = [task.target(name) for name in targets]
        return {"targets": [*named, *(task.contrast(label, other) for label, other in versus)]}

    _explain("classify", request, options)


def _contrasts(versus: tuple[tuple[str, str], ...]) -> dict[str, str]:
    contrasts: dict[str, str] = {}
    for word, other in versus:
        if word.casefold() == other.casefold():
            raise InputError(f"{word!r} cannot be held against itself: name another word")
        if contrasts.setdefault(word, other) != other:
            raise InputError(f"--versus {word!r} is given twice; run mmexplain once for each of them")
    return contrasts


def _explain(task_name: str, request: Request, options: Callable[[Any], dict[str, Any]]) -> None:
    """Read, load, explain, print and write; what is quick to check is checked before what is slow to do."""
    out = request.out
    if out is None and not request.as_json:
        out = f"{Path(request.image).stem or 'photo'}.mmexplain.html"
    destination = None if out is None else Destination(out, request.image)
    with working("starting") as say:
        from mmexplain.io import load_image
        from mmexplain.methods.registry import select

        say("reading the photo")
        photo = load_image(request.image)
        select(request.methods)
        say("loading the model")
        from mmexplain.tasks.registry import DEFAULTS, load

        model = DEFAULTS[task_name] if request.model is None else request.model
        task: Any = load(model, task=task_name, device=request.device)
        say("explaining")
        explanation = task.explain(photo, **options(task), layers=list(request.layers) or None, methods=request.methods)
    files: list[str] = []
    try:
        if destination is not None:
            with working("writing"):
                destination.write(explanation, files)
    finally:  # what was computed is printed, even if it could not be written
        _print(explanation, files, request.as_json)


def _print(explanation: Explanation, files: list[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_finite(explanation.to_json(files)), indent=2, allow_nan=False))
        return
    from mmexplain.commands.tables import show_explanation

    show_explanation(explanation, files)


def _finite(value: Any) -> Any:
    """JSON has no infinity (the log-probability of a word that cannot be said): null stands for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
