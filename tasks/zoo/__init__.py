"""Models that this project trained itself: fp16 safetensors, with a model card beside each."""

from __future__ import annotations

from pathlib import Path

ZOO = Path(__file__).parent


def zoo_path(model_id: str) -> Path:
    """Where the bundled weights of that name lie."""
    return ZOO / f"{model_id.replace('-', '_')}.safetensors"
