"""The app as its users start it: a process of its own, with the bundled models and a tiny one for clips."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.huggingface import tiny_video

pytest.importorskip("gradio", reason="the extra `app` is not installed")

PATIENCE = 180.0
"""Seconds that a start may take on a machine that is busy with other tests."""


@dataclass
class App:
    """The app that runs.

    Attributes:
        address: where.
        process: its process.
        folder: holds all its temporary files.
        clip_model: the model of its tab for actions.
    """

    address: str
    process: subprocess.Popen[str]
    folder: Path
    clip_model: str

    def peak(self) -> int:
        """Most memory that it held, in bytes, since :meth:`forget`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def forget(self) -> None:
        """Start to measure anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(*options: str, folder: Path) -> tuple[subprocess.Popen[str], list[str]]:
    """The process, and the lines up to its address or its end."""
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmexplain.cli", "app", *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
    end = time.monotonic() + PATIENCE
    while (
        time.monotonic() < end and process.poll() is None and "mmexplain is at" not in log.read_text(encoding="utf-8")
    ):
        time.sleep(0.1)
    return process, log.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    model = tiny_clip_model(tmp_path_factory.mktemp("clips"))
    process, lines = started("--port", str(free_port()), "--model", f"action={model}", folder=folder)
    told = next((line for line in lines if "mmexplain is at" in line), None)
    assert told, lines
    yield App(told.split()[3].rstrip("/"), process, folder, model)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert [path.name for path in folder.iterdir()] == ["log.txt"], "uploads and results go with it"


@pytest.fixture
def client(app: App, tmp_path: Path) -> Any:
    from gradio_client import Client

    return Client(app.address, verbose=False, download_files=str(tmp_path))


def tiny_clip_model(folder: Path) -> str:
    """A video transformer with random weights, saved as transformers does."""
    return str(tiny_video.save(folder / "tiny", "videomae"))
