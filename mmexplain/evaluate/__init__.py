"""Measuring maps: published protocols, run over data, with confidence intervals; resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.registry import PROTOCOLS, get

if TYPE_CHECKING:
    from mmexplain.evaluate.result import Result
    from mmexplain.evaluate.runner import run

__all__ = ["PROTOCOLS", "Item", "Metric", "Protocol", "Result", "Row", "get", "run"]


def __getattr__(name: str) -> Any:
    """What needs torch loads when it is first used: the command line names the protocols without it."""
    if name not in ("Result", "run"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmexplain.evaluate.result import Result
    from mmexplain.evaluate.runner import run

    globals().update(Result=Result, run=run)
    return globals()[name]
