"""Tiny checkpoints, saved once a session, and loaded as tasks once a session."""

import pytest

import mmexplain
from tests.tasks.huggingface import tiny


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """kind → folder of a checkpoint, made at the first call."""
    folders = {}

    def of(kind):
        if kind not in folders:
            folders[kind] = tiny.save(kind, tmp_path_factory.mktemp(kind))
        return str(folders[kind])

    return of


@pytest.fixture(scope="session")
def load_tiny(checkpoint):
    """kind → its task, loaded at the first call."""
    tasks = {}

    def of(kind):
        if kind not in tasks:
            tasks[kind] = mmexplain.load(checkpoint(kind), device="cpu")
        return tasks[kind]

    return of
