"""Values on their way from the CPU to a device, without waiting for what it is doing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sent(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor on the CPU, or nested lists of numbers, on ``device``.

    To a GPU out of pinned memory, in the type in which they arrive: whoever sends them, as a thread that reads ahead
    does, waits neither for the copy nor for what was asked of the GPU before.
    """
    made = values if isinstance(values, Tensor) else torch.tensor(values)
    made = made if dtype is None else made.to(dtype)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)
