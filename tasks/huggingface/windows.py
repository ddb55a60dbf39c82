"""Swin as it was: its blocks shrink their windows for a small photo, and never widen them again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class Windows:
    """The windows of a model's Swin blocks, if it has any.

    Args:
        model: whose blocks are looked for.
    """

    def __init__(self, model: nn.Module) -> None:
        self._blocks = [module for module in model.modules() if hasattr(module, "set_shift_and_window_size")]
        self._lock = threading.RLock()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What runs within leaves the windows as they are; one thread after the other."""
        if not self._blocks:
            yield
            return
        with self._lock:
            before = [(block, block.window_size, block.shift_size) for block in self._blocks]
            try:
                yield
            finally:
                for block, window, shift in before:
                    block.window_size, block.shift_size = window, shift
