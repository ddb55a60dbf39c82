"""What is measured: a model, its input, K targets, and who explains them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

Maps = list[Tensor]
"""For each layer its maps ``[B, n, *S]`` of n targets."""

Cost = Literal["whole", "targets", "graph"]
"""How a contender's cost grows: it makes all maps in one go; target by target; or one forward pass, then target by
target."""

OWN = "mmexplain"
NAIVE = "naive loop"
GRAD_CAM = "pytorch-grad-cam"
PEERS = {NAIVE: "torch", "torch-cam": "torchcam", "captum": "captum", GRAD_CAM: "pytorch_grad_cam"}
"""Name → module that must be there."""

REPEATABLE = 32
"""Rows up to which a contender may repeat the photo for every target: beyond, a row costs no less, but memory grows."""


class CannotError(Exception):
    """A contender has no documented way to do a case; the message says why."""


class Scores(nn.Module):
    """A model as its users wrap it: photos → scores of the wanted targets, ``[B, n]``.

    Attributes:
        model: the user's.
        wanted: numbers of the targets that are scored; no more than these need is run, where the model allows it.
        by_row: the photos are repeated for every target, neighbours for one photo, and row r is scored for
            target r % n: ``[B · n, 1]``.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        super().__init__()
        self.model = model
        self.count = count
        self.want()

    def want(self, numbers: Sequence[int] | None = None, *, by_row: bool = False) -> None:
        """Choose targets; None for all."""
        self.wanted = list(range(self.count) if numbers is None else numbers)
        self.by_row = by_row

    def plain(self, inputs: Tensor) -> Any:
        """The forward pass as the model comes."""
        raise NotImplementedError


class ClassScores(Scores):
    """Logits of ``count`` classes from ``first`` on, of a model that maps inputs to logits ``[B, N]``."""

    def __init__(self, model: nn.Module, count: int, first: int = 0) -> None:
        super().__init__(model, count)
        self.first = first

    def forward(self, inputs: Tensor) -> Tensor:
        """``[B, n]``, or ``[B · n, 1]`` by row."""
        logits: Tensor = self.plain(inputs)
        columns = self.first + torch.tensor(self.wanted, device=logits.device)
        if self.by_row:
            return logits.gather(1, columns.repeat(len(logits) // len(columns))[:, None])
        return logits[:, columns]

    def plain(self, inputs: Tensor) -> Any:
        """All logits."""
        return self.model(inputs)


@dataclass
class Subject:
    """A model that is ready to be explained.

    Attributes:
        scores: the model for the peers.
        image: the prepared input ``[B, ...]``.
        layers: dotted names within ``scores.model``, the earliest first.
        explain: mmexplain, from the prepared input to the maps of all targets.
        fold: the layer's tokens → ``[B, C, *S]``, where it does not put out maps.
        repeatable: whether photos may be repeated for every target.
        alike: whether the way back costs the same for each target.
        to_input: whether the gradients of the input itself are asked for.
        parts: parts of the forward pass that are timed beside it.
    """

    scores: Scores
    image: Tensor
    layers: list[str]
    explain: Callable[[], Maps]
    fold: Callable[[Tensor], Tensor] | None = None
    repeatable: bool = True
    alike: bool = True
    to_input: bool = False
    parts: dict[str, Callable[[], Any]] = field(default_factory=dict)

    @property
    def taps(self) -> list[nn.Module]:
        """The layers that are explained."""
        return [self.scores.model.get_submodule(name) for name in self.layers]

    def folded(self, output: Tensor) -> Tensor:
        """A layer's output or its gradient as ``[B, C, *S]``."""
        return output if self.fold is None else self.fold(output)

    def forward(self) -> Any:
        """The yardstick: one forward pass of the model as it comes, without a graph."""
        with torch.no_grad():
            return self.scores.plain(self.image)


@dataclass
class Contender:
    """Someone who makes maps.

    Attributes:
        run: n → maps of the first n targets. If the cost is "whole" it is always called with all.
        cost: how it grows with n.
        seen_as: mmexplain's maps → what they look like in this one's conventions.
        alike: "equal", to ``checks.TOLERANCE``; or "correlated", where its definition differs.
    """

    run: Callable[[int], Maps]
    cost: Cost = "whole"
    seen_as: Callable[[Maps], Maps] | None = None
    alike: Literal["equal", "correlated"] = "equal"


Variants = Mapping[str, Contender]
"""Ways to use one peer; the fastest counts."""


@dataclass
class Ready:
    """A case that is built.

    Attributes:
        subject: the model and its input.
        contenders: by name, mmexplain first.
        left_out: peer → why it is not among them.
        passes: how many changed photos every contender must have shown the model; None where that is no matter.
    """

    subject: Subject
    contenders: dict[str, Variants]
    left_out: dict[str, str] = field(default_factory=dict)
    passes: int | None = None


@dataclass(frozen=True)
class Case:
    """A line of the page.

    Attributes:
        group: heading it stands under.
        name: of the case, unique.
        family: cases of one family differ in the number of their targets alone.
        images: B.
        targets: K.
        build: device → the case, ready; the same every time.
        limits: kind of device → multiple of the forward pass that is asked for.
        against_peers: whether it is to be several times as fast as the peers.
        quick: whether it belongs to the smoke run.
        note: what a reader must know of it.
    """

    group: str
    name: str
    family: str
    images: int
    targets: int
    build: Callable[[str], Ready]
    limits: Mapping[str, float] = field(default_factory=dict)
    against_peers: bool = False
    quick: bool = False
    note: str = ""


@cache
def available() -> list[str]:
    """Peers whose package is installed."""
    return [name for name, module in PEERS.items() if importlib.util.find_spec(module)]


def gathered(builders: Mapping[str, Callable[[], Variants]]) -> tuple[dict[str, Variants], dict[str, str]]:
    """What the installed contenders can do, and why the others cannot."""
    contenders: dict[str, Variants] = {}
    left_out: dict[str, str] = {}
    for name, build in builders.items():
        if name in PEERS and name not in available():
            left_out[name] = "not installed"
            continue
        try:
            contenders[name] = build()
        except CannotError as reason:
            left_out[name] = str(reason)
    return contenders, left_out


def grad_cam_case(subject: Subject) -> Ready:
    """mmexplain and every peer, all making Grad-CAM maps of one subject."""
    from peers import captum_library, grad_cam, naive, torch_cam

    freeze(subject)
    builders: dict[str, Callable[[], Variants]] = {
        OWN: lambda: {"": Contender(lambda _: subject.explain())},
        NAIVE: lambda: naive.grad_cam(subject),
        "torch-cam": lambda: torch_cam.grad_cam(subject),
        "captum": lambda: captum_library.grad_cam(subject),
        GRAD_CAM: lambda: grad_cam.grad_cam(subject),
    }
    contenders, left_out = gathered(builders)
    return Ready(subject, contenders, left_out)


def executed(subject: Subject) -> tuple[list[nn.Module], list[nn.Module]]:
    """The modules with parameters of their own in the order in which they end, up to the earliest layer and after it.

    Modules that hold the layer are in neither.
    """
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    tap, passed = subject.taps[0], False

    def end(module: nn.Module, _: object, __: object) -> None:
        nonlocal passed
        inside = module is tap or not any(child is tap for child in module.modules())
        if inside and list(module.parameters(recurse=False)):
            (after if passed else before).append(module)
        passed = passed or module is tap

    handles = [module.register_forward_hook(end) for module in subject.scores.modules()]
    try:
        with torch.no_grad():
            subject.scores(subject.image[:1])
    finally:
        for handle in handles:
            handle.remove()
    return before, after


def freeze(subject: Subject) -> None:
    """Freeze all parameters but the last one before the earliest layer, so that the peers' graphs begin late."""
    before, _ = executed(subject)
    subject.scores.requires_grad_(False)
    list(before[-1].parameters(recurse=False))[-1].requires_grad_(True)
