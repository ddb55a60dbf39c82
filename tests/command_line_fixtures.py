"""A photo and two tiny models on disk for the tests of the command line: a plugin, made once for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import picture, save_answerer, save_captioner, save_classifier, save_mover


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


@pytest.fixture(scope="session")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--model`` of a VQA model of three answers."""
    path = tmp_path_factory.mktemp("answerer") / "three.safetensors"
    save_answerer(path)
    return str(path)


@pytest.fixture(scope="session")
def mover(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--model`` of an action model of three actions that sees 16 frames."""
    path = tmp_path_factory.mktemp("mover") / "three.safetensors"
    save_mover(path)
    return str(path)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GIF of 20 frames: the photo, growing brighter, at ten frames a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.gif"
    first, *others = (picture().point(lambda value, n=n: min(255, value + 5 * n)) for n in range(20))
    first.save(path, save_all=True, append_images=others, duration=100)
    return path


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
