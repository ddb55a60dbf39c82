"""Files of what was explained, to be taken home: kept for an hour, then deleted."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from uuid import uuid4

from mmexplain.explanation import Explanation
from mmexplain.filenames import safe

KEPT = 3600
"""Seconds that files are kept."""


class Results:
    """A folder that goes with the process, with a folder of its own for every request.

    Args:
        kept: seconds after which a request's files are deleted.
    """

    def __init__(self, kept: float = KEPT) -> None:
        self._owner = TemporaryDirectory(prefix="mmexplain-")
        self._kept = kept
        self._closed = Event()
        Thread(target=self._sweep, daemon=True, name="mmexplain-results").start()

    @property
    def root(self) -> Path:
        """The folder of all."""
        return Path(self._owner.name)

    def folder(self) -> Path:
        """A new empty folder."""
        folder = self.root / uuid4().hex
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Delete everything."""
        self._closed.set()
        self._owner.cleanup()

    def sweep(self) -> None:
        """Delete what has been kept long enough."""
        oldest = time.time() - self._kept
        for made in self.root.iterdir():
            if made.stat().st_mtime < oldest:
                shutil.rmtree(made, ignore_errors=True)

    def _sweep(self) -> None:
        while not self._closed.wait(min(60.0, self._kept / 4)):
            with suppress(OSError):  # a folder that goes meanwhile
                self.sweep()

    def keep(self, explanation: Explanation, folder: Path, suffix: str) -> Path:
        """Write an explanation as ``.html``, ``.png``, ``.mp4`` or ``.safetensors``.

        Raises:
            OSError, InputError: it cannot be written.
        """
        return explanation.save(folder / f"{stem(explanation)}{suffix}")

    def load(self, path: str | None) -> Explanation | None:
        """What was kept as ``.safetensors``; None where it has been deleted."""
        return Explanation.load(path) if path and Path(path).is_file() else None


def stem(explanation: Explanation) -> str:
    """A file name for an explanation, safe on any system."""
    name = Path(explanation.picture.source or explanation.task).stem
    return f"{safe(name)[:60] or explanation.task}.mmexplain"
