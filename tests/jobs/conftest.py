"""A tiny classifier on disk, and a store that it was run into."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra `jobs` is not installed")

from mmexplain.jobs.job import Job
from mmexplain.jobs.run import run
from tests.jobs.tiny import photos, save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--model`` of a classifier of five classes."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "five.safetensors")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 photos, of which one is no photo and one is empty."""
    found = photos(tmp_path_factory.mktemp("inputs") / "photos", 20)
    (found / "0003.png").write_bytes(b"not a photo")
    (found / "0007.png").write_bytes(b"")
    return found


@pytest.fixture(scope="session")
def finished(tiny: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of these, two likeliest classes each, in five shards."""
    out = tmp_path_factory.mktemp("stores") / "finished"
    run(Job("classify", tiny, options={"top": 2}, device="cpu"), str(folder), out, batch=4, shard=4)
    return out
