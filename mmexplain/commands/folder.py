"""What a verb reads, and folders that it writes several files to."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from mmexplain.errors import InputError


def existing(data: str) -> Path:
    """What is there to read.

    Raises:
        InputError: there is nothing.
    """
    if not Path(data).exists():
        raise InputError(f"no such file or folder: {data!r}")
    return Path(data)


def writable(out: str | None, what: str) -> Path | None:
    """The folder to write to, made and tried: who may not write is told so before anything is worked out.

    Args:
        out: as the user gave it; None for none.
        what: writes there: "an evaluation".

    Raises:
        InputError: it is no folder, or cannot be written to.
    """
    if out is None:
        return None
    folder = Path(out)
    if not out.strip() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"--out {out!r} is no folder: {what} writes several files")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot write to --out {out!r}: {reason.lower()}") from None
    return folder
