"""A run holds no more at its end than at its beginning, and its benchmark says so."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from mmexplain.jobs.job import Job
from mmexplain.jobs.run import run
from tests.jobs.tiny import photos

SCALE = Path(__file__).parents[2] / "benchmarks" / "scale.py"
COUNT, WARM, SHARD = 2500, 500, 64


@pytest.fixture
def lines(tmp_path):
    """A table of many inputs that name few photos."""
    folder = photos(tmp_path / "photos", 8)
    (folder / "0005.png").unlink()
    path = tmp_path / "inputs.jsonl"
    rows = ({"image": f"photos/{number % 8:04d}.png", "id": f"input {number}"} for number in range(COUNT))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_nothing_is_kept_of_inputs_that_are_done(tiny, lines, tmp_path):
    blocks, allocated = [], []

    def look(done, total):
        if done >= WARM and done % 250 < 16:
            gc.collect()
            # Not ``gc.get_objects()``: it takes hold of tuples that other threads are still filling, who then fail.
            blocks.append(sys.getallocatedblocks())
            allocated.append(pa.total_allocated_bytes())

    found = run(
        Job("classify", tiny, device="cpu"), str(lines), tmp_path / "store", batch=16, shard=SHARD, progress=look
    )
    assert (found.inputs, found.explained) == (COUNT, COUNT - len(range(5, COUNT, 8))), found.failed
    assert len(blocks) > 5
    # An Explanation alone takes more than fifty. What is held meanwhile is a shard's rows and some batches.
    assert max(blocks[1:]) - blocks[0] < 10 * (COUNT - WARM)
    assert max(allocated) < 50e6


def test_the_benchmark(tmp_path):
    pytest.importorskip("duckdb")
    done = subprocess.run(
        [sys.executable, str(SCALE), "--synthetic", "1200", "--threads", "1", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(SCALE.parent)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scale.json").read_text())["synthetic"]
    assert found["inputs"] == found["store"]["rows"] == 1200
    assert found["inputs per second"] > 0 and len(found["samples"]) > 5
    assert all(0 < seconds < 1 for seconds in found["queries"].values())
    assert (tmp_path / "scale.md").read_text().strip() == done.stdout.strip()
    assert str(Path.home()) not in json.dumps(found) and str(tmp_path) not in json.dumps(found)
