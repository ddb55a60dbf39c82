"""What the benchmarks share: the machine in words, fair timing, peak memory, tables, inputs as explaining has them."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmexplain.forward import convolves_faster

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "timm", "transformers", "mmexplain", "grad-cam", "captum", "torchcam")


# -- the machine ------------------------------------------------------------------------------------------------------


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures depend on, for the record."""
    found: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe(record: Mapping[str, Any]) -> str:
    """One line about the machine."""
    place = [record["cpu"], f"{record['cores']} cores", f"{record['threads']} threads"]
    place += [record["gpu"]] if "gpu" in record else []
    packages = [f"{name} {record[name]}" for name in PACKAGES if name in record]
    line = f"{', '.join(place)}; {', '.join(packages)}; {record['date']}"
    others = record.get("others")
    if others is not None:
        line += f"; other processes took {others:.0%} of the processor time meanwhile"
    return line


def _cpu_model() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Others:
    """Share of the machine's processor time that other processes took while a ``with`` block ran (Linux only)."""

    share: float | None = None

    def __enter__(self) -> Others:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        before, after = self._before, self._now()
        if before and after and after[1] > before[1]:
            total, busy, own = (b - a for a, b in zip(before, after, strict=True))
            self.share = max(0.0, busy - own) / total

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        try:
            fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        tick = os.sysconf("SC_CLK_TCK")
        times = os.times()
        idle = fields[3] + fields[4]
        return sum(fields) / tick, (sum(fields) - idle) / tick, times.user + times.system


# -- time -------------------------------------------------------------------------------------------------------------


@dataclass
class Timing:
    """Seconds of one contender, one entry a round, and its ratio to the yardstick runs just before and after it."""

    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Medians and quartiles."""
        return {
            "ms": _spread([1e3 * value for value in self.seconds]),
            "ratio": _spread(self.ratios),
            "rounds": len(self.seconds),
        }


def _spread(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {name: values[0] for name in ("median", "low", "high")}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def alternate(
    yardstick: Callable[[], Any],
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: str = "",
    every: int = 1,
    warm: bool = False,
) -> tuple[Timing, dict[str, Timing]]:
    """Time the contenders in rounds, each in a new order, a yardstick run between any two of them.

    A ratio is taken between runs that lie next to each other, so a machine that slows down for a while, or is shared,
    moves it little.

    Args:
        yardstick: what all are held against.
        contenders: by name.
        rounds: how many.
        seed: of the orders.
        device: "cuda" times with CUDA's events.
        progress: what is shown while it runs.
        every: contenders from one yardstick run to the next.
        warm: whether all have been run before.
    """
    shuffle = random.Random(seed)
    names = list(contenders)
    stick = Timing()
    found = {name: Timing() for name in names}
    for run in () if warm else (yardstick, *contenders.values()):
        run()
    for number in range(rounds):
        if progress:
            print(f"\r{progress}: round {number + 1}/{rounds}", end="", file=sys.stderr, flush=True)
        shuffle.shuffle(names)
        before = _seconds(yardstick, device)
        for start in range(0, len(names), every):
            taken = {name: _seconds(contenders[name], device) for name in names[start : start + every]}
            after = _seconds(yardstick, device)
            for name, seconds in taken.items():
                found[name].seconds.append(seconds)
                found[name].ratios.append(2 * seconds / (before + after))
            stick.seconds.append(after)
            stick.ratios.append(1.0)
            before = after
    if progress:
        print(file=sys.stderr)
    return stick, found


def _seconds(run: Callable[[], Any], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        run()
        last.record()
        last.synchronize()
        return 1e-3 * float(first.elapsed_time(last))
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# -- memory -----------------------------------------------------------------------------------------------------------


def peak_above(run: Callable[[], Any]) -> int | None:
    """Bytes that a run takes at its peak above what the process held before; None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark starts anew
        before = _status("VmRSS")
    except OSError:
        return None
    run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


# -- results ----------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers to the right, others to the left, as the first one is.

    A column is one of numbers if some cell starts with one and the others do too, or hold a dash or nothing.
    """
    columns = [[head, *(row[i] for row in rows)] for i, head in enumerate(header)]
    widths = [max(3, *map(len, column)) for column in columns]
    numbers = [i > 0 and _numeric(column[1:]) for i, column in enumerate(columns)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, numbers, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + (":" if number else "-") for width, number in zip(widths, numbers, strict=True)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def _numeric(cells: Sequence[str]) -> bool:
    held = [cell for cell in cells if cell not in ("", "-", "–", "—")]
    return bool(held) and all(re.match(r"[(*±+\-−~<>≤≥×]*\s*\.?\d", cell) for cell in held)


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def save(name: str, record: Mapping[str, Any], markdown: str, out: Path = RESULTS) -> None:
    """Write ``<name>.json`` and ``<name>.md``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    (out / f"{name}.md").write_text(markdown + "\n")


def with_spread(spread: Mapping[str, float], digits: int = 0) -> str:
    """``median (lower quartile-upper quartile)``."""
    return f"{spread['median']:.{digits}f} ({spread['low']:.{digits}f}-{spread['high']:.{digits}f})"


# -- models ---------------------------------------------------------------------------------------------------------


def laid_out(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Photos as explaining lays them out for the encoder, so that what is done without explaining has the same."""
    image = inputs["image"]
    if not convolves_faster(image):
        return inputs
    return inputs | {"image": image.contiguous(memory_format=torch.channels_last)}
