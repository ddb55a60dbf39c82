"""A photo and two tiny models on disk for the tests of the command line: a plugin, made once for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import picture, save_captioner, save_classifier


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture().save(path)
    return path


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--model`` of a classifier of three classes."""
    path = tmp_path_factory.mktemp("classifier") / "three.safetensors"
    save_classifier(path)
    return str(path)


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--model`` of an attention captioner of eight words."""
    path = tmp_path_factory.mktemp("captioner") / "eight.safetensors"
    save_captioner(path)
    return str(path)


@pytest.fixture(params=["caption", "classify"])
def verb(request: pytest.FixtureRequest) -> str:
    """Each verb that takes a photo."""
    return str(request.param)


@pytest.fixture
def model(verb: str, classifier: str, captioner: str) -> str:
    """``--model`` of a tiny model for the verb."""
    return captioner if verb == "caption" else classifier


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written by default lands in the test's own folder."""
    monkeypatch.chdir(tmp_path)
