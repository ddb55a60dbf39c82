"""What measured rows depend on, told apart by checksums: the data, and the weights of the model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmexplain.evaluate.protocol import Item, Protocol

_CHECKSUM = re.compile(r"sha256:([0-9a-f]{8})[0-9a-f]{56}")


def settings_of(protocol: Protocol, items: Sequence[Item]) -> dict[str, Any]:
    """All that a protocol's rows depend on, JSON-able: its own settings, checksums of its data and weights, and the
    precision that the model runs in where it is a lower one.

    Args:
        protocol: its ``task``, ``against`` and ``data`` are looked at, where it has them.
        items: all of them, however many are measured: a limit may be raised later.
    """
    found: dict[str, Any] = dict(protocol.settings())
    data = getattr(protocol, "data", None)
    named = [] if data is None else [Path(data).resolve().name]
    found["data"] = " ".join([*named, f"sha256:{data_checksum(items)}"])
    for name, attribute in (("weights", "task"), ("weights against", "against")):
        model = getattr(getattr(protocol, attribute, None), "model", None)
        if isinstance(model, nn.Module):
            found[name] = f"sha256:{weights_checksum(model)}"
    precision = getattr(getattr(protocol, "task", None), "precision", "float32")
    return found if precision == "float32" else {**found, "precision": precision}


def readable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with 8 digits of each checksum."""
    return {name: _CHECKSUM.sub(r"\1", value) if isinstance(value, str) else value for name, value in settings.items()}


def data_checksum(items: Sequence[Item]) -> str:
    """SHA-256 over the items' keys, what was read of them (boxes, questions), and the sizes of their files in bytes.

    Neither folders nor times count: they differ between copies of the same data.
    """
    digest = hashlib.sha256()
    for item in items:
        for part in _parts((item.key, item.file, item.content)):
            digest.update(part)
            digest.update(b"\0")
    return digest.hexdigest()


def weights_checksum(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of a model's parameters and buffers.

    Buffers that are not saved are left out: they are derived from the rest, and may be made while the model runs.
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> Any:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _parts(value: Any) -> Iterator[bytes]:
    """What a value consists of; of a path its name and the size of its file. What is neither data nor a path counts by
    its type: its own text may hold an address."""
    match value:
        case Path():
            yield value.name.encode(errors="surrogateescape")
            try:
                yield str(value.stat().st_size).encode()
            except OSError:
                yield b"missing"
        case None | bool() | int() | float() | str():
            yield repr(value).encode(errors="surrogateescape")
        case bytes():
            yield value
        case Tensor():
            yield f"{value.dtype} {tuple(value.shape)}".encode()
            yield _bytes(value).tobytes()
        case np.ndarray():
            yield f"{value.dtype} {value.shape}".encode()
            yield np.ascontiguousarray(value).tobytes()
        case Mapping():
            yield f"mapping {len(value)}".encode()
            for pair in value.items():
                yield from _parts(pair)
        case list() | tuple():
            yield f"sequence {len(value)}".encode()
            for part in value:
                yield from _parts(part)
        case _ if is_dataclass(value) and not isinstance(value, type):
            yield type(value).__name__.encode()
            for field in fields(value):
                yield from _parts(getattr(value, field.name))
        case _:
            yield type(value).__qualname__.encode()
