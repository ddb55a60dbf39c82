"""``vqa``: a photo and a question in, an answer and maps out."""

from __future__ import annotations

import click

from mmexplain.commands.options import Request, examples, explaining_options, score_option, text_option, weight_option
from mmexplain.commands.running import explain, text_methods


@click.command(
    short_help="Answer a question on a photo and show where each answer came from.",
    epilog=examples(
        'mmexplain vqa photo.jpg "what is the man holding"',
        'mmexplain vqa photo.jpg "what is the colour of the shirt" --answer red --answer blue',
        'mmexplain vqa photo.jpg "what is the colour of the shirt" --versus red blue --out answers/',
        'mmexplain vqa photo.jpg "how many dogs are there" --json | jq .targets[0].label',
    ),
)
@explaining_options("IMAGE")
@click.argument("question", metavar="QUESTION")
@click.option("--answer", "answers", metavar="ANSWER", multiple=True, help="Consider this answer too. Repeatable.")
@click.option(
    "--versus",
    nargs=2,
    multiple=True,
    metavar="ANSWER OTHER",
    help="Explain too why ANSWER rather than OTHER. Repeatable.",
)
@weight_option
@click.option(
    "--top",
    metavar="K",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="The model's K likeliest answers; 0 for those that are named only.",
)
@score_option
@text_option("all")
def vqa(
    request: Request,
    question: str,
    answers: tuple[str, ...],
    versus: tuple[tuple[str, str], ...],
    weight: float,
    top: int,
    score: str | None,
    text: tuple[str, ...],
) -> None:
    """Answer QUESTION on the photo IMAGE and map where in it each answer came from.

    Prints the answers with what each word of the question added to them, and writes a report to IMAGE.mmexplain.html in
    the current folder, or to --out.
    """
    options = {
        "question": question,
        "answers": answers,
        "versus": [(*pair, weight) for pair in versus],
        "top": top,
        "text": text_methods(text),
        **({} if score is None else {"score": score}),
    }
    explain("vqa", request, lambda task: options)
