"""The modules of a model, without their names, and contexts that last while one of them runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import nn


def modules_of(model: nn.Module) -> list[nn.Module]:
    """As ``model.modules()``, in another order, in a fifth of the time: that one works out all of their names."""
    found, waiting = {model: None}, [model]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


@contextmanager
def within(
    modules: Iterable[nn.Module], context: Callable[[], AbstractContextManager[Any]], wanted: Callable[[], bool]
) -> Iterator[None]:
    """While one of ``modules`` runs in this thread, and ``wanted()`` says so when it begins, it runs in a ``context()``
    of its own. None is left open, whatever was raised."""
    thread = threading.get_ident()
    inside: list[tuple[nn.Module, AbstractContextManager[Any]]] = []

    def enter(module: nn.Module, _: object) -> None:
        if threading.get_ident() == thread and wanted():
            entered = context()
            entered.__enter__()
            inside.append((module, entered))

    def leave(module: nn.Module, *_: object) -> None:
        if threading.get_ident() == thread and inside and inside[-1][0] is module:
            inside.pop()[1].__exit__(None, None, None)

    handles = []
    for module in modules:
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        # An interruption from the keyboard is none of the exceptions after which hooks are called.
        while inside:
            inside.pop()[1].__exit__(None, None, None)
