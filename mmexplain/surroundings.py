"""Leaving the user's model and process as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mmexplain.errors import ModelError
from mmexplain.fast_layers import fast_layers
from mmexplain.modules import modules_of, within
from mmexplain.switches import Switch, as_written, cudnn, onednn, switched_off


@contextmanager
def undisturbed(model: nn.Module, device: torch.device, *, fast: bool = False) -> Iterator[None]:
    """Run something with ``model`` in eval mode, whatever the caller's surroundings; put everything back after.

    Train/eval flags, the RNG states and the gradient mode are restored, after an exception too; no parameter is
    touched, because gradients are asked for by name and never accumulated. Works within ``torch.no_grad()`` and
    ``torch.inference_mode()``; the caller's autocast stays on for the model. cuDNN, whose recurrent kernels refuse a
    backward pass in eval mode, is off inside recurrent modules only. What ``torch.compile`` has compiled runs as it was
    written: compiled code takes no notice of the hooks that layers are tapped by.

    Args:
        model: what runs.
        device: where.
        fast: on a CPU run large layers by :func:`~mmexplain.fast_layers.fast_layers`, whose weights have no gradients.
    """
    devices = [device] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(evaluating(model))
        stack.enter_context(as_written())
        stack.enter_context(torch.no_grad())
        if device.type == "cuda":
            stack.enter_context(_recurrent_modules_without_cudnn(model))
        elif device.type == "cpu" and fast:
            stack.enter_context(fast_layers(model))
        elif device.type == "cpu":
            # oneDNN's recurrent backward pass works out the weights' gradients, which nobody asks for, and vmap does
            # not know it: PyTorch's own cells take 10-20 % less time for 12 words.
            stack.enter_context(_recurrent_modules_without(onednn, model))
        yield


def require_ordinary(model: nn.Module) -> None:
    """Raise a ModelError if the model was made under ``torch.inference_mode()``."""
    # Not by ``model.parameters()``, whose account of names and repetitions takes a millisecond on a deep model.
    tensors = (t for module in modules_of(model) for t in (*module._parameters.values(), *module._buffers.values()))
    if any(tensor is not None and tensor.is_inference() for tensor in tensors):
        raise ModelError(
            "the model was made under torch.inference_mode(), where nothing can be differentiated; load it outside "
            "(explaining may happen inside)"
        )


def ordinary(value: Tensor) -> Tensor:
    """A tensor that can enter a graph: a copy of one made under ``torch.inference_mode()``, or the tensor itself."""
    return value.clone() if value.is_inference() else value


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter or buffer is."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


class _Hold:
    """How many explanations hold a module in eval mode now, and the flag to give back when the last one ends."""

    def __init__(self, training: bool) -> None:
        self.holders = 0
        self.training = training


_holds: WeakKeyDictionary[nn.Module, _Hold] = WeakKeyDictionary()
_holds_lock = threading.Lock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode for a while; every module gets its own flag back, after an exception too.

    Threads that explain at once with the same model, or with models that share modules, share the change: the last
    one out sets the flags back.
    """
    modules = modules_of(model)
    with _holds_lock:
        if not _holds and not any(module.training for module in modules):
            modules = []  # nobody has changed anything, and nothing needs to be
        for module in modules:
            hold = _holds.setdefault(module, _Hold(module.training))
            hold.holders += 1
            if module.training:
                module.training = False
    try:
        yield
    finally:
        with _holds_lock:
            for module in modules:
                hold = _holds[module]
                hold.holders -= 1
                if not hold.holders:
                    del _holds[module]
                    if hold.training:
                        module.training = True


def _recurrent_modules_without_cudnn(model: nn.Module) -> AbstractContextManager[None]:
    return _recurrent_modules_without(cudnn, model)


def _recurrent_modules_without(backend: Switch, model: nn.Module) -> AbstractContextManager[None]:
    recurrent = [module for module in modules_of(model) if isinstance(module, nn.RNNBase)]
    # A pass without a graph, such as a search for a caption, may well use it.
    return within(recurrent, lambda: switched_off(backend), torch.is_grad_enabled)
