"""All protocols on the bundled models, written up as benchmarks/RESULTS.md, with the whole tables in results/protocols.

python benchmarks/protocols.py --data $MMEXPLAIN_DATA

Measured rows are kept in --work: a run that was interrupted goes on there, and what is done is not run again. The page
is always made of everything in --work; --only chooses what is measured now. What is missing is listed on it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import data_randomisation
import evaluation_time
import word_grounding
from common import positive
from protocol_runs import PUBLISHED, RESNET50, RUNS, Run
from protocol_tables import ablations, by_protocol, cascade, overview, section
from rich.console import Console
from rich.progress import Progress
from saved import run_or_keep, saved

from mmexplain.errors import InputError, MMExplainError
from mmexplain.evaluate.registry import get
from mmexplain.evaluate.result import Result
from mmexplain.render.whole import whole
from mmexplain.tasks.registry import load

STUDIES: dict[str, Callable[[Path, Path, int | None], str]] = {
    "word-grounding-remedies": word_grounding.section,
    "data-randomisation": lambda data, work, _: data_randomisation.section(
        data / "coco_mini", work / "data-randomisation"
    ),
    "time": evaluation_time.section,
}
"""Sections that are more than one table of one protocol."""


def model_of(name: str, weights: Path | None) -> Any:
    """The task of a run's model.

    Raises:
        MMExplainError: its weights are not at hand.
    """
    if name != RESNET50:
        return load(name, device="cpu")
    if weights is None:
        raise InputError("its weights are named by --weights")
    sys.path.insert(0, str(Path(__file__).parent.parent / "demos"))
    from models.resnet50 import load as load_resnet50

    return load_resnet50(weights)


def measured(planned: Run, task: Any, arguments: argparse.Namespace, console: Console) -> Result:
    """The result of one run.

    Raises:
        MMExplainError: it cannot be measured.
    """
    protocol: Any = get(planned.protocol)
    made = protocol(task, arguments.data / planned.data, planned.methods, **planned.options)
    limit = min((n for n in (planned.limit, arguments.limit) if n is not None), default=None)
    with Progress(console=console, transient=True) as bar:
        line = bar.add_task(planned.name)
        result = run_or_keep(
            made,
            arguments.work / planned.name,
            limit,
            lambda done, total: bar.update(line, completed=done, total=total),
        )
    console.print(f"{planned.name}: {result.items} items, {result.seconds:.0f} s")
    return result


def kept(planned: Run, work: Path) -> Result | None:
    """The result of a run in ``work``; None where it is not complete there, or is one of other methods or options."""
    found = saved(work / planned.name)
    if found is None or found.protocol != planned.protocol:
        return None
    wanted = json.loads(json.dumps(dict(planned.options)))
    differing = [name for name, value in wanted.items() if name in found.settings and found.settings[name] != value]
    # A protocol may add the model's own attention.
    measured = found.settings.get("methods", planned.methods)[: len(planned.methods)]
    return None if differing or list(measured) != list(planned.methods) else found


def gathered(arguments: argparse.Namespace, console: Console) -> tuple[list[tuple[Run, Result]], list[str], list[str]]:
    """All runs and studies that are measured now or were before: results, sections, and what is missing, each told."""
    done, studies, missing = [], [], []
    for planned in RUNS:
        result, why = kept(planned, arguments.work), "not measured yet"
        if planned.protocol in arguments.only:
            try:
                task = model_of(planned.model, arguments.weights)
            except MMExplainError as error:  # what was measured while it was at hand stands
                console.print(f"{planned.name} is not measured: {error}")
                why = "its model is not at hand"
            else:
                try:
                    result = measured(planned, task, arguments, console)
                except MMExplainError as error:
                    console.print(f"{planned.name} failed: {error}")
                    result, why = None, "failed"
        if result is None:
            missing.append(f"{planned.protocol}, `{planned.title}`: {why}")
        else:
            done.append((planned, result))
    for name, make in STUDIES.items():
        path, why = arguments.work / f"{name}.md", "not measured yet"
        if name in arguments.only:
            path.unlink(missing_ok=True)
            try:
                text = make(arguments.data, arguments.work, arguments.limit)
            except MMExplainError as error:
                console.print(f"{name} failed: {error}")
                why = "failed"
            else:
                arguments.work.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        if path.exists():
            studies.append(path.read_text(encoding="utf-8"))
        else:
            missing.append(f"{name}: {why}")
    return done, studies, missing


def made_with(results: Sequence[Result]) -> list[str]:
    """Machines and versions of what was measured, each with its days."""
    days: dict[str, set[str]] = {}
    for result in results:
        made = dict(result.made)
        day, place = made.pop("date"), made.pop("machine")
        days.setdefault(f"{place}; {', '.join(f'{name} {value}' for name, value in made.items())}", set()).add(day)
    spans = {place: sorted(found) for place, found in days.items()}
    return [f"{place}; {found[0]}" + (f" to {found[-1]}" if len(found) > 1 else "") for place, found in spans.items()]


def written(done: Sequence[tuple[Run, Result]], studies: Sequence[str], missing: Sequence[str]) -> str:
    """The whole file.

    Args:
        done: runs with their results.
        studies: sections of their own.
        missing: what is not there, each told.
    """
    found = {(planned.protocol, planned.title): result for planned, result in done}
    lines = [
        "# Methods by protocol",
        "",
        "Written by `python benchmarks/protocols.py`, on the models that come with mmexplain and on small sets of "
        "photos: read differences of methods within a table, with their intervals, and not levels across papers. "
        "Numbers are means with 95 % bootstrap intervals over photos (questions, clips); shares are in per cent.",
        "",
        *(f"Measured on {place}.\n" for place in made_with([result for _, result in done])),
        *(["Missing here:", "", *(f"- {line}" for line in missing), ""] if missing else []),
        "## Overview",
        "",
        "A column is the main number of a protocol; its section below has the others, what was measured and how.",
        "",
        overview(found),
        ablations(found),
    ]
    for protocol, runs in by_protocol(done).items():
        lines += [f"## {runs[0][1].title}", ""]
        if protocol in PUBLISHED:
            lines += [f"*Published:* {PUBLISHED[protocol]}", ""]
        for planned, result in runs:
            lines += cascade(result, planned) if protocol == "randomisation" else section(result, planned)
        notes = dict.fromkeys(note for _, result in runs for note in result.notes)
        lines += [*(f"- {note}" for note in notes), ""]
    return "\n".join([*lines, *studies]).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MMEXPLAIN_DATA"), help="default: $MMEXPLAIN_DATA")
    parser.add_argument("--weights", type=Path, default=os.environ.get("MMEXPLAIN_WEIGHTS"), help="holds resnet50/")
    parser.add_argument("--work", type=Path, default=Path("protocols-work"), help="folder for measured rows")
    known = [*dict.fromkeys(planned.protocol for planned in RUNS), *STUDIES]
    parser.add_argument("--only", nargs="*", choices=known, default=known, help="what is measured now; all if left out")
    parser.add_argument("--limit", type=positive, help="items of each at most, 1 or more")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "RESULTS.md")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of data: --data, or the environment variable MMEXPLAIN_DATA")
    console = Console(stderr=True)
    done, studies, missing = gathered(arguments, console)
    tables = arguments.out.parent / "results" / "protocols"
    tables.mkdir(parents=True, exist_ok=True)
    for planned, result in done:
        with whole(tables / f"{planned.name}.md") as partial:
            partial.write_text(result.markdown() + "\n", encoding="utf-8")
    with whole(arguments.out) as partial:
        partial.write_text(written(done, studies, missing), encoding="utf-8")
    console.print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
