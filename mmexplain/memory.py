"""Memory that is used again, instead of being fetched from the system for every tensor."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Names of settings in glibc's malloc.h."""


def keep_freed() -> bool:
    """Have the C library keep the memory that large tensors free.

    glibc maps every block of 32 MiB or more anew and gives it back when it is freed, so each batch pays for its pages
    again: the system clears them one by one as they are first written. On CPUs that is more than half of a
    convolutional encoder's time (``benchmarks/captions_in_batches.py --give-back``). Kept, the memory stays with the
    process until it ends; the most that it takes at a time does not grow.

    For processes of mmexplain's own: importing the package changes nothing.

    Returns:
        Whether the C library did so; others than glibc have other habits, and are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20))
    return all(library.mallopt(name, value) for name, value in settings)
