"""What an evaluation protocol is: items to go through, and numbers that each of them gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

Row = dict[str, Any]
"""One measurement, JSON-able. It holds labels (text, such as ``method``, ``layer``, ``kind``) and numbers by the name
of the metric; None for a number that is not defined there (the correlation of a flat map)."""


@dataclass(frozen=True)
class Item:
    """One thing to measure: a photo, a caption, a clip.

    Attributes:
        key: names it among the others, in a file too, and stays the same from run to run.
        content: what the protocol needs of it.
        file: what is measured, where ``content`` does not name it by a whole path.
    """

    key: str
    content: Any
    file: Path | None = None


@dataclass(frozen=True)
class Metric:
    """How a number of a row is summed up and shown.

    Attributes:
        name: its key in rows.
        title: for tables.
        percent: shares are shown in per cent.
        better: "higher", "lower" or "" where neither is.
        within: a key of rows ("class"): the mean is first taken within each of its values, and then over these.
    """

    name: str
    title: str
    percent: bool = False
    better: str = "higher"
    within: str = ""


class Protocol(ABC):
    """A published way to measure maps.

    A subclass says which items there are and measures a batch of them. It neither stores nor averages:
    :func:`mmexplain.evaluate.run` does, and resumes where it stopped.

    Attributes:
        name: as the user writes it.
        title: of its tables, with the paper.
        labels: keys of rows that name what a mean is taken over, in the order of the table's columns.
        metrics: what its rows hold.
        compares: two models, and is made with the task of the other as ``against``.
        batch: items measured at once.
        task: that explains, where one task does; rows of other weights are told from its own by a checksum.
        data: the folder or file of its data, where it has one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    labels: ClassVar[tuple[str, ...]] = ("method",)
    metrics: ClassVar[tuple[Metric, ...]]
    compares: ClassVar[bool] = False
    batch: int = 8
    task: Any
    data: Path

    @classmethod
    def wants(cls, data: Path) -> str | None:
        """The task that a model must serve for these data; None where the model decides."""
        return None

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What the rows depend on besides the items and the weights (model, methods, thresholds), JSON-able: rows that
        were stored under other settings are not mixed with these."""

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """All items, in a fixed order. Cheap, but where :meth:`preparing` says otherwise: nothing is decoded yet.

        Raises:
            InputError: the data cannot be read.
        """

    @abstractmethod
    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """The rows of each of a batch of items; none for an item that the protocol leaves out."""

    def preparing(self) -> str:
        """What :meth:`items` does when that takes a while ("making the questions"), to be told meanwhile."""
        return ""

    def notes(self) -> Sequence[str]:
        """What a reader of the table must know, a sentence each: how it departs from what was published, say."""
        return ()


Progress = Callable[[int, int], None]
"""Told how many items of how many are done."""
