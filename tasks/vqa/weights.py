"""VQA models as files: fp16 weights with everything needed to rebuild the model in the header, and a card beside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmexplain.errors import CheckpointError
from mmexplain.tasks.captioning.checkpoint import load_strictly, read_tensors, sha256, write_tensors
from mmexplain.tasks.captioning.encoder import GridEncoder
from mmexplain.tasks.captioning.vocabulary import Vocabulary

from .coattention import CoAttention
from .deeper_lstm import DeeperLSTM

BundledVQA = DeeperLSTM | CoAttention
ARCHITECTURES: dict[str, type[DeeperLSTM] | type[CoAttention]] = {
    DeeperLSTM.architecture: DeeperLSTM,
    CoAttention.architecture: CoAttention,
}


def save_vqa(path: Path | str, model: BundledVQA, card: Mapping[str, Any]) -> None:
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
        "answers": model.answers,
        "input_size": card["input_size"],
    }
    write_tensors(path, tensors, header)
    full = {**card, "weights": {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}}
    path.with_suffix(".json").write_text(json.dumps(full, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_vqa(path: Path | str) -> BundledVQA:
    """Rebuild the model that :func:`save_vqa` wrote, fp32, in eval mode, with ``input_size`` set.

    Raises:
        CheckpointError: the file is missing, unreadable or does not fit; one line says how.
    """
    path = Path(path)
    tensors, header = read_tensors(path)
    architecture = header.get("architecture")
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"'{path}' holds no VQA model: its architecture is {architecture!r}, not one of {sorted(ARCHITECTURES)}"
        )
    try:
        model = ARCHITECTURES[architecture](Vocabulary(header["vocabulary"]), header["answers"], **header["config"])
        size = int(header["input_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{path}' has a broken header: {error!r}") from None
    load_strictly(model, tensors, path)
    model.input_size = size
    return model.eval()


def load_encoder(path: Path | str) -> GridEncoder:
    """The encoder of another model of this library, of a captioner say: the tensors ``encoder.*`` of its file.

    Raises:
        CheckpointError: the file is missing, unreadable or holds no such encoder.
    """
    path = Path(path)
    tensors, _ = read_tensors(path)
    prefix = "encoder."
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    encoder = GridEncoder()
    load_strictly(encoder, own, path)
    encoder.to(memory_format=torch.channels_last)
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    return encoder
