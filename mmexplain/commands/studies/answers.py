"""``study answers``: what people said of maps."""

from __future__ import annotations

from pathlib import Path

import click

from mmexplain.commands.folder import writable
from mmexplain.commands.options import examples, json_option, seed_option
from mmexplain.commands.progress import working
from mmexplain.commands.studies.showing import show


@click.command(
    short_help="What people answered on such a page: accuracy, preference, intervals.",
    epilog=examples(
        "mmexplain study answers answers/*.csv --key study/key.json",
        "mmexplain study answers answers/*.csv --key study/key.json --misses 1 --out results/",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--key", "key_file", metavar="FILE", required=True, help="The key.json that was written beside the page.")
@click.option(
    "--misses",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Attention checks that a participant may miss and still count.",
)
@seed_option("Of the bootstrap.")
@click.option("--out", metavar="DIR", help="Folder for study.json, study.md, study.png and scored.csv.")
@json_option
def answers(files: tuple[str, ...], key_file: str, misses: int, seed: int, out: str | None, as_json: bool) -> None:
    """Analyse the CSV FILEs that participants of 'mmexplain study questionnaire' sent.

    For each method: accuracy against chance, or mean preference for the better model from -2 to +2. Who missed an
    attention check or did not answer all questions is left out, and named.
    """
    folder = writable(out, "an analysis")
    with working("reading"):
        from mmexplain.studies.people.answer_files import read_answers, read_key
        from mmexplain.studies.people.answers import SCORED, analyse, figure, save_scored

        read = read_answers([Path(file) for file in files], read_key(Path(key_file)), misses)
        study = analyse(read, seed)
        written = []
        if folder is not None:
            written = [*study.save(folder, figure(study)), save_scored(read, folder / SCORED)]
    show(study, written, as_json)
