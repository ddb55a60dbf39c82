"""Which device a model runs on, from the word that the user typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mmexplain.errors import DeviceError

if TYPE_CHECKING:
    import torch

FORMS = "auto, cpu, cuda, cuda:N or mps"


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device that ``name`` means: "auto" takes a CUDA GPU, then Apple's, then the CPU.

    Raises:
        DeviceError: no such word, or no such device on this machine.
    """
    import torch

    text = str(name).strip().lower()
    match = re.fullmatch(r"(auto|cpu|cuda|mps)(?::(\d+))?", text)
    if match is None or (match[2] is not None and match[1] == "auto"):
        raise DeviceError(f"{str(name)!r} is not a device: use {FORMS}")
    kind, number = match[1], int(match[2] or 0)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        _require_cuda(text, number)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"{str(name)!r} is not available here: this machine has no Apple GPU; use auto or cpu")
    if kind != "cuda" and number:
        raise DeviceError(f"{str(name)!r} does not exist: there is one {kind} device")
    return torch.device(kind, number) if kind == "cuda" and match[2] is not None else torch.device(kind)


def _require_cuda(text: str, number: int) -> None:
    import torch

    if not torch.cuda.is_available():
        reason = "no GPU is visible" if torch.backends.cuda.is_built() else "this PyTorch is built without CUDA"
        raise DeviceError(f"{text!r} is not available here: {reason}; use auto or cpu")
    count = torch.cuda.device_count()
    if number >= count:
        known = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"{text!r} does not exist here; there is {known}")
