"""Bundled models and half-done trainings on disk, as safetensors with JSON in the header. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmexplain.errors import CheckpointError
from mmexplain.tasks.captioning.vocabulary import Vocabulary

Model = TypeVar("Model", bound=nn.Module)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write ``tensors`` with ``header`` (JSON-able), all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    # Only contiguous copies: safetensors refuses tensors that share memory or are laid out channels-last.
    plain = torch.contiguous_format
    copies = {name: tensor.detach().cpu().clone(memory_format=plain) for name, tensor in tensors.items()}
    save_file(copies, partial, metadata={"json": json.dumps(header)})
    partial.chmod(0o644)  # safetensors writes for the owner alone
    partial.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that :func:`write_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, cut off or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata.get("json", "{}"))
    except FileNotFoundError:
        raise CheckpointError(f"no weights at '{path}'") from None
    except (SafetensorError, OSError, ValueError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"'{path}' is not a readable safetensors file: {first_line}") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"'{path}' has no JSON object in its header")
    return tensors, header


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy ``tensors`` into ``model``, every one of them and nothing else; dtypes are converted.

    Raises:
        CheckpointError: one line that lists missing, unexpected and wrong-shaped tensors.
    """
    wanted = model.state_dict()
    complaints = []
    if missing := [name for name in wanted if name not in tensors]:
        complaints.append(f"missing {_some(missing)}")
    if unexpected := [name for name in tensors if name not in wanted]:
        complaints.append(f"unexpected {_some(unexpected)}")
    wrong = [
        f"{name} {list(tensors[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if wrong:
        complaints.append(f"wrong shape {_some(wrong)}")
    if complaints:
        raise CheckpointError(f"'{source}' does not fit {type(model).__name__}: {'; '.join(complaints)}")
    model.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()})


def save_model(path: Path | str, model: Any, card: Mapping[str, Any], **header: Any) -> None:
    """Write a bundled model to ``path`` (safetensors, fp16) and ``card`` beside it (``.json``).

    The card gets the weights' sha256 and size; its ``input_size`` goes into the header too.

    Args:
        path: of the weights.
        model: has ``architecture``, ``config`` and ``vocabulary``.
        card: the model card.
        header: what else it takes to build the model, JSON-able.
    """
    path = Path(path)
    tensors = {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    own = {"architecture": model.architecture, "config": model.config, "vocabulary": model.vocabulary.tokens}
    write_tensors(path, tensors, {**own, **header, "input_size": card["input_size"]})
    full = {**card, "weights": {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}}
    path.with_suffix(".json").write_text(json.dumps(full, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_model(
    path: Path | str, architectures: Mapping[str, type[Model]], what: str, more: Sequence[str] = ()
) -> Model:
    """Rebuild the model that :func:`save_model` wrote, fp32, in eval mode, with ``input_size`` set.

    Args:
        path: of the weights.
        architectures: name → class, made of the vocabulary, what ``more`` names, and the configuration.
        what: the file should hold, for people.
        more: keys of the header.

    Raises:
        CheckpointError: the file is missing, unreadable or does not fit; one line says how.
    """
    path = Path(path)
    tensors, header = read_tensors(path)
    architecture = header.get("architecture")
    if not isinstance(architecture, str) or architecture not in architectures:
        raise CheckpointError(
            f"'{path}' holds no {what}: its architecture is {architecture!r}, not one of {sorted(architectures)}"
        )
    try:
        kind: Any = architectures[architecture]
        model = kind(Vocabulary(header["vocabulary"]), *(header[key] for key in more), **header["config"])
        size = int(header["input_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{path}' has a broken header: {error!r}") from None
    load_strictly(model, tensors, path)
    model.input_size = size
    found: Model = model.eval()
    return found


def _some(names: list[str], limit: int = 4) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_training(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer | None,
    header: Mapping[str, Any],
) -> None:
    """Keep what is needed to go on training: the modules' and the optimizer's tensors."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for number, state in (optimizer.state_dict()["state"] if optimizer else {}).items():
        tensors.update({f"optimizer/{number}/{key}": torch.as_tensor(value) for key, value in state.items()})
    write_tensors(path, tensors, header)


def load_training(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Undo :func:`save_training`; returns its header."""
    tensors, header = read_tensors(path)
    for name, module in modules.items():
        start = len(name) + 1
        own = {key[start:]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
        load_strictly(module, own, path)
    if optimizer is not None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, number, what = key.split("/")
                state.setdefault(int(number), {})[what] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return header
