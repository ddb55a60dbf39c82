"""The benchmarks run as the README says, here with tiny sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--threads", "1", "--size", "64", "--vocabulary", "50", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env={**os.environ, **environment},
    )


def test_words_with_every_peer_that_is_installed(tmp_path):
    options = ("--architecture", "resnet18", "--words", "3", "--rounds", "2", "--out", str(tmp_path))
    printed = run("words.py", *options).stdout
    found = json.loads((tmp_path / "words.json").read_text())
    captioner = found["captioners"]["resnet18"]
    assert {"encoder forward alone", "mmexplain", "by hand, no library"} <= captioner["contenders"].keys()
    # The maps were compared before anything was timed.
    assert 0 < max(captioner["largest_difference"].values()) < 1e-4
    assert all(timing["ms"]["median"] > 0 for timing in captioner["contenders"].values())
    assert (tmp_path / "words.md").read_text().strip() == printed.strip()
    assert str(Path.home()) not in json.dumps(found)
    assert str(tmp_path) not in json.dumps(found)


def test_peers_that_are_missing_are_skipped_with_a_line(tmp_path):
    # A finder that knows no peers, installed before the script starts.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "peers = ('captum', 'pytorch_grad_cam', 'torchcam')\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in peers else find(name, *rest)\n"
    )
    options = ("--architecture", "resnet18", "--words", "2", "--rounds", "1", "--out", str(tmp_path))
    done = run("words.py", *options, PYTHONPATH=str(tmp_path))
    for peer in ("captum", "pytorch_grad_cam", "torchcam"):
        assert f"{peer} is not installed: skipped" in done.stderr
    assert json.loads((tmp_path / "words.json").read_text())["captioners"]["resnet18"]["fastest_peer"] is None


def test_strategies_agree_and_are_compared(tmp_path):
    run(
        *("strategies.py", "--rounds", "1", "--only", "resnet18", "--classes", "2", "--captioners", "resnet18"),
        *("--batches", "1", "2", "--words", "2", "--out", str(tmp_path)),
    )
    found = json.loads((tmp_path / "strategies.json").read_text())["cases"]
    assert len(found) == 2 + 4
    assert all(case["best"] in ("expand", "vjp", "loop") for case in found.values())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_memory_of_one_contender():
    printed = run("words.py", "--architecture", "resnet18", "--words", "2", "--one", "mmexplain").stdout
    assert 0 < int(printed) < 2**30
