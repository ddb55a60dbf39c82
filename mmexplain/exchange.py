"""Hooks on one layer of a model that other threads may run: watching what it puts out, and exchanging it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmexplain.taps import LayerName, first_tensor, replace_tensor

_exchanging: set[int] = set()
"""Numbers of the hooks that exchange outputs now."""

Seen = tuple[Tensor | None, int]
"""What a layer put out, and how many times it had run then; None and 0 if it did not."""


@contextmanager
def exchanged(
    model: nn.Module, layer: str, change: Callable[[Tensor], Tensor], number: int | None = None
) -> Iterator[None]:
    """What the layer puts out when it is called for that time, counted from 0, or every time, is exchanged for
    ``change`` of it, in this thread."""
    thread, calls = threading.get_ident(), 0

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        nonlocal calls
        value = first_tensor(output)
        if value is None or threading.get_ident() != thread:
            return None
        calls += 1
        return replace_tensor(output, value, change(value)) if number in (None, calls - 1) else None

    module = model.get_submodule(LayerName.parse(layer).module)
    handle = module.register_forward_hook(hook, prepend=True)
    _exchanging.add(handle.id)
    try:
        yield
    finally:
        _exchanging.discard(handle.id)
        handle.remove()


def register_after_exchanges(module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
    """A forward hook that runs before all others but those of :func:`exchanged`.

    What others record of a layer (transformers do, for hidden states) is then what this one hands on, and what this
    one sees is what the layer is taken to put out.
    """
    handle = module.register_forward_hook(hook, prepend=True)
    hooks = cast("OrderedDict[int, Any]", module._forward_hooks)
    for number in [number for number in reversed(hooks) if number in _exchanging]:
        hooks.move_to_end(number, last=False)
    return handle


@contextmanager
def watched(model: nn.Module, layer: str, found: dict[str, Seen]) -> Iterator[None]:
    """What the layer puts out, at the call that its name tells or at its last one, is kept with the number of calls
    until then, of this thread."""
    thread, name, calls = threading.get_ident(), LayerName.parse(layer), 0

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal calls
        value = first_tensor(output)
        if value is None or threading.get_ident() != thread:
            return
        calls += 1
        if name.call in (-1, calls - 1):
            found[layer] = (value.clone(), calls)

    handle = model.get_submodule(name.module).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
