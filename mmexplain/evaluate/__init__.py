"""Measuring maps: published protocols, run over data, with confidence intervals; resumable."""

from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.registry import PROTOCOLS, get
from mmexplain.evaluate.result import Result
from mmexplain.evaluate.runner import run

__all__ = ["PROTOCOLS", "Item", "Metric", "Protocol", "Result", "Row", "get", "run"]
