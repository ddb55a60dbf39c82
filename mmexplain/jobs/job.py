"""What a run does to every input: all that its rows depend on, as it is written down in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mmexplain.errors import InputError
from mmexplain.jobs.schema import FORMAT
from mmexplain.precisions import require_known

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "caption": ("beam", "whole", "score", "text", "prompt"),
    "vqa": ("targets", "top", "score", "text"),
    "classify": ("targets", "top"),
    "action": ("targets", "top", "frames", "stride", "sampling"),
}
"""Task → what its ``explain`` may be told besides methods and layers; ``targets`` are answers, classes or actions that
every input is explained for."""


@dataclass(frozen=True)
class Job:
    """What is done to every input.

    Attributes:
        task: "caption", "vqa", "classify" or "action".
        model: identifier or path.
        methods: names from the registry, with their parameters.
        layers: dotted names or globs; none for the model's default.
        options: of the task, see :data:`OPTIONS`.
        seed: of what methods draw at random.
        device: as :func:`mmexplain.load` takes it.
        precision: what the part of the model that sees the photo runs in, see :mod:`mmexplain.precision`.
        overlays: whether each map is written as a picture too.
        batch: inputs at a time; 0 while it is not yet known.
        shard: inputs whose rows are one file; 0 while it is not yet known.
        map_shape: of every map, None where they differ.
        pixel_methods: names of the methods whose maps have a channel axis.
        weights: checksum of the model's parameters.
        source: where the inputs came from.
        reading: how they were read: ``images``, ``generate``, ``question``, ``limit``.
        count: how many there are.
        manifest: checksum of the frozen manifest.
        versions: of the programs that made it, for the record.
    """

    task: str
    model: str
    methods: tuple[str, ...] = ("gradcam",)
    layers: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    overlays: bool = False
    batch: int = 0
    shard: int = 0
    map_shape: tuple[int, ...] | None = None
    pixel_methods: tuple[str, ...] = ()
    weights: str = ""
    source: str = ""
    reading: Mapping[str, Any] = field(default_factory=dict)
    count: int = 0
    manifest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in OPTIONS:
            raise InputError(f"unknown task {self.task!r}; there are: {', '.join(OPTIONS)}")
        require_known(self.precision)
        for name in self.options:
            if name not in OPTIONS[self.task]:
                known = ", ".join(OPTIONS[self.task])
                raise InputError(f"task {self.task!r} has no option {name!r}; there are: {known}")

    @property
    def shards(self) -> int:
        """How many files the rows make."""
        return -(-self.count // self.shard)

    def stretch(self, number: int) -> tuple[int, int]:
        """Numbers of the first input of a shard, and of the first after it."""
        return number * self.shard, min((number + 1) * self.shard, self.count)

    def differing(self, other: Job) -> list[str]:
        """Names of what rows depend on that is not the same; of weights only where both are known."""
        names = ["task", "model", "methods", "layers", "options", "seed", "precision", "overlays"]
        if self.weights and other.weights:
            names.append("weights")
        mine, others = self.to_dict(), other.to_dict()
        return [name for name in names if mine[name] != others[name]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` reads it back."""
        record = {name: _plain(value) for name, value in asdict(self).items()}
        return {"format": FORMAT, **record}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Job:
        """Inverse of :meth:`to_dict`.

        Raises:
            InputError: it is of another format.
        """
        if record.get("format") != FORMAT:
            raise InputError(f"a store of format {record.get('format')!r}; this version reads {FORMAT!r}")
        names = {found.name for found in fields(cls)}
        tuples = {"methods", "layers", "map_shape", "pixel_methods"}
        known: dict[str, Any] = {}
        for name in names & record.keys():
            value = record[name]
            known[name] = tuple(value) if name in tuples and value is not None else value
        return cls(**known)


def _plain(value: Any) -> Any:
    match value:
        case tuple() | list():
            return [_plain(part) for part in value]
        case Mapping():
            return {str(name): _plain(part) for name, part in value.items()}
    return value
