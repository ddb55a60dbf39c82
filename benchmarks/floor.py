"""The least that maps can cost: the fastest forward pass, and the way back as a machine at full speed would make it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from cases.case import Subject, executed
from common import alternate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

SLOW = 2.0
"""Seconds from which a forward pass is measured twice only."""


@dataclass(frozen=True)
class Rates:
    """What the machine can do.

    Attributes:
        flops: floating-point operations a second in a float32 matrix product.
        bandwidth: bytes a second, read and written, in a copy.
    """

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What the way back from K scores to the earliest layer takes.

    Attributes:
        flops: operations, counted.
        traffic: bytes: activations read, K gradients written, the head's weights read once.
    """

    flops: float
    traffic: float

    def seconds(self, rates: Rates) -> float:
        """By what takes longer."""
        return max(self.flops / rates.flops, self.traffic / rates.bandwidth)


def measure_rates(device: str) -> Rates:
    """The machine's best of several."""
    cuda = device.startswith("cuda")
    side, size = (8192, 2**30) if cuda else (2048, 2**28)
    left, right = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    source, target = torch.ones(size // 4, device=device), torch.empty(size // 4, device=device)
    product = torch.empty_like(left)
    return Rates(
        2 * side**3 / _best(lambda: torch.mm(left, right, out=product), device),
        2 * size / _best(lambda: target.copy_(source), device),
    )


def _best(run: Callable[[], Any], device: str) -> float:
    found = []
    for _ in range(7):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def work(subject: Subject) -> Work:
    """Counted over the backward pass from each score to the earliest layer alone, or from one where all are alike."""
    scores, image = subject.scores, subject.image
    tap = subject.taps[0]
    leaves: list[Tensor] = []

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1] * 1  # an in-place operation that follows must not write to a leaf

    sizes: list[int] = []
    measured = [other.register_forward_hook(lambda _, __, output: sizes.append(output.nbytes)) for other in subject.taps]
    flags = [parameter.requires_grad for parameter in scores.parameters()]
    handle = tap.register_forward_hook(cut)
    scores.requires_grad_(False)
    scores.want()
    numbers = range(1) if subject.alike else range(scores.count)
    flops = 0
    try:
        # The counter knows neither fused attention nor oneDNN's recurrent layers.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), without_onednn():
            found = scores(image)
            for number in numbers:
                with FlopCounterMode(display=False) as counter:
                    torch.autograd.grad(found[:, number].sum(), leaves[0], retain_graph=True)
                flops += counter.get_total_flops()
    finally:
        for hook in (handle, *measured):
            hook.remove()
        for parameter, flag in zip(scores.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
    if subject.alike:
        flops *= scores.count
    _, after = executed(subject)
    weights = {id(weight): weight.nbytes for module in after for weight in module.parameters()}
    return Work(flops, sum(sizes) * (1 + scores.count) + sum(weights.values()))


@contextmanager
def without_onednn() -> Iterator[None]:
    """PyTorch's own operators on the CPU."""
    backend: Any = torch.backends.mkldnn
    before, backend.enabled = backend.enabled, False
    try:
        yield
    finally:
        backend.enabled = before


def fastest_forward(subject: Subject, device: str) -> tuple[str, float]:
    """Which way of running the forward pass is the fastest, and its time as a share of the plain one's."""
    image, model = subject.image, subject.scores
    last: Any = {4: torch.channels_last, 5: torch.channels_last_3d}[image.ndim]

    def run(photos: Tensor) -> Callable[[], Any]:
        @torch.inference_mode()
        def forward() -> Any:
            return model.plain(photos)

        return forward

    start = time.perf_counter()
    subject.forward()
    _wait(device)
    rounds = 2 if time.perf_counter() - start > SLOW else 5
    shares = {"as it comes": 1.0}
    _, contiguous = alternate(subject.forward, {"": run(image)}, rounds, device=device)
    shares["inference mode"] = statistics.median(contiguous[""].ratios)
    plain = statistics.median(contiguous[""].seconds) / shares["inference mode"]
    model.to(memory_format=last)
    try:
        runs = {"": run(image.contiguous(memory_format=last))}
        _, turned = alternate(subject.forward, runs, rounds, device=device)
    finally:
        model.to(memory_format=torch.contiguous_format)
    shares["channels last"] = statistics.median(turned[""].seconds) / plain
    best = min(shares, key=lambda name: shares[name])
    return best, shares[best]
