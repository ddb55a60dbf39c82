"""Paths that users give: checked before anything is opened, with one line that says what is wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmexplain.errors import InputError, did_you_mean


def check_path(name: str, kind: str = "photo") -> Path:
    """The path of a file that exists and is not empty.

    Raises:
        InputError: it is not; the message speaks of a ``kind``.
    """
    if not name.strip():
        raise InputError(f"no {kind} was given: the path is {name!r}")
    if re.match(r"(?i)[a-z][a-z0-9+.-]+://|data:image/", name):
        raise InputError(f"{name[:200]!r} is a web address; download the {kind} first and give the file")
    try:
        path = Path(name)
        if path.is_dir():
            raise InputError(f"{name!r} is a folder; give a {kind} in it")
        if not os.path.lexists(path):
            raise InputError(f"no such file: {name!r}{nearby(path)}")
        if not path.exists():
            raise InputError(f"{name!r} is a link to a file that does not exist; mend the link")
        if not path.is_file():
            raise InputError(f"{name!r} is not a regular file; save the {kind} to a file first")
        if path.stat().st_size == 0:
            raise InputError(f"{name!r} is empty (0 bytes); copy or download it again")
    except PermissionError:
        raise InputError(f"{name!r} cannot be read: permission denied; try `chmod +rx` on its folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name[:200]!r} is not a usable path ({error.args[-1]})") from None
    return path


def nearby(path: Path) -> str:
    """What to say of a file that does not exist: which are called alike, or that its folder does not exist either."""
    if not path.parent.is_dir():
        return f"; the folder {str(path.parent)!r} does not exist"
    try:
        return did_you_mean(path.name, (entry.name for entry in os.scandir(path.parent)))
    except OSError:
        return ""
