"""Writing a file whole or not at all."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mmexplain.errors import InputError


@contextmanager
def whole(path: Path) -> Generator[Path]:
    """A name beside ``path`` to write to. It is renamed to ``path`` at the end, so that an interrupted write leaves no
    half file under the final name, and removed if anything went wrong.

    Raises:
        InputError: the system refused to write.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
