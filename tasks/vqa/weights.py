"""VQA models as files: fp16 weights with everything needed to rebuild the model in the header, and a card beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmexplain.tasks.captioning.checkpoint import load_model, load_strictly, read_tensors, save_model
from mmexplain.tasks.captioning.encoder import GridEncoder

from .coattention import CoAttention
from .deeper_lstm import DeeperLSTM

BundledVQA = DeeperLSTM | CoAttention
ARCHITECTURES: dict[str, type[DeeperLSTM] | type[CoAttention]] = {
    DeeperLSTM.architecture: DeeperLSTM,
    CoAttention.architecture: CoAttention,
}


def save_vqa(path: Path | str, model: BundledVQA, card: Mapping[str, Any]) -> None:
    """Write ``model`` and its ``card``; see :func:`~mmexplain.tasks.captioning.checkpoint.save_model`."""
    save_model(path, model, card, answers=model.answers)


def load_vqa(path: Path | str) -> BundledVQA:
    """Rebuild the model that :func:`save_vqa` wrote, fp32, in eval mode, with ``input_size`` set.

    Raises:
        CheckpointError: the file is missing, unreadable or does not fit; one line says how.
    """
    return load_model(path, ARCHITECTURES, "VQA model", more=("answers",))


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
