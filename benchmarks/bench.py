"""mmexplain beside its peers, in one run: pytorch-grad-cam, captum, torch-cam and a loop written by hand.

    python benchmarks/bench.py --memory                # everything; writes benchmarks/results/bench.{md,json}
    python benchmarks/bench.py --quick                 # a few cases, three rounds
    python benchmarks/bench.py --only caption          # cases whose group or name holds this; "*" stands for anything
    python benchmarks/bench.py --only VGG --update     # these cases anew, the others as they are in bench.json
    python benchmarks/bench.py --list

``make bench`` runs the first. Install the peers with ``pip install -e '.[peers]'``; one that is missing is skipped.
Maps are checked before anything is timed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from cases.case import PEERS, REPEATABLE, Case, available
from cases.every import every
from checks import TOLERANCE
from common import RESULTS, Others, machine, positive, save
from floor import measure_rates
from harness import Family, Limits, measure, summary
from page import report
from peaks import Peaks, peaks, prepare

QUICK_ROUNDS, QUICK_BUDGET = 3, 0.3


def chosen(patterns: list[str] | None, quick: bool, tiny: bool) -> list[Case]:
    """The cases that are asked for.

    Raises:
        SystemExit: there is none.
    """
    found = [case for case in every(tiny) if tiny or not quick or case.quick]
    if patterns:
        found = [
            case
            for case in found
            if any(
                fnmatch.fnmatch(f"{case.group}/{case.name}".casefold(), f"*{pattern.casefold()}*")
                for pattern in patterns
            )
        ]
    if not found:
        raise SystemExit(f"no case is called {', '.join(patterns or [])}: --list names them")
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="part of GROUP/CASE; may be repeated")
    parser.add_argument("--rounds", type=positive, help="at most; 15, or 3 with --quick")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of a contender in a round; 1.5, or 0.3")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds: does it run?")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too (on the CPU: Linux)")
    parser.add_argument(
        "--memory-alone", action="store_true", help="add peak memory to the folder's bench.json, and time nothing"
    )
    parser.add_argument(
        "--update", action="store_true", help="keep the cases of the folder's bench.json that are not measured anew"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else 15)
    arguments.budget = arguments.budget or (QUICK_BUDGET if arguments.quick else 1.5)
    return arguments


def main() -> None:
    arguments = parsed()
    cases = chosen(arguments.only, arguments.quick, arguments.tiny)
    if arguments.list:
        print("\n".join(f"{case.group}/{case.name}" for case in cases))
        return
    for name in sorted(set(PEERS) - set(available())):
        print(f"{PEERS[name]} is not installed: skipped (pip install -e '.[peers]')", file=sys.stderr)
    if arguments.memory or arguments.memory_alone:
        prepare()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.memory_alone:
        write(with_memory(cases, arguments), arguments.out)
        return
    # TensorFloat-32 has ten bits: maps would differ by more than is allowed.
    torch.backends.cudnn.allow_tf32 = False
    started = time.perf_counter()
    rates = measure_rates(arguments.device, arguments.tiny)
    limits, family = Limits(arguments.rounds, arguments.budget, arguments.device), Family()
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    with Others() as others:
        for case in cases:
            try:
                found[case.name] = measure(case, limits, rates, family)
            except SystemExit as reason:
                # Hours of other cases are not to be lost for one.
                failed[case.name] = str(reason)
                print(f"{case.name}: not measured: {reason}", file=sys.stderr)
                continue
            summary(case.name, found[case.name])
    if arguments.memory:
        fill_in_memory(cases, found, arguments)
    this = {
        "machine": {**machine(arguments.device), "others": others.share},
        "command": command(arguments),
        "minutes": (time.perf_counter() - started) / 60,
        "cases": list(found),
    }
    runs, found = joined(arguments.out / "bench.json" if arguments.update else None, this, found)
    record = {
        "machine": this["machine"],
        "runs": runs,
        "settings": {
            "rounds": arguments.rounds,
            "budget": arguments.budget,
            "device": arguments.device,
            "tolerance": TOLERANCE,
            "repeatable": REPEATABLE,
        },
        "rates": {"flops": rates.flops, "bandwidth": rates.bandwidth},
        "cases": found,
        "failed": failed,
    }
    write(record, arguments.out)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(cases)} cases were not measured: {', '.join(failed)}")


def write(record: dict[str, Any], folder: Path) -> None:
    """Both files."""
    markdown = report(record)
    print(markdown)
    save("bench", record, markdown, folder)


def fill_in_memory(cases: list[Case], found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """The peaks of those cases that were timed."""
    taken: Peaks = {}
    for case in (case for case in cases if case.name in found):
        print(f"memory: {case.name}", file=sys.stderr)
        entry = found[case.name]
        entry["peak_mib"] = peaks(case, entry, arguments.device, arguments.tiny, arguments.threads, taken)


def with_memory(cases: list[Case], arguments: argparse.Namespace) -> dict[str, Any]:
    """What the folder's ``bench.json`` has, with the peaks of these cases.

    Raises:
        SystemExit: it has nothing.
    """
    path = arguments.out / "bench.json"
    if not path.exists():
        raise SystemExit(f"{path} does not exist: time the cases first")
    record: dict[str, Any] = json.loads(path.read_text())
    fill_in_memory(cases, record["cases"], arguments)
    return record


def joined(
    earlier: Path | None, this: dict[str, Any], found: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The runs that cases are of, this one last, and all cases in their order; those of this run replace others."""
    if earlier is None or not earlier.exists():
        return [this], found
    before = json.loads(earlier.read_text())
    runs = [{**run, "cases": [name for name in run["cases"] if name not in found]} for run in before["runs"]]
    known = before["cases"] | found
    order = [case.name for case in every(False)]
    cases = {name: known[name] for name in sorted(known, key=lambda name: order.index(name) if name in order else -1)}
    return [*(run for run in runs if run["cases"]), this], cases


def command(arguments: argparse.Namespace) -> str:
    """What made the page, without paths."""
    words = ["`python benchmarks/bench.py"]
    for name in ("quick", "memory", "update", "tiny"):
        words += [f"--{name}"] if getattr(arguments, name) else []
    words += [f"--rounds {arguments.rounds} --budget {arguments.budget:g} --device {arguments.device}"]
    words += [f"--threads {arguments.threads}"] if arguments.threads else []
    return " ".join([*words, *(f"--only '{pattern}'" for pattern in arguments.only or [])]) + "`"


if __name__ == "__main__":
    main()
