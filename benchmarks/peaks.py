"""Peak memory of each contender of a case: on the CPU in a process of its own, on a GPU by PyTorch's own account."""

from __future__ import annotations

import gc
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from cases.case import Case
from cases.every import find
from common import peak_above

FORWARD = "forward pass"
Peaks = dict[tuple[str, str], float | None]
"""Family and contender → mebibytes."""

FEW = 2
"""Targets of contenders that go target by target: what one takes is given back before the next."""


def peak_of(case: Case, name: str, way: str, device: str, threads: int | None) -> int | None:
    """Bytes at the peak of a call above what was held before it; None where the system does not tell."""
    if threads:
        torch.set_num_threads(threads)
    ready = case.build(device)
    if name == FORWARD:
        run: Any = ready.subject.forward
    else:
        contender = ready.contenders[name][way]
        few = case.targets if contender.cost == "whole" else min(FEW, case.targets)

        def run() -> Any:
            return contender.run(few)

    run()  # modules that are imported late, threads that are started late
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return peak_above(run)


def _peak_by_name(name: str, tiny: bool, contender: str, way: str, threads: int | None) -> int | None:
    return peak_of(find(name, tiny), contender, way, "cpu", threads)


def peaks(
    case: Case, record: dict[str, Any], device: str, tiny: bool, threads: int | None, known: Peaks
) -> dict[str, float | None]:
    """Mebibytes of the forward pass and of each contender, used as it was timed.

    Args:
        case: what is measured.
        record: of its times.
        device: where.
        tiny: whether it is one of the tiny cases.
        threads: that PyTorch may use.
        known: what was measured before; added to. What goes target by target takes the same in all of a family.
    """
    found: dict[str, float | None] = {}
    ways = {name: entry["way"] for name, entry in record["contenders"].items()}
    alike = {FORWARD} | {name for name, entry in record["contenders"].items() if entry["cost"] == "targets"}
    for name, way in {FORWARD: "", **ways}.items():
        if name in alike and (case.family, name) in known:
            found[name] = known[case.family, name]
            continue
        if device.startswith("cuda"):
            taken = peak_of(case, name, way, device, threads)
        else:
            with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
                taken = pool.submit(_peak_by_name, case.name, tiny, name, way, threads).result()
        found[name] = None if taken is None else taken / 2**20
        if name in alike:
            known[case.family, name] = found[name]
    return found


def prepare() -> None:
    """Let processes begin with everything imported and no thread started."""
    # Freed blocks go back to the system at once, so that what a process holds is what is in use.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    multiprocessing.set_forkserver_preload(["peaks", "peers.everything"])
