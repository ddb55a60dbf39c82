"""The benchmark against the peers runs from the command line, checks its maps and writes its tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).parent.parent / "benchmarks" / "words.py"


def test_words(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--architecture", "resnet18", "--words", "2", "--size", "64", "--vocabulary", "50"]
    command = [sys.executable, str(SCRIPT), *options, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "words.json").read_text())
    table = (tmp_path / "words.md").read_text()
    for contender in ("mmexplain", "torch-cam", "captum", "pytorch-grad-cam", "encoder forward alone"):
        assert contender in table
    assert "Maps equal before timing" in table
