"""The folder of a gallery: only a new one, an empty one or one of ours is written to, and it looks whole last."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.render.whole import whole

FORMAT = "mmexplain.gallery/1"
MARK = "gallery.json"
FIRST = "index.html"
FOLDERS = ("cards", "others", "inputs", "frames")

_OURS = re.compile(
    r"index\.html|page-\d+\.html|where\.html|statistics\.(html|csv)|errors\.html|unpaired\.html|comparison\.csv"
    r"|compare(-probability|-peaks)?(-\d+)?\.html|gallery\.(css|js)|cards\.js|.+\.partial"
)


class Folder:
    """Where a gallery is written.

    Args:
        path: of the folder.

    Raises:
        InputError: there is something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"cannot write a gallery to {str(path)!r}: it is a file; name a folder")
        with telling(self.path):
            others = sorted(entry.name for entry in self.path.iterdir()) if self.path.exists() else []
        if others and not self._ours():
            raise InputError(
                f"{str(path)!r} is no gallery and not empty ({others[0]}): choose a new folder for the gallery"
            )

    def begin(self) -> None:
        """Make it, or take away what an earlier gallery left, its first page before all else.

        Raises:
            InputError: the system refused.
        """
        with telling(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / FIRST).unlink(missing_ok=True)
            self.write(MARK, json.dumps({"format": FORMAT}))
            for entry in self.path.iterdir():
                if entry.is_file() and _OURS.fullmatch(entry.name):
                    entry.unlink()
            for name in FOLDERS:
                if (self.path / name).is_dir() and not (self.path / name).is_symlink():
                    shutil.rmtree(self.path / name)

    def sub(self, name: str) -> Path:
        """One of its folders, made if needed."""
        made = self.path / name
        with telling(made):
            made.mkdir(exist_ok=True)
        return made

    def write(self, name: str, text: str) -> None:
        """A text file, whole or not at all."""
        with whole(self.path / name) as partial:
            partial.write_text(text, encoding="utf-8")

    def _ours(self) -> bool:
        try:
            record: Any = json.loads((self.path / MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(record, dict) and record.get("format") == FORMAT


@contextmanager
def telling(path: Path) -> Generator[None]:
    """A disk that refuses becomes one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
