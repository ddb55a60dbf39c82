"""mmexplain as it comes: from the prepared input to the Explanation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import mmexplain
from cases.case import Maps
from mmexplain.explanation import MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.taps import INPUT
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, Task


def explained(
    task: Task, batch: Batch, targets: Sequence[Target], layers: Sequence[str] | None, method: str = "gradcam"
) -> Callable[[], Maps]:
    """Every input of the batch explained by the same targets. Without layers, the method makes maps of the input."""
    keys = [MapKey(layer, method) for layer in layers or [INPUT]]

    def run() -> Maps:
        found = mmexplain.explain(task, batch, [list(targets)] * len(batch), layers=layers, methods=[method])
        return [torch.stack([explanation.maps[key] for explanation in found]) for key in keys]

    return run


def batch_of(name: str, inputs: Tensor, **context: Tensor) -> Batch:
    """Prepared photos ``[B, 3, h, w]`` or clips ``[B, 3, t, h, w]`` as a batch, with nothing to show."""
    side: Any = inputs.shape[-2:]
    picture = Picture(torch.zeros(*side, 3, dtype=torch.uint8))
    return Batch({name: inputs}, context, [Geometry.identity(*side)] * len(inputs), [picture] * len(inputs))


def numbered(count: int, kind: Any = "class", first: int = 0) -> list[Target]:
    """Classes from ``first`` on."""
    return [Target(f"{kind} {number}", kind, (number,)) for number in range(first, first + count)]
