"""What was asked for, met or missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cases.case import GRAD_CAM, OWN, PEERS

TWICE, TENFOLD = 2.0, 10.0
SLACK = 1.0
"""Mebibytes by which two peaks may differ and be called the same."""


@dataclass(frozen=True)
class Verdict:
    """One line.

    Attributes:
        case: name of the case.
        asked: what was asked for.
        value: what was found, with its unit.
        met: whether that is enough.
    """

    case: str
    asked: str
    value: str
    met: bool


def fastest(record: Mapping[str, Any]) -> str | None:
    """The peer with the least median, among those that can do the case."""
    peers = [name for name in PEERS if name in record["contenders"]]
    return min(peers, key=lambda name: ratio(record, name), default=None)


def ratio(record: Mapping[str, Any], name: str) -> float:
    """Median multiple of the forward pass."""
    found: float = record["contenders"][name]["ratio"]["median"]
    return found


def times_as_fast(record: Mapping[str, Any], name: str) -> float:
    """How many times a peer's time is mmexplain's."""
    return ratio(record, name) / ratio(record, OWN)


def verdicts(cases: Mapping[str, Mapping[str, Any]], device: str) -> list[Verdict]:
    """All that apply to the cases that were measured.

    Args:
        cases: name → record.
        device: whose limits hold.
    """
    found: list[Verdict] = []
    kind = "cuda" if device.startswith("cuda") else "cpu"
    for name, record in cases.items():
        limit = record["limits"].get(kind)
        own = ratio(record, OWN)
        if limit is not None:
            found.append(Verdict(name, f"at most {limit:g} forward passes", f"{own:.2f}", own <= limit))
    for name, record in cases.items():
        peer = fastest(record)
        if record["against_peers"] and peer is not None:
            times = times_as_fast(record, peer)
            asked = f"at least {TWICE:g} x as fast as the fastest peer"
            found.append(Verdict(name, asked, f"{times:.2f} x {peer}", times >= TWICE))
        if record["against_peers"] and GRAD_CAM in record["contenders"]:
            times = times_as_fast(record, GRAD_CAM)
            asked = f"at least {TENFOLD:g} x as fast as {GRAD_CAM}"
            found.append(Verdict(name, asked, f"{times:.1f} x", times >= TENFOLD))
    for name, record in cases.items():
        peer = fastest(record)
        if peer is not None:
            times = times_as_fast(record, peer)
            found.append(Verdict(name, "never slower than a peer", f"{times:.2f} x {peer}", times >= 1))
    for name, record in cases.items():
        peaks = record.get("peak_mib") or {}
        held = {peer: peaks[peer] for peer in PEERS if peaks.get(peer) is not None}
        if held and peaks.get(OWN) is not None:
            least = min(held, key=lambda peer: held[peer])
            value = f"{peaks[OWN]:.0f} MiB, {least} {held[least]:.0f} MiB"
            found.append(Verdict(name, "no more memory than any peer", value, peaks[OWN] <= held[least] + SLACK))
    return found
