"""Swin as it was: its blocks shrink their windows for a small photo, and never widen them again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_WINDOW = ("window_size", "shift_size")
_windows = threading.RLock()
"""Held by the one thread that runs such a model; not by the task, which may be copied."""


@contextmanager
def windows_kept(model: nn.Module) -> Iterator[None]:
    """What runs within leaves the windows of a model's Swin blocks, if it has any, as they are."""
    blocks = [module for module in model.modules() if hasattr(module, "set_shift_and_window_size")]
    if not blocks:
        yield
        return
    with _windows:
        before = [(block, {name: getattr(block, name) for name in _WINDOW}) for block in blocks]
        try:
            yield
        finally:
            for block, values in before:
                for name, value in values.items():
                    setattr(block, name, value)
