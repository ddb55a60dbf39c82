"""Parts of PyTorch that are switched off for a moment, in a process of several threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Switch:
    """Something that is one for all threads: the first to need it off switches it, the last switches it back.

    Args:
        off: switches it off, and gives what :attr:`on` needs to switch it back.
        on: switches it back.
    """

    def __init__(self, off: Callable[[], Any], on: Callable[[Any], None]) -> None:
        self._off, self._on = off, on
        self._lock = threading.Lock()
        self._holders = 0
        self._before: Any = None

    def off(self) -> None:
        """Switch it off, until :meth:`back` was called as often."""
        with self._lock:
            if not self._holders:
                self._before = self._off()
            self._holders += 1

    def back(self) -> None:
        """The other end of :meth:`off`."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                before, self._before = self._before, None
                self._on(before)


def _backend(backend: Any) -> Switch:
    """The switch of a backend's flag ``enabled``."""

    def off() -> bool:
        before: bool = backend.enabled
        backend.enabled = False
        return before

    return Switch(off, lambda before: setattr(backend, "enabled", before))


@contextmanager
def switched_off(switch: Switch) -> Iterator[None]:
    """Something off for a while."""
    switch.off()
    try:
        yield
    finally:
        switch.back()


cudnn = _backend(torch.backends.cudnn)
onednn = _backend(torch.backends.mkldnn)
_compiler = Switch(
    # Others run their compiled models as written meanwhile: the stance is one for all threads, too.
    lambda: torch.compiler.set_stance("force_eager"),
    lambda stance: stance.__exit__(None, None, None),
)


@contextmanager
def as_written() -> Iterator[None]:
    """What ``torch.compile`` has compiled runs uncompiled for a while."""
    # Where the compiler was never loaded nothing is compiled, and loading it takes seconds. Before torch 2.6 there is
    # no such switch.
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield
        return
    with switched_off(_compiler):
        yield
