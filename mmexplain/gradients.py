"""K gradients of one value: vectorised by ``vmap``, or one backward pass after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

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
            with torch.autocast(value.device.type, enabled=False):
                return torch.autograd.grad(
                    value, wanted, vectors, retain_graph=True, allow_unused=True, is_grads_batched=True
                )
        except torch.cuda.OutOfMemoryError:
            raise
        except _REFUSALS as error:
            # Where the fault lies elsewhere, the loop raises it again.
            _log.debug("vmap failed (%s); going through the targets in turn", error)
    return in_turn(value, vectors, wanted, create_graph=create_graph)


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
