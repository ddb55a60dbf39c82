"""Any folder of photos or clips."""

from __future__ import annotations

from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.protocol import Item

PHOTOS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
CLIPS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif"})

_INSIDE = ("JPEGImages", "images")
"""Where VOC's layout and others keep the photos, beside masks that are images too."""


def files(folder: Path, suffixes: frozenset[str] = PHOTOS) -> list[Item]:
    """The photos (or clips) of a folder and of those in it, in the order of their paths.

    Args:
        folder: of a folder with ``JPEGImages`` or ``images`` in it only these are looked at.
        suffixes: of the files' names, in small letters.

    Returns:
        Items called by their path in the folder, which hold the whole :class:`~pathlib.Path`.

    Raises:
        InputError: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {str(folder)!r}")
    root = next((inner for name in _INSIDE if (inner := folder / name).is_dir()), folder)
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise InputError(f"no file in {str(root)!r} ends in {', '.join(sorted(suffixes))}")
    return [Item(path.relative_to(root).as_posix(), path) for path in found]
