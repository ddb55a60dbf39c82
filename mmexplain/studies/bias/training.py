"""A linear layer trained on what a frozen network makes of photos, and the two as one classifier."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmexplain.errors import InputError

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Weight decays of which the validation set chooses."""


def trunk_of(model: Any, stages: int) -> nn.Sequential:
    """What a timm EfficientNet does up to the end of one of its stages.

    Raises:
        InputError: it has no so many.
    """
    if not 1 <= stages <= len(model.blocks):
        raise InputError(f"stages={stages}: the network has 1 to {len(model.blocks)}")
    parts = {"conv_stem": model.conv_stem, "bn1": model.bn1, "blocks": model.blocks[:stages]}
    return nn.Sequential(OrderedDict(parts))


class Headed(nn.Module):
    """A frozen network up to some grid, the mean over places, and a linear layer: ``[B, 3, h, w]`` → ``[B, N]``.

    Args:
        trunk: ``[B, 3, h, w]`` → ``[B, C, h', w']``.
        head: ``[B, C]`` → ``[B, N]``.
    """

    def __init__(self, trunk: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        found: Tensor = self.head(self.trunk(x).mean((2, 3)))
        return found


def fit(x: Tensor, y: Tensor, unseen: tuple[Tensor, Tensor]) -> tuple[nn.Linear, float]:
    """Logistic regression, begun at 0; of :data:`DECAYS` the one with the least loss on the validation set.

    Args:
        x: features, ``[N, C]``.
        y: numbers of the classes, int64 ``[N]``.
        unseen: the same of the validation set.

    Returns:
        The layer, float32, and its weight decay.
    """
    best: tuple[float, nn.Linear, float] | None = None
    for decay in DECAYS:
        head = nn.Linear(x.shape[1], 2).double()
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def closure(head: nn.Linear = head, optimizer: Any = optimizer, decay: float = decay) -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(head(x.double()), y) + decay / 2 * head.weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        with torch.no_grad():
            loss = float(functional.cross_entropy(head(unseen[0].double()), unseen[1]))
        if best is None or loss < best[0]:
            best = loss, head, decay
    assert best is not None
    return best[1].float().requires_grad_(False), best[2]


def stacked(heads: Sequence[nn.Linear]) -> nn.Linear:
    """Linear layers on the same features as one, their outputs one after another."""
    weights, biases = (torch.cat([getattr(head, name) for head in heads]) for name in ("weight", "bias"))
    found = nn.Linear(weights.shape[1], len(weights))
    found.load_state_dict({"weight": weights, "bias": biases})
    return found.requires_grad_(False)
