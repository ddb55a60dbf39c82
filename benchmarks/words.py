"""A map for every word of a caption: mmexplain beside pytorch-grad-cam, captum and torch-cam, in one run.

    python benchmarks/words.py             # both captioners, 12 words; writes benchmarks/results/words.{md,json}
    python benchmarks/words.py --memory    # peak memory too
    python benchmarks/words.py --rounds 5 --architecture resnet50 --out /tmp/results

Install the peers with ``pip install -e '.[peers]'``; one that is missing is skipped. Maps are checked for equality
before anything is timed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from captioners import ARCHITECTURES, TAP, freeze
from common import RESULTS, Others, alternate, describe, machine, peak_above, save, table, with_spread
from contenders import BOTH, BY_HAND, ENCODER, MMEXPLAIN, OWN, PEERS, Case, Maps, forward_alone, make_case

TOLERANCE = 1e-4
"""Largest difference of two maps, relative to the maximum of the map."""

TARGETS = {"resnet50": 1.6, "vgg16": 2.0}
"""Encoder forward passes that the engine may take."""

TITLES = {"resnet50": "ResNet-50 + LSTM", "vgg16": "VGG-16 + LSTM", "resnet18": "ResNet-18 + LSTM"}


def available() -> dict[str, Callable[[Case], Maps]]:
    """All contenders whose package is installed."""
    found = dict(OWN)
    missing = set()
    for name, (module, build) in PEERS.items():
        if importlib.util.find_spec(module):
            found[name] = build
        else:
            missing.add(module)
    for module in sorted(missing):
        print(f"{module} is not installed: skipped (pip install -e '.[peers]')", file=sys.stderr)
    return found


def differences(maps: dict[str, torch.Tensor]) -> dict[str, float]:
    """Largest difference of each contender's maps from mmexplain's, relative to each map's maximum."""
    reference = maps[MMEXPLAIN].double()
    if not bool((reference.amax((1, 2)) > 0).any()):
        raise SystemExit("every map is empty: nothing is compared")
    scale = reference.amax((1, 2), keepdim=True).clamp(min=float(reference.max()) * 1e-3)
    return {
        name: float(((value.to(reference.device).double() - reference).abs() / scale).max())
        for name, value in maps.items()
        if name != MMEXPLAIN
    }


def measure(architecture: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Check, then time, one captioner."""
    case = make_case(architecture, arguments.words, arguments.size, arguments.vocabulary, arguments.device)
    freeze(case.captioner, architecture)
    contenders = {name: build(case) for name, build in available().items()}
    off = differences({name: run() for name, run in contenders.items()})
    wrong = {name: value for name, value in off.items() if value > TOLERANCE}
    if wrong:
        raise SystemExit(f"maps differ from mmexplain's: {wrong}")
    yardstick, timings = alternate(
        forward_alone(case), contenders, arguments.rounds, device=arguments.device, progress=TITLES[architecture]
    )
    peers = [name for name in timings if name in PEERS]
    fastest = min(peers, key=lambda name: timings[name].record()["ratio"]["median"], default=None)
    record: dict[str, Any] = {
        "layer": TAP[architecture],
        "grid": list(contenders[MMEXPLAIN]().shape[1:]),
        "largest_difference": off,
        "contenders": {ENCODER: yardstick.record(), **{name: timing.record() for name, timing in timings.items()}},
        "fastest_peer": fastest,
    }
    if fastest:
        own = record["contenders"][MMEXPLAIN]["ratio"]["median"]
        record["to_fastest_peer"] = own / record["contenders"][fastest]["ratio"]["median"]
    return record


# -- memory: each contender in a process of its own, called once ------------------------------------------------------


def memory_of_one(architecture: Any, name: str, arguments: argparse.Namespace) -> int | None:
    """Peak of one call above what the process holds between calls."""
    case = make_case(architecture, arguments.words, arguments.size, arguments.vocabulary)
    freeze(case.captioner, architecture)
    builders = {ENCODER: forward_alone, **OWN, **{peer: build for peer, (_, build) in PEERS.items()}}
    run = builders[name](case)
    run()  # modules that are imported late, threads that are started late
    gc.collect()
    return peak_above(run)


def memory(architecture: str, arguments: argparse.Namespace) -> dict[str, float | None]:
    """Mebibytes for each contender."""
    # Freed blocks go back to the system at once, so that what the process holds is what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    found: dict[str, float | None] = {}
    for name in (ENCODER, *available()):
        print(f"\rmemory, {TITLES[architecture]}: {name}".ljust(100), end="", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--one", name, "--architecture", architecture]
        for option in ("words", "size", "vocabulary", "threads"):
            if getattr(arguments, option) is not None:
                command += [f"--{option}", str(getattr(arguments, option))]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
        found[name] = None if answer is None else answer / 2**20
    print(file=sys.stderr)
    return found


# -- report -----------------------------------------------------------------------------------------------------------


def section(architecture: str, record: dict[str, Any]) -> str:
    """The table of one captioner and the verdict."""
    timings = record["contenders"]
    fastest = record["fastest_peer"]
    peak = record.get("memory_mib")
    header = ["", "ms (quartiles)", "x encoder forward", "x fastest peer"] + (["peak MiB"] if peak else [])
    rows = []
    for name in sorted(timings, key=lambda name: timings[name]["ratio"]["median"]):
        timing = timings[name]
        ratio = timing["ratio"]["median"]
        beside = f"{ratio / timings[fastest]['ratio']['median']:.2f}" if fastest else "-"
        row = [f"**{name}**" if name == MMEXPLAIN else name, with_spread(timing["ms"]), with_spread(timing["ratio"], 2)]
        row.append("-" if name in (ENCODER, BY_HAND, BOTH) else beside)
        if peak:
            row.append("-" if peak.get(name) is None else f"{peak[name]:.0f}")
        rows.append(row)
    own = timings[MMEXPLAIN]["ratio"]["median"]
    lines = [f"### {TITLES[architecture]} (`{record['layer']}`, {record['grid'][0]} x {record['grid'][1]})", ""]
    lines += [table(header, rows), ""]
    if architecture in TARGETS:
        lines.append(_verdict(f"{own:.2f} encoder forward passes", own, TARGETS[architecture]))
    if fastest:
        share = record["to_fastest_peer"]
        lines.append(_verdict(f"{share:.2f} of the fastest peer's time ({fastest})", share, 0.5))
    off = record["largest_difference"]
    if off:
        lines.append(f"- Maps equal before timing: largest relative difference {max(off.values()):.1e}.")
    return "\n".join(lines)


def _verdict(what: str, value: float, limit: float) -> str:
    return f"- {what}; at most {limit:g} asked for: {'met' if value <= limit else '**missed**'}."


NOTES = """\
One photo of {size} x {size} pixels, {words} words, a vocabulary of {vocabulary:,}, random weights, {rounds} \
rounds in changing order; a ratio is
taken to the encoder's forward passes right before and after. All parameters are frozen but the last one before the
tap, so that the peers' graphs begin as late as they can. Every contender is set up once (not timed), gets the prepared
photo and gives maps at the layer's resolution, after the ReLU, not normalised.

- **mmexplain**: `mmexplain.explain` as it comes, Explanation included; once more with Grad-CAM++ beside Grad-CAM.
- **by hand**: the engine's idea in a dozen lines for this one model, for reference: the difference is the overhead.
- **torch-cam**: one forward pass, then its extractor once a word with `retain_graph`; `normalized=False`.
- **captum**: `LayerGradCam` once a word over the words up to it, or once with the photo repeated.
- **pytorch-grad-cam**: `GradCAM` once a word or once with the photo repeated; its resizing and normalisation, which
  have no switch, are taken out by a subclass; NumPy stays.

"Peak MiB" is what one call takes at most above what its process holds between calls, in a process of its own."""


def report(record: dict[str, Any]) -> str:
    """All of it as Markdown."""
    settings = record["settings"]
    sections = [section(architecture, found) for architecture, found in record["captioners"].items()]
    return "\n\n".join(["## A map for every word", describe(record["machine"]), NOTES.format(**settings), *sections])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--architecture", choices=ARCHITECTURES, action="append", help="resnet50 and vgg16 if left out")
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--size", type=int, default=224, help="height and width of the photo")
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too (Linux)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.one:
        print(json.dumps(memory_of_one(arguments.architecture[0], arguments.one, arguments)))
        return
    captioners: dict[str, Any] = {}
    with Others() as others:
        for architecture in arguments.architecture or ("resnet50", "vgg16"):
            captioners[architecture] = measure(architecture, arguments)
    if arguments.memory:
        for architecture, found in captioners.items():
            found["memory_mib"] = memory(architecture, arguments)
    settings = {name: getattr(arguments, name) for name in ("rounds", "words", "size", "vocabulary", "device")}
    record = {
        "machine": {**machine(arguments.device), "others": others.share},
        "settings": settings,
        "captioners": captioners,
    }
    markdown = report(record)
    print(markdown)
    save("words", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
