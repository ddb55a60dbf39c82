"""Numbers that Python knows on their way to a device, without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sent(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of ``values`` (nested lists of numbers) on ``device``.

    Out of pinned memory a GPU takes them when it comes to them; out of other memory the copy waits until all that was
    asked of it before is done.
    """
    made = torch.tensor(values, dtype=dtype)
    if device.type == "cuda":
        made = made.pin_memory()
    return made.to(device, non_blocking=True)
