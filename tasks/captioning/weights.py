"""Captioners as files: fp16 weights with everything needed to rebuild the model in the header, and a card beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import load_model, save_model
from .show_and_tell import ShowAndTell
from .show_attend_tell import ShowAttendTell

BundledCaptioner = ShowAndTell | ShowAttendTell
ARCHITECTURES: dict[str, type[ShowAndTell] | type[ShowAttendTell]] = {
    ShowAndTell.architecture: ShowAndTell,
    ShowAttendTell.architecture: ShowAttendTell,
}


def save_captioner(path: Path | str, model: BundledCaptioner, card: Mapping[str, Any]) -> None:
    """Write ``model`` and its ``card``; see :func:`~mmexplain.tasks.captioning.checkpoint.save_model`."""
    save_model(path, model, card)


def load_captioner(path: Path | str) -> BundledCaptioner:
    """Rebuild the model that :func:`save_captioner` wrote, fp32, in eval mode, with ``input_size`` set.

    Raises:
        CheckpointError: the file is missing, unreadable or does not fit; one line says how.
    """
    return load_model(path, ARCHITECTURES, "captioner")
