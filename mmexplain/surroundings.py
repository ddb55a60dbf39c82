"""Leaving the user's model and process as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from mmexplain.taps import evaluating


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run something with ``model`` in eval mode, whatever the caller's surroundings; put everything back after.

    Train/eval flags, the RNG states and the gradient mode are restored, after an exception too; no parameter is
    touched, because gradients are asked for by name and never accumulated. Works within ``torch.no_grad()`` and
    ``torch.inference_mode()``; the caller's autocast stays on for the model. cuDNN, whose recurrent kernels refuse a
    backward pass in eval mode, is off inside recurrent modules only.
    """
    devices = [device] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        if device.type == "cuda":
            stack.enter_context(_recurrent_modules_without_cudnn(model))
        yield


@contextmanager
def _recurrent_modules_without_cudnn(model: nn.Module) -> Iterator[None]:
    before: list[bool] = []

    def switch_off(*_: object) -> None:
        before.append(torch.backends.cudnn.enabled)
        torch.backends.cudnn.enabled = False

    def switch_back(*_: object) -> None:
        torch.backends.cudnn.enabled = before.pop()

    handles = []
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            handles.append(module.register_forward_pre_hook(switch_off))
            handles.append(module.register_forward_hook(switch_back, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
