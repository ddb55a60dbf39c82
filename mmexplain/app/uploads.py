"""Uploads: files in Gradio's own folder, handed over by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from mmexplain.errors import InputError


def uploaded(path: Any) -> str:
    """The path of an uploaded file, which must lie in Gradio's own folder: a request can name any path.

    Raises:
        InputError: it does not, or is no file.
    """
    folder = Path(get_upload_folder()).resolve()
    try:
        file = Path(path).resolve(strict=True)
    except (OSError, TypeError, ValueError, RuntimeError):
        file = None
    if file is None or not file.is_relative_to(folder) or not file.is_file():
        raise InputError("the file is no longer here: upload it again")
    return str(file)


def photo_input() -> Any:
    """Where people put a photo."""
    return _as_path(gr.Image(label="Photo", type="filepath", sources=["upload", "clipboard"], height=260))


def clip_input() -> Any:
    """Where people put a clip."""
    return _as_path(gr.Video(label="Clip", sources=["upload"], height=260))


def _as_path(component: Any) -> Any:
    """Hand over the path: Gradio would decode a photo whatever its size, and convert a clip with another program."""
    component.preprocess = lambda payload: None if payload is None else uploaded(payload.path)
    return component
