"""Class activation maps of principal components: pure functions as in :mod:`.class_activation`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmexplain.methods.class_activation import _exact

DIRECT = 64
"""Gram matrices up to this size are decomposed as a whole: there that is as fast as an iteration."""

STEPS = 16
"""Vectors of one Krylov space."""

RESTARTS = 6
"""Krylov spaces to try before a matrix is decomposed after all."""


def eigencam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Eigen-CAM: L = X v_1, with v_1 the first right singular vector of the activations X ``[places, channels]``.

    Muhammad & Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020 (arXiv 2008.00299).
    As in the paper, X is not centred. After a ReLU no value of L is negative. No target and no gradient goes into it:
    the K maps of an input are the same.

    A singular vector has no sign of its own. Here L correlates positively with the sum over the channels
    (⟨L, Σ_k X_k⟩ ≥ 0); where that is exactly zero, its largest value is positive.

    The vector is found in the smaller of the Gram matrices X Xᵀ and Xᵀ X, in the precision of the maps.

    Args:
        activations: ``[B, 1, C, *S]``.
        gradients: ``[B, K, C, *S]``, of which only K is read.

    Returns:
        Maps ``[B, K, *S]``, float32 (float64 for float64 input); zero where all activations are.
    """
    own = _exact(activations).squeeze(1)
    maps = _projected(1, lambda _: own)
    return maps.expand(-1, gradients.shape[1], *maps.shape[2:])


def eigengradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Eigen-Grad-CAM: :func:`eigencam` of ∂y/∂A ⊙ A for each target, as pytorch-grad-cam introduced it.

    The sign rule makes values positive where the leading component speaks for the target: L has the sign of the
    rank-one approximation of HiResCAM.

    Args:
        activations: ``[B, 1, C, *S]``.
        gradients: ``[B, K, C, *S]``.

    Returns:
        Maps ``[B, K, *S]``, float32 (float64 for float64 input).
    """
    own = _exact(activations).squeeze(1)
    return _projected(gradients.shape[1], lambda k: own * _exact(gradients[:, k]))


def _projected(count: int, values: Callable[[int], Tensor]) -> Tensor:
    """X v_1 of ``count`` matrices for each input, ``[B, count, *S]``; ``values(k)`` is Xᵀ as ``[B, C, *S]``.

    The values are made a second time rather than kept: beside the maps only Gram matrices are held for all.
    """

    def scaled(k: int) -> tuple[Tensor, Tensor]:
        # The squares of small values would be zero.
        flat = values(k).flatten(2)
        top = flat.detach().abs().amax((1, 2), keepdim=True)
        return flat / torch.where(top == 0, 1.0, top), top[:, 0]

    grams = []
    for k in range(count):
        x, _ = scaled(k)
        grams.append(x @ x.mT if x.shape[1] <= x.shape[2] else x.mT @ x)
    vectors = _leading(torch.stack(grams, 1))
    maps = []
    for k in range(count):
        x, top = scaled(k)
        vector = vectors[:, k].unsqueeze(2)
        if x.shape[1] <= x.shape[2]:
            found = (x.mT @ vector).squeeze(2)
        else:
            found = vector.squeeze(2) * torch.linalg.vector_norm(x @ vector, dim=1)
        agrees = (found * x.sum(1)).sum(1, keepdim=True)
        largest = found.gather(1, found.abs().argmax(1, keepdim=True))
        maps.append(found * torch.where(agrees == 0, largest, agrees).sign() * top)
    flat: Tensor = torch.stack(maps, 1)
    return flat.reshape(*flat.shape[:2], *values(0).shape[2:])


def _leading(grams: Tensor) -> Tensor:
    """Eigenvectors ``[..., m]`` of the largest eigenvalues of symmetric matrices ``[..., m, m]``."""
    if not bool(grams.isfinite().all()):
        # eigh would raise; the engine tells which layer's gradients overflow.
        return torch.full_like(grams[..., 0], torch.nan)
    if grams.requires_grad:
        return _differentiable(grams)
    if grams.shape[-1] <= DIRECT:
        return _decomposed(grams)
    return _iterated(grams)


def _decomposed(grams: Tensor) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(grams).eigenvectors
    return vectors[..., -1]


def _differentiable(grams: Tensor) -> Tensor:
    """:func:`_leading`, with the derivative dv = (λ_1 − G)⁺ dG v, which does not ask that the other eigenvalues
    differ, as that of ``eigh`` does: dead channels make many of them zero."""
    values, vectors = torch.linalg.eigh(grams.detach())
    gaps = values[..., -1:] - values
    inverse = torch.where(gaps > 0, 1 / torch.where(gaps > 0, gaps, 1.0), 0.0)
    leading = vectors[..., -1:]
    change = vectors.mT @ (grams @ leading)
    found: Tensor = leading + vectors @ (inverse.unsqueeze(-1) * change)
    return found.squeeze(-1)


def _iterated(grams: Tensor) -> Tensor:
    """:func:`_leading` by restarted Lanczos steps with full orthogonalisation, many times as fast as ``eigh`` for
    matrices of some hundred rows. What has not converged to rounding in the end goes through ``eigh``."""
    size = grams.shape[-1]
    # Drawn at random, so that it is orthogonal to no eigenvector, and always the same.
    start = torch.randn(size, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector = start.to(grams).expand(*grams.shape[:-1], 1)
    tolerance = 16 * torch.finfo(grams.dtype).eps
    for _ in range(RESTARTS):
        vector, value, residual = _krylov(grams, vector)
        done = residual <= tolerance * value
        if bool(done.all()):
            return vector.squeeze(-1)
    return torch.where(done, vector.squeeze(-1), _decomposed(grams))


def _krylov(grams: Tensor, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best eigenvector ``[..., m, 1]`` in the Krylov space of ``vector``, its value and residual ``[..., 1]``."""
    basis = grams.new_zeros(*grams.shape[:-1], STEPS)
    images = torch.zeros_like(basis)
    for step in range(STEPS):
        known = basis[..., :step]
        before = torch.linalg.vector_norm(vector, dim=-2, keepdim=True)
        for _ in range(2):
            vector = vector - known @ (known.mT @ vector)
        norm = torch.linalg.vector_norm(vector, dim=-2, keepdim=True)
        # What is left of a vector that lies in the space already is rounding: a zero column changes nothing.
        fresh = norm > 16 * torch.finfo(grams.dtype).eps * before
        vector = torch.where(fresh, vector / torch.where(fresh, norm, 1.0), 0.0)
        basis[..., step : step + 1] = vector
        vector = grams @ vector
        images[..., step : step + 1] = vector
    values, turns = torch.linalg.eigh(basis.mT @ images)
    turn = turns[..., -1:]
    found, image = basis @ turn, images @ turn
    value = values[..., -1:]
    residual = torch.linalg.vector_norm(image - value.unsqueeze(-1) * found, dim=-2)
    norm = torch.linalg.vector_norm(found, dim=-2, keepdim=True)
    # A zero matrix may answer with a zero column.
    return found / torch.where(norm == 0, 1.0, norm), value, residual
