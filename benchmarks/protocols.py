"""All protocols on the bundled models, written up as benchmarks/RESULTS.md, with the whole tables in results/protocols.

python benchmarks/protocols.py --data $MMEXPLAIN_DATA

Measured rows are kept in --work: a run that was interrupted goes on there, and what is done is not run again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_randomisation
import evaluation_time
import word_grounding
from common import describe, machine
from protocol_runs import I3D, PUBLISHED, RESNET50, RUNS, Run
from protocol_tables import ablations, by_protocol, cascade, overview, section
from rich.console import Console
from rich.progress import Progress

from mmexplain.errors import MMExplainError
from mmexplain.evaluate.registry import get
from mmexplain.evaluate.result import Result
from mmexplain.evaluate.runner import run
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
    """The task of a run's model; None if its weights are not at hand."""
    if name == RESNET50:
        if weights is None:
            return None
        sys.path.insert(0, str(Path(__file__).parent.parent / "demos"))
        from models.resnet50 import load as load_resnet50

        return load_resnet50(weights)
    try:
        return load(name, device="cpu")
    except MMExplainError:
        if name == I3D:  # its weights are pulled, and need not be there
            return None
        raise


def measured(planned: Run, arguments: argparse.Namespace, console: Console) -> Result | None:
    """The result of one run; None where its model is not at hand."""
    task = model_of(planned.model, arguments.weights)
    if task is None:
        console.print(f"left out: {planned.name}; its model needs --weights, or `mmexplain models pull {I3D}`")
        return None
    protocol: Any = get(planned.protocol)
    made = protocol(task, arguments.data / planned.data, planned.methods, **planned.options)
    limit = min(filter(None, (planned.limit, arguments.limit)), default=None)
    with Progress(console=console, transient=True) as bar:
        line = bar.add_task(planned.name)
        result = run(
            made,
            arguments.work / planned.name,
            limit,
            lambda done, total: bar.update(line, completed=done, total=total),
        )
    console.print(f"{planned.name}: {result.items} items, {result.seconds:.0f} s")
    return result


def written(done: list[tuple[Run, Result]], studies: list[str]) -> str:
    """The whole file."""
    found = {(planned.protocol, planned.model): result for planned, result in done}
    lines = [
        "# Methods by protocol",
        "",
        "Written by `python benchmarks/protocols.py`, on the models that come with mmexplain and on small sets of "
        "photos: read differences of methods within a table, with their intervals, and not levels across papers. "
        "Numbers are means with 95 % bootstrap intervals over photos (questions, clips); shares are in per cent.",
        "",
        f"Machine: {describe(machine())}.",
        "",
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
    parser.add_argument("--only", nargs="*", choices=known, default=known, help="leave the others out")
    parser.add_argument("--limit", type=int, help="items of each at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "RESULTS.md")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of data: --data, or the environment variable MMEXPLAIN_DATA")
    console = Console(stderr=True)
    done = []
    for planned in RUNS:
        if planned.protocol in arguments.only and (result := measured(planned, arguments, console)) is not None:
            done.append((planned, result))
    studies = [
        make(arguments.data, arguments.work, arguments.limit)
        for name, make in STUDIES.items()
        if name in arguments.only
    ]
    tables = arguments.out.parent / "results" / "protocols"
    tables.mkdir(parents=True, exist_ok=True)
    for planned, result in done:
        with whole(tables / f"{planned.name}.md") as partial:
            partial.write_text(result.markdown() + "\n", encoding="utf-8")
    with whole(arguments.out) as partial:
        partial.write_text(written(done, studies), encoding="utf-8")
    console.print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
