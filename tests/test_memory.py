"""Freed memory is kept, where it is asked for."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from mmexplain.memory import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(16 * 2**20).fill_(1)  # 64 MiB: 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
counts = [faults() for _ in range(12)]  # the first few find their place between what is in use
print(sum(counts[-4:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_freed() speaks to glibc only")
def test_pages_of_a_freed_tensor_are_not_fetched_again() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given back")
    )
    # The system may hand out pages of 2 MiB: 32 for each tensor then.
    assert given_back >= 4 * 32
    assert kept < given_back / 4
