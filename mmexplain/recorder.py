"""Capturing the outputs of tapped layers in one forward pass, and starting the graph at the earliest of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmexplain.errors import LayerError
from mmexplain.taps import LayerName, first_tensor, replace_tensor


class Recorder:
    """Forward hooks on the tapped layers of one model, for one thread, for the length of a ``with`` block.

    The forward pass is started without a graph. When the first tapped layer has run, its output is cut off from what
    came before, made a leaf and handed on as a copy, and the graph is switched on: everything before costs one plain
    forward pass, and no later in-place operation can reach the captured value.

    Attributes:
        captured: layer name → the tensor that gradients are taken for, ``[R, ...]`` as the layer puts it out.
        repeats: rows are repeated this often at the first tap (the ``expand`` strategy); 1 leaves them alone.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], *, create_graph: bool = False) -> None:
        self.captured: dict[str, Tensor] = {}
        self.repeats = 1
        self._model = model
        self._layers = list(layers)
        self._create_graph = create_graph
        self._thread = threading.get_ident()
        self._calls: dict[str, int] = {}
        self._handed: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Recorder:
        modules = dict(self._model.named_modules())
        for layer in self._layers:
            name = LayerName.parse(layer)
            self._handles.append(
                modules[name.module].register_forward_hook(self._hook(layer, name.call), always_call=False)
            )
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def restart(self, repeats: int = 1) -> None:
        """Forget what was captured, before another forward pass."""
        self.captured.clear()
        self._calls.clear()
        self._handed.clear()
        self.repeats = repeats

    def handed_on(self, tensor: Tensor) -> str | None:
        """Name of the layer whose captured value ``tensor`` is the handed-on copy of, if it is one."""
        return next((name for name, handed in self._handed.items() if handed is tensor), None)

    def leaf(self, tensor: Tensor) -> Tensor:
        """``tensor`` as the start of a graph: itself if it has one that is to be kept, else a detached leaf."""
        if self._create_graph and tensor.requires_grad:
            return tensor
        return tensor.detach().requires_grad_()

    def require(self, layers: Sequence[str]) -> None:
        """Raise a LayerError if one of the layers did not run."""
        for layer in layers:
            if layer not in self.captured:
                name = LayerName.parse(layer)
                calls = self._calls.get(layer, 0)
                if calls:
                    raise LayerError(
                        f"layer {name.module!r} runs {calls} time(s) in a forward pass; there is no call {name.call}"
                    )
                raise LayerError(
                    f"layer {name.module!r} does not run in this model's forward pass, or puts out no tensor; "
                    "choose one that `mmexplain layers` lists"
                )

    def _hook(self, layer: str, call: int) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> Any:
            if threading.get_ident() != self._thread:
                return None
            number = self._calls.get(layer, 0)
            self._calls[layer] = number + 1
            value = first_tensor(output)
            if value is None or call not in (-1, number):
                return None
            if not value.is_floating_point():
                raise LayerError(f"layer {layer!r} puts out {value.dtype}, which has no gradient")
            if value.requires_grad:
                tapped = value
            else:
                tapped = value.detach()
                if self.repeats > 1:
                    tapped = tapped.repeat_interleave(self.repeats, dim=0)
                tapped.requires_grad_()
            torch.set_grad_enabled(True)
            handed = tapped.clone()
            self.captured[layer] = tapped
            self._handed[layer] = handed
            return replace_tensor(output, value, handed)

        return hook
