"""Where converted weights are kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder of mmexplain; it need not exist yet.

    ``MMEXPLAIN_CACHE`` if set, else ``mmexplain`` in the platform's own place: ``XDG_CACHE_HOME`` or ``~/.cache``,
    ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows.
    """
    if own := os.environ.get("MMEXPLAIN_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "mmexplain"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mmexplain"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "mmexplain"
    return Path.home() / ".cache" / "mmexplain"
