"""Weights on disk → a module, strictly, without executing anything that the file holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from mmexplain.errors import CheckpointError

SAFETENSORS = ".safetensors"
SUFFIXES = (SAFETENSORS, ".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Parameters by name, on the CPU, from a safetensors file or a pickled state dict (tensors only).

    A training checkpoint's ``state_dict`` or ``model`` entry is taken, and DataParallel's ``module.`` is removed.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or holds more than tensors.
    """
    path = Path(path)
    _require_file(path)
    if path.suffix.lower() == SAFETENSORS:
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise CheckpointError(
            f"{str(path)!r} is not a file of weights alone (or is damaged); mmexplain runs no code from a checkpoint: "
            "save model.state_dict(), as safetensors at best"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{str(path)!r} is damaged or not a checkpoint ({_first_line(error)})") from None
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content or not all(map(torch.is_tensor, content.values())):
        raise CheckpointError(f"{str(path)!r} holds no state dict (names → tensors)")
    if all(str(name).startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def read_card(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says of itself: the model card beside it (``model.json`` for ``model.safetensors``),
    overridden by the JSON in a safetensors file's header. Empty where there is neither.

    Raises:
        CheckpointError: the file or its card is missing or damaged.
    """
    path = Path(path)
    _require_file(path)
    card: dict[str, Any] = {}
    beside = path.with_suffix(".json")
    if beside.is_file():
        card |= _json_object(beside.read_bytes(), beside)
    if path.suffix.lower() == SAFETENSORS:
        card |= _json_object(_header(path).encode(), path)
    return card


def build_and_fit(
    build: Callable[..., nn.Module], state: Mapping[str, Tensor], source: str, architecture: str
) -> tuple[nn.Module, int]:
    """The module in eval mode with the weights in it, and how many classes these are for.

    Args:
        build: makes the module; takes ``num_classes`` where the weights have another number than its own default.
        state: parameters and buffers by name.
        source: where the weights came from, for the message.
        architecture: what they should fit, for the message.

    Raises:
        CheckpointError: they do not fit.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn only to be overwritten
        model = build()
        last, parameter = list(model.named_parameters())[-1]
        found = state.get(last, parameter)
        classes = int(found.shape[0]) if found.ndim else 0
        if classes and classes != parameter.shape[0]:
            model = build(num_classes=classes)
    fit(model, state, source, architecture)
    return model.eval(), classes


def fit(model: nn.Module, state: Mapping[str, Tensor], source: str, architecture: str) -> None:
    """Load ``state`` into ``model``; every name and shape must agree.

    Args:
        model: the module, changed in place.
        state: parameters and buffers by name, of any floating type.
        source: where the weights came from, for the message.
        architecture: what they should fit, for the message.

    Raises:
        CheckpointError: they differ; the message says where, in one line.
    """
    expected = model.state_dict()
    # Checkpoints older than PyTorch 0.4.1 lack the counters, which only training reads.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name!r} is {list(state[name].shape)}, not {list(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    differences = [_some("missing", list(map(repr, missing))), _some("unexpected", list(map(repr, unexpected)))]
    differences = [text for text in [*differences, _some("", shapes)] if text]
    if differences:
        raise CheckpointError(f"{source!r} does not fit {architecture!r}: {'; '.join(differences)}")
    model.load_state_dict(dict(state), strict=not any(name not in state for name in expected))


def _some(title: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - 1:,} more" if len(items) > 1 else ""
    return f"{title} {items[0]}{more}".strip()


def _require_file(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(f"no such file: {str(path)!r}")
    if not path.is_file():
        raise CheckpointError(f"{str(path)!r} is a folder, not a checkpoint")
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{str(path)!r} is not a checkpoint: its name should end in {', '.join(SUFFIXES)}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{str(path)!r} is not a safetensors file, or is damaged ({error})") from None


def _header(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            return metadata.get("json", "{}")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} is not a safetensors file, or is damaged ({error})") from None


def _json_object(text: bytes, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"the model card in {str(path)!r} is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"the model card in {str(path)!r} is not a JSON object")
    return record


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
