"""Backends of PyTorch that are switched off for a moment, in a process of several threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Switch:
    """A backend's ``enabled`` is one flag for all threads: the first to need it off remembers what it was, the last
    sets it back."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._holders = 0
        self._before = True

    def off(self) -> None:
        """Switch it off, until :meth:`back` was called as often."""
        with self._lock:
            if not self._holders:
                self._before = self._backend.enabled
            self._holders += 1
            self._backend.enabled = False

    def back(self) -> None:
        """The other end of :meth:`off`."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._backend.enabled = self._before


@contextmanager
def switched_off(switch: Switch) -> Iterator[None]:
    """A backend off for a while."""
    switch.off()
    try:
        yield
    finally:
        switch.back()


cudnn = Switch(torch.backends.cudnn)
onednn = Switch(torch.backends.mkldnn)


class _Compiler:
    """``torch.compile``'s stance is one for all threads, too: others run their compiled models as written meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._held: Any = None

    def off(self) -> None:
        with self._lock:
            if not self._holders:
                self._held = torch.compiler.set_stance("force_eager")
            self._holders += 1

    def back(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._held.__exit__(None, None, None)


_compiler = _Compiler()


@contextmanager
def as_written() -> Iterator[None]:
    """What ``torch.compile`` has compiled runs uncompiled for a while."""
    # Where the compiler was never loaded nothing is compiled, and loading it takes seconds. Before torch 2.6 there is
    # no such switch.
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield
        return
    _compiler.off()
    try:
        yield
    finally:
        _compiler.back()
