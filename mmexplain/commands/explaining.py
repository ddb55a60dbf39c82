"""``caption`` and ``classify``: a photo in, maps out."""

from __future__ import annotations

from typing import Any

import click

from mmexplain.commands.options import Request, examples, explaining_options, score_option, text_option, weight_option
from mmexplain.commands.running import explain, text_methods
from mmexplain.errors import InputError

TOP = 3
"""Classes that ``classify`` explains when it is told neither which nor how many."""


@click.command(
    short_help="Caption a photo and show where each word came from.",
    epilog=examples(
        "mmexplain caption photo.jpg",
        "mmexplain caption photo.jpg --out maps/ --method gradcam --method attention",
        'mmexplain caption photo.jpg --caption "a dog catches a red frisbee" --words "dog,a red frisbee"',
        "mmexplain caption photo.jpg --versus dog cat",
        "mmexplain caption photo.jpg --out strip.pdf",
        "mmexplain caption photo.jpg --json | jq .text",
    ),
)
@click.option("--caption", "sentence", metavar="TEXT", help="Explain this caption instead of the model's own.")
@click.option("--words", metavar="A,B,…", help="Only these words and phrases of the caption, separated by commas.")
@click.option(
    "--versus",
    nargs=2,
    multiple=True,
    metavar="WORD OTHER",
    help="Explain too why the caption has WORD rather than OTHER. Repeatable.",
)
@click.option("--prompt", metavar="TEXT", help="What the model is asked, or how its caption begins (hf: models).")
@score_option
@text_option("gradient-x-embedding")
@click.option("--whole", is_flag=True, help="Explain the caption as a whole too.")
@click.option(
    "--beam", metavar="N", type=click.IntRange(min=1), default=3, show_default=True, help="Width of the search."
)
@explaining_options("IMAGE")
def caption(
    request: Request,
    sentence: str | None,
    words: str | None,
    versus: tuple[tuple[str, str], ...],
    prompt: str | None,
    score: str | None,
    text: tuple[str, ...],
    whole: bool,
    beam: int,
) -> None:
    """Caption the photo IMAGE and map where in it every word came from.

    Prints the caption and writes a report to IMAGE.mmexplain.html in the current folder, or to --out.
    """
    if sentence is not None and not sentence.strip():
        raise InputError(f"the caption {sentence!r} is empty; write one, or leave --caption out to have one made")
    wanted = None if words is None else [word.strip() for word in words.split(",") if word.strip()]
    if wanted == []:
        raise InputError(f"--words {words!r} names no word; write them with commas between, as in dog,frisbee")
    against = _contrasts(versus) or None
    options: dict[str, Any] = {
        "caption": sentence,
        "words": wanted,
        "whole": whole,
        "versus": against,
        "beam": beam,
        "text": text_methods(text),
    }
    if score is not None:
        options["score"] = score

    def told(task: Any) -> dict[str, Any]:
        if prompt is None:
            return options
        if not getattr(task, "prompted", False):
            raise InputError(f"model {task.model_id!r} is not asked: leave --prompt out")
        return {**options, "prompt": prompt}

    explain("caption", request, told)


@click.command(
    short_help="Classify a photo and show where each class is seen.",
    epilog=examples(
        "mmexplain classify photo.jpg --top 5",
        'mmexplain classify photo.jpg --target "tiger cat" --target boxer',
        'mmexplain classify photo.jpg --versus "tiger cat" tabby --out contrast.png',
        "mmexplain classify photo.jpg --model torchvision:resnet50 --method guided-gradcam",
        'mmexplain classify photo.jpg --method "occlusion(patch=[15, 35])" --method rise',
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
@weight_option
@explaining_options("IMAGE")
def classify(
    request: Request, targets: tuple[str, ...], top: int | None, versus: tuple[tuple[str, str], ...], weight: float
) -> None:
    """Classify the photo IMAGE and map where in it each class is seen.

    Prints the classes and writes a report to IMAGE.mmexplain.html in the current folder, or to --out.
    """
    if targets and top is not None:
        raise InputError("--top and --target exclude each other: name the classes, or say how many")

    def options(task: Any) -> dict[str, Any]:
        if not targets and not versus:
            return {"top": TOP if top is None else top}
        named = [task.target(name) for name in targets]
        return {"targets": [*named, *(task.contrast(label, other, weight) for label, other in versus)]}

    explain("classify", request, options)


def _contrasts(versus: tuple[tuple[str, str], ...]) -> dict[str, str]:
    contrasts: dict[str, str] = {}
    for word, other in versus:
        if word.casefold() == other.casefold():
            raise InputError(f"{word!r} cannot be held against itself: name another word")
        if contrasts.setdefault(word, other) != other:
            raise InputError(f"--versus {word!r} is given twice; run mmexplain once for each of them")
    return contrasts
