"""Makes questions from captions: ``python -m mmexplain.tasks.vqa.questions CAPTIONS --out questions.jsonl``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from mmexplain.cli import one_line_errors

from .cocoqa import generate
from .pruning import MAX_COUNT, MIN_COUNT, prune
from .question import KINDS, Question, write_questions
from .sources import read_captions


@click.command(help=__doc__)
@click.argument("captions", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON lines to write.")
@click.option(
    "--min-count", default=MIN_COUNT, show_default=True, type=click.IntRange(1), help="Rarer answers are dropped."
)
@click.option(
    "--max-count", default=MAX_COUNT, show_default=True, type=click.IntRange(1), help="Answers are thinned above it."
)
@click.option("--seed", default=0, show_default=True, help="Of the thinning.")
def main(captions: Path, out: Path, min_count: int, max_count: int, seed: int) -> None:
    """Reads, asks, prunes, writes and says what came of it."""
    with one_line_errors():
        made = generate(read_captions(captions))
        questions = prune(made, min_count, max_count, seed)
        write_questions(out, questions)
    click.echo(summary(questions))
    click.echo(f"\n{len(questions)} of {len(made)} questions -> {out}")


def summary(questions: Sequence[Question], examples: int = 5, answers: int = 20) -> str:
    """Counts by split and kind, the most frequent answers and a few questions of each kind."""
    counts = Counter((question.split, question.kind) for question in questions)
    lines = [f"{'split':8}" + "".join(f"{kind:>10}" for kind in KINDS) + f"{'all':>10}"]
    for split in sorted({question.split for question in questions}):
        row = [counts[split, kind] for kind in KINDS]
        lines.append(f"{split or '-':8}" + "".join(f"{n:10}" for n in [*row, sum(row)]))
    frequent = Counter(question.answer for question in questions)
    lines += ["", f"{len(frequent)} answers; most frequent: "]
    lines[-1] += ", ".join(f"{answer} {n}" for answer, n in frequent.most_common(answers))
    for kind in KINDS:
        some = [question for question in questions if question.kind == kind]
        chosen = some[:: max(1, len(some) // examples)][:examples]
        lines += ["", f"{kind}:", *(f"  {question.text}? {question.answer}" for question in chosen)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
