"""Tiny checkpoints of the models that write, made and opened once for all tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mmexplain
from tests.tasks.huggingface.tiny_speakers import MAKERS


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Family → the folder of a tiny checkpoint, made once."""

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
