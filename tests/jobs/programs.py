"""``mmexplain`` as a process of its own that starts in a moment: a fork of one that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["timm", "duckdb", "pyarrow.parquet", "mmexplain.cli", "mmexplain.jobs.run", "tests.jobs.tiny"]
)


class Program:
    """A running ``mmexplain``.

    Args:
        arguments: what is typed after ``mmexplain``.
        folder: where its output is kept.
        before: called in it first.
    """

    def __init__(self, arguments: list[Any], folder: Path, before: Callable[[], None] | None = None) -> None:
        self._files = folder / "stdout.txt", folder / "stderr.txt"
        texts = [str(argument) for argument in arguments]
        self._process = _context.Process(target=_main, args=(texts, *map(str, self._files), before))
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 120) -> int:
        """Its exit code, negative for a signal."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"still running after {seconds} s: {self.stderr}"
        return code

    def kill(self) -> int:
        """End it by a signal that it cannot catch."""
        self._process.kill()
        return self.wait()

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return self._files[0].read_text()

    @property
    def stderr(self) -> str:
        """What it has said."""
        return self._files[1].read_text()


def _main(arguments: list[str], out: str, err: str, before: Callable[[], None] | None) -> None:
    # A shell that runs pytest in the background makes its children ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    import torch

    torch.set_num_threads(1)
    if before is not None:
        before()
    from mmexplain.cli import cli

    cli(arguments, prog_name="mmexplain")


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to hold."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
