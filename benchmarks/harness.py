"""One case: maps checked, then timed within a budget, beside the floor."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import floor
import torch
from cases.case import OWN, PEERS, Case, Contender, Maps, Ready, Subject, Variants
from checks import check, passes
from common import Timing, alternate

FEWEST = 3
"""Rounds, at least."""

ROUNDS_OF_BUDGET = 12
"""A case may take this many times what a contender may take in a round."""

LEAST_STEP = 0.005
"""Share of the first target's time that a further one is taken to cost at least, when the part is chosen."""

SLOW = 0.5
"""Seconds from which the yardstick runs once a round only."""


@dataclass(frozen=True)
class Limits:
    """What a case may take.

    Attributes:
        rounds: at most.
        budget: seconds that a contender may take in a round; one that goes target by target is run over as many
            as fit.
        device: where.
    """

    rounds: int
    budget: float
    device: str


@dataclass
class Entry:
    """A contender, ready to be timed.

    Attributes:
        way: which of its variants.
        contender: the same.
        part: targets that it is run over.
        maps: of these.
        timing: of an earlier case of the family, if it is not timed anew.
        one: of one target, where that must be known to scale up.
    """

    way: str
    contender: Contender
    part: int
    maps: Maps
    timing: Timing | None = None
    one: Timing | None = None


Known = dict[str, Entry]
"""Contender → how it was timed over one target."""


@dataclass
class Family:
    """What cases of one family tell each other: a contender takes as long for one target in all, and so does the
    fastest forward pass."""

    name: str = ""
    entries: Known = field(default_factory=dict)
    fastest: tuple[str, float] | None = None

    def of(self, name: str) -> Known:
        """What is known of a family; what was of another is forgotten."""
        if name != self.name:
            self.name, self.entries, self.fastest = name, {}, None
        return self.entries


# -- scaling ----------------------------------------------------------------------------------------------------------


def part_of(contender: Contender, one: float, step: float, budget: float, count: int) -> int:
    """How many of the targets fit into the budget.

    Args:
        contender: whose cost grows as it says.
        one: seconds for one target.
        step: seconds for each further one.
        budget: seconds.
        count: targets in all.
    """
    if contender.cost == "whole":
        return count
    if contender.cost == "graph":
        # The ways back alone have the budget, or as long as the forward pass takes twice: what a target adds must stand
        # out from that one's noise.
        return min(count, max(2, 1 + int(max(budget, 2 * one) / max(step, 1e-9))))
    return min(count, max(1, 1 + int(max(0.0, budget - one) / max(step, 1e-9))))


def scaled(cost: str, one: float, part: float, few: int, count: int) -> float:
    """What all targets take, from what a few did.

    Args:
        cost: "targets": in proportion; "graph": a forward pass, and as much for each target.
        one: what one target takes.
        part: what the few take.
        few: how many.
        count: targets in all.
    """
    if few == count:
        return part
    if cost == "targets":
        return part * count / few
    return part + max(0.0, part - one) / (few - 1) * (count - few)


# -- one case ---------------------------------------------------------------------------------------------------------


def _seconds(run: Callable[[], Any], device: str) -> tuple[float, Any]:
    start = time.perf_counter()
    found = run()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, found


def enter(name: str, variants: Variants, count: int, limits: Limits, known: Known) -> tuple[Entry, float]:
    """The fastest way to use a contender, warmed up, with its maps, and the seconds that it adds to a round."""
    device = limits.device
    if (reused := again(name, variants, count, limits.budget, known)) is not None:
        return reused, 0.0
    found: list[tuple[float, float, float, Entry]] = []
    for way, contender in variants.items():
        few = count if contender.cost == "whole" else 1
        one, maps = _seconds(partial(contender.run, few), device)
        if one < limits.budget:  # the first time is slower
            one, maps = _seconds(partial(contender.run, few), device)
        step = one
        if contender.cost == "graph" and count > 1:
            step = max(_seconds(partial(contender.run, 2), device)[0] - one, LEAST_STEP * one)
        part = part_of(contender, one, step, limits.budget, count)
        whole = one + step * (count - few)
        found.append((whole, one, one + step * (part - few), Entry(way, contender, part, maps)))
    _, one, taken, entry = min(found, key=lambda item: item[0])
    if entry.contender.cost == "graph" and entry.part < count:
        taken += one
    if entry.contender.cost != "whole" and entry.part > 1:
        entry.maps = entry.contender.run(entry.part)
    return entry, taken


def again(name: str, variants: Variants, count: int, budget: float, known: Known) -> Entry | None:
    """A contender that is too slow to be timed anew, as it was in an earlier case of the family."""
    first = known.get(name)
    if first is None or first.timing is None or len(variants) > 1:
        return None
    one = statistics.median(first.timing.seconds)
    ((way, contender),) = variants.items()
    if one < budget or contender.cost != "targets":
        return None
    return Entry(way, contender, 1, first.maps, first.timing)


def measure(case: Case, limits: Limits, rates: floor.Rates, family: Family) -> dict[str, Any]:
    """Check, then time one case.

    Raises:
        SystemExit: maps are not as mmexplain's.
    """
    ready = case.build(limits.device)
    subject = ready.subject
    known = family.of(case.family)
    entries: dict[str, Entry] = {}
    checks: dict[str, dict[str, float]] = {}
    round_ = 0.0
    for name, variants in ready.contenders.items():
        entries[name], taken = enter(name, variants, case.targets, limits, known)
        round_ += taken
        if name != OWN:
            checks[name] = check(f"{case.name}: {name}", entries[OWN].maps, entries[name].contender, entries[name].maps)
    through = {}
    if ready.passes is not None:
        for name, entry in entries.items():
            through[name] = passes(ready, partial(entry.contender.run, 1))
            if not ready.passes <= through[name] <= ready.passes + 3:
                raise SystemExit(f"{case.name}: {name} shows the model {through[name]} photos, not {ready.passes}")

    runs: dict[str, Callable[[], Any]] = dict(subject.parts)
    for name, entry in entries.items():
        if entry.timing is None:
            runs[name] = partial(entry.contender.run, entry.part)
            if entry.contender.cost == "graph" and entry.part < case.targets:
                runs[f"{name}, one target"] = partial(entry.contender.run, 1)
    forward, _ = _seconds(subject.forward, limits.device)
    round_ += forward * len(runs)
    rounds = max(min(FEWEST, limits.rounds), min(limits.rounds, int(ROUNDS_OF_BUDGET * limits.budget / round_)))
    every = len(runs) if forward > SLOW else 1
    stick, timings = alternate(
        subject.forward, runs, rounds, device=limits.device, progress=case.name, every=every, warm=True
    )
    for name, entry in entries.items():
        entry.timing = entry.timing or timings[name]
        entry.one = entry.one or timings.get(f"{name}, one target")
        if entry.contender.cost == "targets" and entry.part == 1:
            known[name] = entry
    if family.fastest is None:
        family.fastest = floor.fastest_forward(subject, limits.device, min(5, limits.rounds), ready.passes)
    return _record(case, ready, family.fastest, rates, stick, timings, entries, checks, through)


def _record(
    case: Case,
    ready: Ready,
    fastest: tuple[str, float],
    rates: floor.Rates,
    stick: Timing,
    timings: dict[str, Timing],
    entries: dict[str, Entry],
    checks: dict[str, dict[str, float]],
    through: dict[str, int],
) -> dict[str, Any]:
    subject: Subject = ready.subject
    way, share = fastest
    work = floor.Work(0, 0) if ready.passes else floor.work(subject)
    head = work.seconds(rates)
    forward = statistics.median(stick.seconds)
    least = 1e3 * (share * forward + head)
    contenders: dict[str, Any] = {}
    for name, entry in entries.items():
        whole = over_all(entry, case.targets)
        contenders[name] = {
            **whole.record(),
            "way": entry.way,
            "cost": entry.contender.cost,
            "targets_run": entry.part,
            "of_floor": statistics.median(whole.ratios) * 1e3 * forward / least,
            **checks.get(name, {}),
            **({"photos_through_the_model": through[name]} if through else {}),
        }
    return {
        "group": case.group,
        "images": case.images,
        "targets": case.targets,
        "layers": subject.layers,
        "forward": stick.record(),
        "parts": {name: timings[name].record() for name in subject.parts},
        "floor": {
            "ms": least,
            "forward": way,
            "forward_share": share,
            "head_ms": 1e3 * head,
            "head_flops": work.flops,
            "head_bytes": work.traffic,
        },
        "contenders": contenders,
        "left_out": ready.left_out,
        "limits": dict(case.limits),
        "against_peers": case.against_peers,
        "note": case.note,
    }


def over_all(entry: Entry, count: int) -> Timing:
    """Timings over all targets, from those over a part."""
    kind, few, timing = entry.contender.cost, entry.part, entry.timing
    assert timing is not None
    if few == count or kind == "whole":
        return timing
    one = entry.one or Timing([0.0], [0.0])
    seconds, ratio = statistics.median(one.seconds), statistics.median(one.ratios)
    return Timing(
        [scaled(kind, seconds, value, few, count) for value in timing.seconds],
        [scaled(kind, ratio, value, few, count) for value in timing.ratios],
    )


def summary(name: str, record: dict[str, Any]) -> None:
    """A line about a case, for who waits."""
    found = {peer: entry["ratio"]["median"] for peer, entry in record["contenders"].items()}
    parts = [f"{peer} {found[peer]:.2f}" for peer in (OWN, *PEERS) if peer in found]
    print(f"{name}: forward pass {record['forward']['ms']['median']:.0f} ms; x: {', '.join(parts)}", file=sys.stderr)
