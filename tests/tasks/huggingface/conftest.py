"""Tiny checkpoints, saved once a session, and loaded as tasks once a session."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mmexplain
from tests.tasks.huggingface import tiny
from tests.tasks.huggingface.tiny_speakers import MAKERS


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kind of a classifier → folder of a checkpoint, made at the first call."""
    return cache(lambda kind: str(tiny.save(kind, tmp_path_factory.mktemp(kind))))


@pytest.fixture(scope="session")
def load_tiny(checkpoint: Any) -> Any:
    """Kind of a classifier → its task, loaded at the first call."""
    return cache(lambda kind: mmexplain.load(checkpoint(kind), device="cpu"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Family of models that write → the folder of a tiny checkpoint, made at the first call."""

    @cache
    def made(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        MAKERS[family](folder)
        assert sum(file.stat().st_size for file in folder.rglob("*")) < 5e6
        return folder

    return made


@pytest.fixture(scope="session")
def captioner(folders: Any) -> Any:
    """Family → the captioner that its checkpoint makes."""
    return cache(lambda family: mmexplain.load(f"hf:{folders(family)}", "caption", "cpu"))


@pytest.fixture(scope="session")
def answerer(folders: Any) -> Any:
    """Family → the model that answers questions."""
    return cache(lambda family: mmexplain.load(f"hf:{folders(family)}", "vqa", "cpu"))
