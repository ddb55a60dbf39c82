"""Whether contenders make the same maps, and show the model as many photos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases.case import Contender, Maps, Ready

TOLERANCE = 1e-3
"""Largest difference of two maps, relative to the maximum of the map. Convolutions that sum in another order, as those
of several photos do, differ by 5e-4 of the faintest maps of random weights."""

CORRELATED = 0.95
"""Least correlation of maps whose definitions differ."""


def difference(own: Maps, found: Maps) -> float:
    """Largest difference of the first maps, relative to each map's maximum; all targets that were made are compared.

    Raises:
        SystemExit: all maps are empty, not finite, or of other shapes.
    """
    largest = 0.0
    for reference, value in zip(own, found, strict=True):
        expected, given = reference[:, : value.shape[1]].double().cpu(), value.detach().double().cpu()
        if expected.shape != given.shape:
            raise SystemExit(f"maps of {tuple(given.shape)} beside {tuple(expected.shape)}")
        _require_finite(expected, given)
        if not bool(expected.any()):
            raise SystemExit("every map is empty: nothing is compared")
        scale = expected.abs().flatten(2).amax(2)
        scale = scale.clamp(min=float(scale.max()) * 1e-3)
        largest = max(largest, float(((expected - given).abs().flatten(2).amax(2) / scale).max()))
    return largest


def _require_finite(*maps: torch.Tensor) -> None:
    if not all(bool(torch.isfinite(one).all()) for one in maps):
        raise SystemExit("maps that are not finite (NaN or Inf)")


def correlation(own: Maps, found: Maps) -> float:
    """Smallest correlation of a map with its counterpart."""
    pairs = zip(own, found, strict=True)
    flat = [
        torch.stack([a.flatten(), b.flatten()])
        for reference, value in pairs
        for a, b in zip(reference.double().cpu().flatten(0, 1), value.double().cpu().flatten(0, 1), strict=True)
    ]
    _require_finite(*flat)
    return min(float(torch.corrcoef(pair)[0, 1]) for pair in flat)


def check(name: str, own: Maps, contender: Contender, maps: Maps) -> dict[str, float]:
    """How the maps differ from mmexplain's.

    Raises:
        SystemExit: by too much.
    """
    seen = own if contender.seen_as is None else contender.seen_as(own)
    if contender.alike == "correlated":
        together = correlation(seen, maps)
        if not together >= CORRELATED:
            raise SystemExit(f"{name}: maps correlate with mmexplain's by {together:.3f} only")
        return {"correlation": together}
    off = difference(seen, maps)
    if not off <= TOLERANCE:
        raise SystemExit(f"{name}: maps differ from mmexplain's by {off:.1e}")
    return {"difference": off}


def passes(ready: Ready, run: Callable[[], Any]) -> int:
    """Photos that go through the model in a call."""
    rows = 0

    def count(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    handle = ready.subject.scores.model.register_forward_pre_hook(count)
    try:
        run()
    finally:
        handle.remove()
    return rows
