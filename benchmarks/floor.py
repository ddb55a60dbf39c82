"""The least that maps can cost: the fastest forward pass, and the way back as a machine at full speed would make it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cases.case import Subject, executed
from common import alternate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmexplain.products import product
from mmexplain.switches import onednn, switched_off

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


def measure_rates(device: str, tiny: bool = False) -> Rates:
    """The machine's best of several; of products by whichever library is the faster. ``tiny``: in no time, to try."""
    cuda = device.startswith("cuda")
    side, size = (8192, 2**30) if cuda else (256, 2**20) if tiny else (2048, 2**28)
    left, right = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    source, target = torch.ones(size // 4, device=device), torch.empty(size // 4, device=device)
    result = torch.empty_like(left)
    return Rates(
        2
        * side**3
        / min(_best(lambda: torch.mm(left, right, out=result), device), _best(lambda: product(left, right), device)),
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
    """Counted over the backward pass from each score alone, or from one where all are alike."""
    count = subject.scores.count
    leaf, found, written = _cut(subject)
    flops = 0
    with sdpa_kernel(SDPBackend.MATH), switched_off(onednn):
        for number in range(1 if subject.alike else count):
            with FlopCounterMode(display=False) as counter:
                torch.autograd.grad(found[:, number].sum(), leaf, retain_graph=True)
            flops += counter.get_total_flops()
    before, after = executed(subject)
    modules = [*before, *after] if subject.to_input else after
    weights = {id(weight): weight.nbytes for module in modules for weight in module.parameters()}
    return Work(flops * count if subject.alike else flops, written * (1 + count) + sum(weights.values()))


def _cut(subject: Subject) -> tuple[Tensor, Tensor, int]:
    """What is differentiated with respect to, the scores of all targets with their graph, and the bytes of all layers'
    outputs, or of the input."""
    scores, image, leaves = subject.scores, subject.image, list[Tensor]()
    sizes = [image.nbytes] if subject.to_input else []

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1] * 1  # an in-place operation that follows must not write to a leaf

    def measure(_: nn.Module, __: object, output: Tensor) -> None:
        sizes.append(output.nbytes)

    if subject.to_input:
        handles = []
        image = image.clone().requires_grad_()
        leaves.append(image)
    else:
        handles = [tap.register_forward_hook(measure) for tap in subject.taps]
        handles.append(subject.taps[0].register_forward_hook(cut))
    flags = [parameter.requires_grad for parameter in scores.parameters()]
    scores.requires_grad_(False)
    scores.want()
    try:
        # The counter knows neither fused attention nor oneDNN's recurrent layers.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), switched_off(onednn):
            found = scores(image)
        return leaves[0], found, sum(sizes)
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in zip(scores.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)


def fastest_forward(subject: Subject, device: str, rounds: int, photos: int | None = None) -> tuple[str, float]:
    """Which way of running the forward pass is the fastest, and its time as a multiple of the plain one's.

    Args:
        subject: the model and its input.
        device: where.
        rounds: how often each is timed; a slow model twice.
        photos: how many copies of the input go through at once, instead of the input as it is.
    """
    model = subject.scores
    image = subject.image if photos is None else subject.image.repeat(photos, *[1] * (subject.image.ndim - 1))
    last: Any = {4: torch.channels_last, 5: torch.channels_last_3d}[image.ndim]

    def run(inputs: Tensor, mode: Any) -> Callable[[], Any]:
        def forward() -> Any:
            with mode():
                return model.plain(inputs)

        return forward

    start = time.perf_counter()
    subject.forward()
    _wait(device)
    rounds = min(2, rounds) if time.perf_counter() - start > SLOW else rounds
    runs = {"inference mode": run(image, torch.inference_mode)}
    if photos is not None:
        runs["as it comes"] = run(image, torch.no_grad)
    _, timings = alternate(subject.forward, runs, rounds, device=device)
    shares = {name: statistics.median(timing.ratios) for name, timing in timings.items()}
    shares.setdefault("as it comes", 1.0)
    plain = statistics.median(timings["inference mode"].seconds) / shares["inference mode"]
    model.to(memory_format=last)
    try:
        runs = {"": run(image.contiguous(memory_format=last), torch.inference_mode)}
        _, timings = alternate(subject.forward, runs, rounds, device=device)
    finally:
        model.to(memory_format=torch.contiguous_format)
    shares["channels last"] = statistics.median(timings[""].seconds) / plain
    best = min(shares, key=lambda name: shares[name])
    return best, shares[best]
