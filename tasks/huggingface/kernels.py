"""Which kernels a model's attention runs in: its own choice, or the plain one, which gives weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn


class _Gate:
    """Passes of one model: at one time all in its own kernels, or all in plain ones.

    A pass makes its mask for the kernel that it finds at its beginning, so that none may change under way. The first
    plain pass remembers the model's choice, and the last puts it back.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._running = {"own": 0, "plain": 0}
        self._before: list[tuple[Any, str]] = []

    def enter(self, kind: str, configs: Sequence[Any] = ()) -> None:
        other = "own" if kind == "plain" else "plain"
        with self._free:
            self._free.wait_for(lambda: not self._running[other])
            if kind == "plain" and not self._running[kind]:
                self._before = [(config, config._attn_implementation) for config in configs]
                for config in configs:
                    config._attn_implementation = "eager"
            self._running[kind] += 1

    def leave(self, kind: str) -> None:
        with self._free:
            self._running[kind] -= 1
            if not self._running[kind]:
                for config, before in self._before:
                    config._attn_implementation = before
                self._before = []
                self._free.notify_all()


_gates: WeakKeyDictionary[nn.Module, _Gate] = WeakKeyDictionary()
_gates_lock = threading.Lock()


def _gate(model: nn.Module) -> _Gate:
    with _gates_lock:
        return _gates.setdefault(model, _Gate())


@contextmanager
def own_kernels(model: nn.Module) -> Iterator[None]:
    """A pass in the kernels that the model has chosen; waits for other threads' plain ones."""
    gate = _gate(model)
    gate.enter("own")
    try:
        yield
    finally:
        gate.leave("own")


@contextmanager
def plain_kernels(model: nn.Module, modules: Sequence[nn.Module]) -> Iterator[None]:
    """A pass in which ``modules`` of the model work out their attention weights; waits for other threads' passes in the
    model's own kernels. Always of the same modules for one model."""
    found = {id(config): config for module in modules if (config := getattr(module, "config", None)) is not None}
    gate = _gate(model)
    gate.enter("plain", [config for config in found.values() if hasattr(config, "_attn_implementation")])
    try:
        yield
    finally:
        gate.leave("plain")
