"""Capturing the outputs of tapped layers in one forward pass, and starting the graph at the earliest of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmexplain.errors import LayerError
from mmexplain.exchange import register_after_exchanges
from mmexplain.precision import widened
from mmexplain.taps import LayerName, first_tensor, replace_tensor

_listening = threading.local()
"""``_listening.recorder``: the one recorder that hooks of this thread answer to now."""


class Recorder:
    """Forward hooks on the tapped layers of one model, for the length of a ``with`` block.

    The forward pass is started without a graph. When the first tapped layer has run, its output is cut off from what
    came before, made a leaf and handed on as a copy, and the graph is switched on: everything before costs one plain
    forward pass, and no later in-place operation can reach the captured value.

    The hooks sit on the model, which other threads and explanations within this one may run at the same time: they
    do something only within :meth:`recording`, in its thread.

    Args:
        model: holds the layers.
        layers: their names.
        batch: inputs that ``encode`` runs on. A layer may have several rows for each (tiles, frames): they stay
            together when rows are repeated.
        widen: half precision is kept and handed on as float32, so that gradients arrive in it too.

    Attributes:
        captured: layer name → the tensor that gradients are taken for, ``[R, ...]`` as the layer puts it out.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], batch: int = 0, *, widen: bool = False) -> None:
        self.captured: dict[str, Tensor] = {}
        self._model = model
        self._layers = list(layers)
        self._batch = batch
        self._widen = widen
        self._repeats = 1
        self._calls: dict[str, int] = {}
        self._handed: dict[str, tuple[Tensor, int]] = {}
        self._after_encode: tuple[dict[str, Tensor], dict[str, int]] = ({}, {})
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Recorder:
        for layer in self._layers:
            name = LayerName.parse(layer)
            module = self._model.get_submodule(name.module)
            self._handles.append(register_after_exchanges(module, self._hook(layer, name.call)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def encoding(self, repeats: int = 1) -> Iterator[None]:
        """Record a run of ``encode``; rows are repeated ``repeats`` times where the graph begins."""
        self.captured, self._calls, self._handed = {}, {}, {}
        self._repeats = repeats
        with self._recording():
            yield
        self._repeats = 1
        self._after_encode = (dict(self.captured), dict(self._calls))

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Record a run of ``decode``, which may follow one run of ``encode`` many times."""
        captured, calls = self._after_encode
        self.captured, self._calls = dict(captured), dict(calls)
        with self._recording():
            yield

    def encoded(self) -> list[str]:
        """Layers whose captured value comes from ``encode``, in the order in which they ran."""
        before = self._after_encode[0]
        return [layer for layer in before if self.captured[layer] is before[layer]]

    def handed_on(self, tensor: Tensor) -> str | None:
        """Name of the layer whose output ``tensor`` still is, untouched, if it is one."""
        for name, (handed, version) in self._handed.items():
            if handed is tensor and handed._version == version:
                return name
        return None

    def laid_out(self, features: Tensor) -> Tensor:
        """What ``encode`` returned with its axes in order, still known as the layer's that handed it on."""
        layer = self.handed_on(features)
        with torch.set_grad_enabled(features.requires_grad):
            found = features.contiguous()
        if layer is not None:
            self._handed[layer] = (found, found._version)
        return found

    def handed(self, layer: str) -> Tensor | None:
        """What was handed on in the layer's place, if it has run and is untouched since."""
        tensor, version = self._handed.get(layer, (None, 0))
        return None if tensor is None or tensor._version != version else tensor

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

    @contextmanager
    def _recording(self) -> Iterator[None]:
        outer = getattr(_listening, "recorder", None)
        _listening.recorder = self
        try:
            yield
        finally:
            _listening.recorder = outer

    def _repeated(self, value: Tensor) -> Tensor:
        if self._repeats == 1:
            return value.clone()
        together = len(value) // self._batch if self._batch and len(value) % self._batch == 0 else 1
        grouped = value.unflatten(0, (-1, max(1, together)))
        repeated: Tensor = grouped.repeat_interleave(self._repeats, 0).flatten(0, 1)
        return repeated

    def _hook(self, layer: str, call: int) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> Any:
            if getattr(_listening, "recorder", None) is not self:
                return None
            value = first_tensor(output)
            if value is None:
                return None
            number = self._calls.get(layer, 0)
            self._calls[layer] = number + 1
            if call not in (-1, number):
                return None
            if not value.is_floating_point():
                raise LayerError(f"layer {layer!r} puts out {value.dtype}, which has no gradient")
            if torch.is_inference_mode_enabled():
                raise LayerError(
                    f"layer {layer!r} runs under torch.inference_mode() inside the model, where nothing can be "
                    "differentiated; use torch.no_grad() there, or choose a later layer"
                )
            wide = widened(value) if self._widen else value
            if value.requires_grad:
                tapped = wide.clone() if wide is value else wide
            else:
                tapped = self._repeated(wide.detach()).requires_grad_()
            torch.set_grad_enabled(True)
            handed = tapped.clone()
            self.captured[layer] = tapped
            self._handed[layer] = (handed, handed._version)
            return replace_tensor(output, value, handed)

        return hook
