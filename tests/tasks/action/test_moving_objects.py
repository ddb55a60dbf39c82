"""Real things moved over real photos: the maps of a network that learnt to tell directions follow them, exactly known.

The benchmark of the same name, shortened: enough for the network to tell the directions, and for its maps to follow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("MMEXPLAIN_DATA", "")) / "coco_mini"


@pytest.mark.skipif(not (DATA / "annotations.jsonl").is_file(), reason="MMEXPLAIN_DATA names no folder with coco_mini")
def test_maps_over_space_and_time_follow_what_moves(tmp_path: Path) -> None:
    settings = ("--clips", "384", "--epochs", "4", "--test-clips", "40", "--threads", "2", "--out", str(tmp_path))
    script = ROOT / "benchmarks" / "moving_objects.py"
    subprocess.run([sys.executable, str(script), "--data", str(DATA), *settings], check=True, capture_output=True)
    found = json.loads((tmp_path / "moving_objects.json").read_text(encoding="utf-8"))["test"]
    assert found["accuracy"] > 0.8
    hits = found["hits"]
    follows = hits["gradcam: the moving thing"]
    assert follows > 0.6
    for other in (
        "the centre",
        "a random place",
        "gradcam: the thing that stands still",
        "gradcam: with the map of the same clip backwards in time",
        "gradcam: with the map of the opposite direction",
    ):
        assert follows > hits[other] + 0.3, other
