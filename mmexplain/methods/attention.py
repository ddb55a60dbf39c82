"""Maps from a transformer's attention matrices: rollout, relevance, and how sensitive the score is to them.

Shapes, everywhere in this file: ``matrices`` are L layers of attention A ``[B, 1, heads, N, N]``, first to last, row i
what token i takes from each token; ``gradients`` L layers ∇A ``[B, K, heads, N, N]`` of K scores; ``start``
``[B, K, N]``, how much of each token that leaves the last layer is read, sums to 1; results ``[B, K, N]``, float32 (or
float64). Where a product of matrices L times is published, row vectors are pushed through from the last layer to the
first, which is the same for the rows that are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmexplain.errors import MethodError

if TYPE_CHECKING:
    from mmexplain.probe import Probe

ATTENTION = "attention"
"""Layer name under which maps of the attention of all layers are filed."""

_HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda matrix: matrix.mean(2),
    "max": lambda matrix: matrix.amax(2),
    "min": lambda matrix: matrix.amin(2),
}


def rollout(matrices: Sequence[Tensor], start: Tensor, *, heads: str = "mean") -> Tensor:
    """start · Ã_L ⋯ Ã_1, where Ã_l = (A_l + I) / 2 with its rows made to sum to 1; see :func:`attention_rollout`."""
    row = start
    for matrix in reversed(matrices):
        joined = _HEADS[heads](matrix)
        share = row / (1 + joined.sum(-1))
        row = share + _times(share, joined)
    return row


def relevance(matrices: Sequence[Tensor], gradients: Sequence[Tensor], start: Tensor) -> Tensor:
    """start · (R − I), where R = (I + Ā_L) ⋯ (I + Ā_1) and Ā_l = E_heads[(∇A_l ⊙ A_l)⁺]; see
    :func:`attention_relevance`."""
    row = start
    for matrix, gradient in zip(reversed(matrices), reversed(gradients), strict=True):
        row = row + _times(row, (gradient * matrix).relu().mean(2))
    return row - start


def sensitivity(gradients: Sequence[Tensor]) -> Tensor:
    """(1/L) Σ_l E_heads,rows[(∇A_l)⁺]; see :func:`legrad_final`."""
    return torch.stack([gradient.relu().mean((2, 3)) for gradient in gradients]).mean(0)


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    """``[B, K, N]`` times ``[B, 1 or K, N, N]``."""
    product: Tensor = (row.unsqueeze(2) @ matrix).squeeze(2)
    return product


def attention_rollout(probe: Probe, *, heads: str = "mean") -> dict[str, Tensor]:
    """Attention rollout: how the tokens that are read are mixed of the photo's places, by attention alone.

    Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section 3: Ã = (A + I) / 2, the half for
    the residual connection, rows normalised; Ã_L ⋯ Ã_1. The row of the class token is shown. Where the score is read
    off several tokens (mean pooling, a pooling by attention as in SigLIP), it is the mean over their rows, which the
    paper does not speak of. All targets that are read off the same tokens have the same map.

    It assumes a transformer with attention from every token to every token, see
    :func:`mmexplain.attention.read_attention`.

    Cost: 1 forward pass, and K backward passes of what follows the last attention.

    Args:
        probe: the model.
        heads: "mean" as published, "max" or "min" over the heads of a layer.

    Returns:
        ``"attention"`` → ``[B, K, *S]``.

    Raises:
        MethodError: no such way to join heads; or the model has no such attention.
        ModelError, DeviceError: see :func:`mmexplain.attention.read_attention`.
    """
    if heads not in _HEADS:
        raise MethodError(f"attention-rollout joins heads by {', '.join(map(repr, _HEADS))}, not {heads!r}")
    return _filed(probe, lambda matrices, _, start: rollout(matrices, start, heads=heads), gradients=False)


def attention_relevance(probe: Probe) -> dict[str, Tensor]:
    """Transformer relevance of Chefer et al.: attention weighted by its gradient, R ← R + E_heads[(∇A ⊙ A)⁺] R.

    Chefer, Gur & Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", ICCV 2021, eqs 5 and 6, from R = I. The row of the class token is shown, its own part left out; where
    the score is read off several tokens the mean over their rows of R − I, which is no more than the same rule for
    another reading.

    It assumes a transformer with attention from every token to every token, see
    :func:`mmexplain.attention.read_attention`.

    Cost: 1 forward pass and K backward passes to the first attention.

    Args:
        probe: the model.

    Returns:
        ``"attention"`` → ``[B, K, *S]``, not negative.

    Raises:
        MethodError, ModelError, DeviceError: see :func:`mmexplain.attention.read_attention`.
    """
    return _filed(probe, relevance)


def legrad_final(probe: Probe) -> dict[str, Tensor]:
    """LeGrad with the final score: the positive part of ∂S/∂A, mean over heads, rows and layers.

    After Bousselham et al., "LeGrad: An Explainability Method for Vision Transformers via Feature Formation
    Sensitivity", 2024. There the gradient of layer l is that of a score S^l read off the tokens that leave layer l, by
    the final norm, pooling and class embeddings: that takes the head to be a function which may be put on any layer.
    Here S is the model's own final score for every layer, which is defined for any model. The two are the same at the
    last layer, and on a transformer with one layer. The map is left raw: the paper scales it to 0 ... 1.

    It assumes a transformer with attention from every token to every token, see
    :func:`mmexplain.attention.read_attention`.

    Cost: 1 forward pass and K backward passes to the first attention.

    Args:
        probe: the model.

    Returns:
        ``"attention"`` → ``[B, K, *S]``, not negative.

    Raises:
        MethodError, ModelError, DeviceError: see :func:`mmexplain.attention.read_attention`.
    """
    return _filed(probe, lambda _, gradients, __: sensitivity(gradients))


def _filed(
    probe: Probe, reduce: Callable[[list[Tensor], list[Tensor], Tensor], Tensor], *, gradients: bool = True
) -> dict[str, Tensor]:
    from mmexplain.attention import read_attention  # which imports this package

    return {ATTENTION: read_attention(probe, reduce, gradients=gradients)}
