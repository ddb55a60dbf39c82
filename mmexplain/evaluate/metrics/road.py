"""ROAD: what the score loses when pixels are replaced by a guess from their surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

PERCENTILES = (20, 30, 40, 50, 60, 70, 80, 90)
"""Pixels are removed from there on (80 % of them at 20, 10 % at 90)."""

NOISE = 0.01
"""Standard deviation of what is added to the guess, in the model's input, as in the authors' released code."""

_NEIGHBOURS = [
    (dy, dx, 1 / 6 if 0 in (dy, dx) else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
]


def removed(ordered: Tensor, percentile: int, least: bool = False) -> Tensor:
    """The pixels that are removed, ``[n]`` bool over the flattened map: those from a percentile of the
    map's values (interpolated) on; or as many of the ``least`` relevant. Of equal pixels at the threshold those go that
    come first in the order, so that the same number is removed for every map.

    Args:
        ordered: ``[n]`` by falling relevance, see :func:`mmexplain.evaluate.metrics.insertion_deletion.order`.
        percentile: 0 for all, 100 for the most relevant alone.
        least: see above.
    """
    number = len(ordered) + (1 - len(ordered)) * percentile // 100
    gone = torch.zeros(len(ordered), dtype=torch.bool, device=ordered.device)
    gone[ordered[len(ordered) - number :] if least else ordered[:number]] = True
    return gone


def imputed(image: Tensor, gone: Tensor, generator: torch.Generator | None = None, noise: float = NOISE) -> Tensor:
    """Noisy linear imputation: every removed pixel becomes the weighted mean of its neighbours, plus noise.

    Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022: weights 1/6 for
    the four direct and 1/12 for the four diagonal neighbours, shared out among those that there are at the border.
    Neighbours that are removed too are unknowns of one sparse linear system, which is solved exactly.

    Args:
        image: ``[C, h, w]``.
        gone: bool ``[h, w]``, or flattened; not all of them.
        generator: of the noise, on the CPU.
        noise: its standard deviation; 0 for none.

    Returns:
        ``[C, h, w]`` like ``image``.

    Raises:
        ValueError: nothing remains to guess from.
    """
    height, width = image.shape[-2:]
    missing: NDArray[np.bool_] = gone.reshape(height, width).cpu().numpy()
    if missing.all():
        raise ValueError("all pixels are removed: nothing remains to guess them from")
    rows, columns = missing.nonzero()
    if not len(rows):
        return image.clone()
    number = np.full(missing.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    known = image.detach().cpu().double().numpy()
    total = np.zeros(len(rows))
    given = np.zeros((len(rows), len(known)))
    entries: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]] = []
    for dy, dx, weight in _NEIGHBOURS:
        y, x = rows + dy, columns + dx
        inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).nonzero()[0]
        y, x = y[inside], x[inside]
        total[inside] += weight
        other = number[y, x]
        unknown = other >= 0
        given[inside[~unknown]] += weight * known[:, y[~unknown], x[~unknown]].T
        entries.append((inside[unknown], other[unknown], np.full(int(unknown.sum()), -weight)))
    entries.append((np.arange(len(rows)), np.arange(len(rows)), total))
    at, to, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    system = sparse.csc_matrix((values, (at, to)), shape=(len(rows), len(rows)))
    # The system is symmetric and its diagonal dominates: an ordering made for that, without pivots, is faster.
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    found = torch.from_numpy(factors.solve(given).T.copy())
    if noise:
        found += noise * torch.randn(found.shape, generator=generator, dtype=torch.float64)
    out = image.clone()
    out[:, torch.from_numpy(missing).to(image.device)] = found.to(image)
    return out


def combined(most: Sequence[float], least: Sequence[float]) -> float:
    """Mean over percentiles of (score without the least relevant pixels − score without the most relevant) / 2, as
    pytorch-grad-cam combines the paper's two orders. Between −1/2 and 1/2 for probabilities; about 0 for
    a random order. Not for flat maps, which have none (see
    :func:`mmexplain.evaluate.metrics.insertion_deletion.orders`)."""
    return float((np.asarray(least, dtype=float) - np.asarray(most, dtype=float)).mean() / 2)
