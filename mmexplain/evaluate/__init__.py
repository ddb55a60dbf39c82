"""Measuring maps: published protocols, run over data, with confidence intervals; resumable."""

from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.result import Result
from mmexplain.evaluate.runner import run

__all__ = ["Item", "Metric", "Protocol", "Result", "Row", "run"]
