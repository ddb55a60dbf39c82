"""Captioners as files: fp16 weights with everything needed to rebuild the model in the header, and a card beside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmexplain.errors import CheckpointError

from .checkpoint import load_strictly, read_tensors, sha256, write_tensors
from .show_and_tell import ShowAndTell
from .show_attend_tell import ShowAttendTell
from .vocabulary import Vocabulary

BundledCaptioner = ShowAndTell | ShowAttendTell
ARCHITECTURES: dict[str, type[ShowAndTell] | type[ShowAttendTell]] = {
    ShowAndTell.architecture: ShowAndTell,
    ShowAttendTell.architecture: ShowAttendTell,
}


def save_captioner(path: Path | str, model: BundledCaptioner, card: Mapping[str, Any]) -> None:
    """Write ``model`` to ``path`` (safetensors, fp16) and ``card`` beside it (``.json``).

    The card gets the weights' sha256 and size; its ``input_size`` goes into the header too.
    """
    path = Path(path)
    tensors = {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    header = {
        "architecture": model.architecture,
        "config": model.config,
        "vocabulary": model.vocabulary.tokens,
        "input_size": card["input_size"],
    }
    write_tensors(path, tensors, header)
    full = {**card, "weights": {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}}
    path.with_suffix(".json").write_text(json.dumps(full, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_captioner(path: Path | str) -> BundledCaptioner:
    """Rebuild the model that :func:`save_captioner` wrote, fp32, in eval mode, with ``input_size`` set.

    Raises:
        CheckpointError: the file is missing, unreadable or does not fit; one line says how.
    """
    path = Path(path)
    tensors, header = read_tensors(path)
    architecture = header.get("architecture")
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"'{path}' holds no captioner: its architecture is {architecture!r}, not one of {sorted(ARCHITECTURES)}"
        )
    try:
        model = ARCHITECTURES[architecture](Vocabulary(header["vocabulary"]), **header["config"])
        size = int(header["input_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{path}' has a broken header: {error!r}") from None
    load_strictly(model, tensors, path)
    model.input_size = size
    return model.eval()
