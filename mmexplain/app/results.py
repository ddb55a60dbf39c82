"""Files of what was explained, to be taken home: kept for an hour, then deleted."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from mmexplain.explanation import Explanation

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

    @property
    def root(self) -> Path:
        """The folder of all."""
        return Path(self._owner.name)

    def folder(self) -> Path:
        """A new empty folder; old ones are deleted on the way."""
        oldest = time.time() - self._kept
        for made in self.root.iterdir():
            if made.stat().st_mtime < oldest:
                shutil.rmtree(made, ignore_errors=True)
        folder = self.root / uuid4().hex
        folder.mkdir()
        return folder

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
    safe = re.sub(r"[^\w.+-]+", "-", name).strip("-.")[:60]
    return f"{safe or explanation.task}.mmexplain"
