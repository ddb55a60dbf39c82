"""K gradients of one value: vectorised by ``vmap``, or one backward pass after the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mmexplain.errors import LayerError

_log = logging.getLogger(__name__)

_REFUSALS = (RuntimeError, TypeError, ValueError)
"""What operators without a batching rule and backward functions written in Python raise under vmap."""


def gradient(value: Tensor, vector: Tensor, wanted: Sequence[Tensor], *, create_graph: bool) -> Sequence[Tensor | None]:
    """Vector-Jacobian product of ``value`` with respect to each of ``wanted``; None where it does not depend on it."""
    # A backward pass belongs outside of the caller's autocast, which on CPU would reach into it.
    with torch.autocast(value.device.type, enabled=False):
        return torch.autograd.grad(
            value, wanted, vector, retain_graph=True, create_graph=create_graph, allow_unused=True
        )


def vectorized(
    value: Tensor, vectors: Tensor, wanted: Sequence[Tensor], *, create_graph: bool
) -> Sequence[Tensor | None]:
    """Gradients ``[k, ...]`` for k ``vectors``, by vmap or, where that fails, in turn."""
    if len(vectors) > 1 and not create_graph:
        try:
            return at_once([value], [vectors], wanted)
        except torch.cuda.OutOfMemoryError:
            raise
        except _REFUSALS as error:
            # Where the fault lies elsewhere, the loop raises it again.
            _log.debug("vmap failed (%s); going through the targets in turn", error)
    return in_turn(value, vectors, wanted, create_graph=create_graph)


def at_once(
    values: Sequence[Tensor], vectors: Sequence[Tensor], wanted: Sequence[Tensor], size: int | None = None
) -> Sequence[Tensor | None]:
    """Gradients ``[k, ...]`` of ``values``, pulled back from k ``vectors`` of each by vmap, ``size`` of them at a time;
    raises where that fails."""
    reached: list[bool] = []

    def product(*vectors: Tensor) -> tuple[Tensor, ...]:
        grads = torch.autograd.grad(values, wanted, vectors, retain_graph=True, allow_unused=True)
        reached[:] = [grad is not None for grad in grads]
        return tuple(grad for grad in grads if grad is not None)

    if len(vectors[0]) == 1:
        with torch.autocast(values[0].device.type, enabled=False):
            single = iter(product(*(vector[0] for vector in vectors)))
        return [next(single)[None] if there else None for there in reached]
    # autograd's own ``is_grads_batched`` does not know how to batch convolutions: it goes through them in turn.
    with torch.autocast(values[0].device.type, enabled=False), _without_advice():
        slices = zip(*(vector.split(size or len(vector)) for vector in vectors), strict=True)
        parts = [torch.vmap(product)(*some) for some in slices]
    found = iter(parts[0] if len(parts) == 1 else [torch.cat(part) for part in zip(*parts, strict=True)])
    return [next(found) if there else None for there in reached]


_silent = 0
"""How many threads are within :func:`_without_advice`: the switch is one for all."""
_silent_lock = threading.Lock()


@contextmanager
def _without_advice() -> Iterator[None]:
    """vmap warns of operators that it goes through in turn, which the user can do nothing about. The first thread
    switches that off, the last one on."""
    global _silent
    switch = getattr(torch._C._functorch, "_set_vmap_fallback_warning_enabled", lambda _: None)
    with _silent_lock:
        _silent += 1
        switch(False)
    try:
        yield
    finally:
        with _silent_lock:
            _silent -= 1
            if not _silent:
                switch(True)


def in_turn(value: Tensor, vectors: Tensor, wanted: Sequence[Tensor], *, create_graph: bool) -> Sequence[Tensor | None]:
    """Gradients ``[k, ...]`` for k ``vectors``, one backward pass each: the reference."""
    columns = [gradient(value, vector, wanted, create_graph=create_graph) for vector in vectors]
    return [_stack(grads, wanted[i]) for i, grads in enumerate(zip(*columns, strict=True))]


def required(found: Tensor | None, layer: str) -> Tensor:
    """``found``, or a LayerError that says that nothing depends on the layer."""
    if found is None:
        raise LayerError(f"no target's score depends on layer {layer!r}; choose a layer on the way to the score")
    return found


def _stack(grads: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """A target that does not depend on the layer has gradient zero."""
    if all(grad is None for grad in grads):
        return None
    return torch.stack([torch.zeros_like(like) if grad is None else grad for grad in grads])
