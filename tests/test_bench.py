"""The page of the benchmark: its arithmetic on numbers worked by hand, and a case from end to end on a tiny model."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of the benchmarks are imported by their names, as its scripts do it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def load(name: str) -> Any:
    return importlib.import_module(name)


def bench(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, str(BENCHMARKS / "bench.py"), "--tiny", "--threads", "1", "--rounds", "2"),
            *("--out", str(out), *arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env={**os.environ, **environment},
    )


# -- scaling ----------------------------------------------------------------------------------------------------------


def test_a_part_of_the_targets_is_scaled_up():
    scaled = load("harness").scaled
    assert scaled("targets", 0.0, 3.0, 6, 100) == pytest.approx(50.0)
    # A forward pass of 2 seconds and 0.5 for each target: 1 target 2.5, 5 targets 4.5, 100 targets 52.
    assert scaled("graph", 2.5, 4.5, 5, 100) == pytest.approx(52.0)
    assert scaled("graph", 2.5, 4.5, 5, 5) == 4.5
    assert scaled("graph", 2.5, 2.4, 2, 100) == 2.4  # noise: further targets cannot take less than nothing


def test_as_many_targets_as_fit_into_the_budget():
    harness, contender = load("harness"), load("cases.case").Contender
    linear, graph = contender(lambda _: [], "targets"), contender(lambda _: [], "graph")
    assert harness.part_of(linear, 0.5, 0.5, 2.4, 100) == 4
    assert harness.part_of(linear, 5.0, 5.0, 2.4, 100) == 1
    assert harness.part_of(linear, 0.01, 0.01, 2.4, 100) == 100
    # Two at least, or what a further target adds would not be seen.
    assert harness.part_of(graph, 1.0, 4.0, 2.4, 100) == 2
    assert harness.part_of(graph, 5.0, 4.0, 2.4, 1) == 1
    # The forward pass does not count, but the ways back may take twice as long as it does.
    assert harness.part_of(graph, 1.0, 0.5, 2.4, 100) == 5
    assert harness.part_of(graph, 5.0, 0.5, 2.4, 100) == 21
    assert harness.part_of(contender(lambda _: []), 5.0, 5.0, 2.4, 100) == 100


def test_timings_over_all_targets():
    harness, case, timing = load("harness"), load("cases.case"), load("common").Timing
    entry = harness.Entry("", case.Contender(lambda _: [], "graph"), 3, [], timing([4.0, 5.0], [8.0, 10.0]))
    entry.one = timing([2.0], [4.0])
    found = harness.over_all(entry, 5)
    assert found.seconds == [6.0, 8.0] and found.ratios == [12.0, 16.0]


# -- checking ---------------------------------------------------------------------------------------------------------


def test_maps_that_differ_are_found():
    checks, case = load("checks"), load("cases.case")
    own = [torch.tensor([[[[1.0, 0.0]], [[0.0, 4.0]]]])]
    off = [own[0] + torch.tensor([0.0, 1e-3])]
    assert checks.difference(own, own) == 0
    assert checks.difference(own, off) == pytest.approx(1e-3, rel=1e-3)
    # Of the first target alone; its second place is 1e-3 of its maximum off.
    assert checks.difference(own, [off[0][:, :1]]) == pytest.approx(1e-3, rel=1e-3)
    equal = case.Contender(lambda _: [])
    with pytest.raises(SystemExit, match=r"differ from mmexplain's by 1\.0e-03"):
        checks.check("peer", own, equal, off)
    with pytest.raises(SystemExit, match="empty"):
        checks.difference([torch.zeros(1, 1, 2, 2)], [torch.zeros(1, 1, 2, 2)])
    with pytest.raises(SystemExit, match="not finite"):
        checks.difference(own, [own[0] * float("nan")])
    related = case.Contender(lambda _: [], alike="correlated")
    with pytest.raises(SystemExit, match="not finite"):
        checks.check("peer", own, related, [own[0] * float("nan")])
    with pytest.raises(SystemExit, match="correlate"):
        checks.check("peer", own, related, [-own[0]])


# -- the floor --------------------------------------------------------------------------------------------------------


class TwoSteps(nn.Module):
    """A convolution, the layer that is tapped, and a linear head of 8 · 4 · 4 inputs and 10 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).flatten(1))


def test_the_way_back_is_counted():
    floor, case = load("floor"), load("cases.case")
    model = TwoSteps().eval()
    subject = case.Subject(case.ClassScores(model, 5), torch.randn(2, 3, 4, 4), ["conv"], lambda: [])
    case.freeze(subject)
    work = floor.work(subject)
    # Two photos, five targets: a product of [10] and [10, 128] each, two operations for each weight.
    assert work.flops == 2 * 5 * 2 * 10 * 128
    activations, weights = 2 * 128 * 4, (10 * 128 + 10) * 4
    assert work.traffic == activations * (1 + 5) + weights
    rates = floor.Rates(flops=1e6, bandwidth=1e9)
    assert work.seconds(rates) == pytest.approx(work.flops / 1e6)
    assert work.seconds(floor.Rates(1e12, 1e3)) == pytest.approx(work.traffic / 1e3)
    # The last parameter before the layer's end begins the graph; the flags are as they were.
    assert [name for name, value in model.named_parameters() if value.requires_grad] == ["conv.bias"]


# -- verdicts ---------------------------------------------------------------------------------------------------------


def record(own: float, against: bool = True, peak: float | None = None, **peers: float) -> dict[str, Any]:
    named = {name.replace("_", "-"): {"ratio": {"median": value}} for name, value in peers.items()}
    found: dict[str, Any] = {
        "contenders": {"mmexplain": {"ratio": {"median": own}}, **named},
        "limits": {"cpu": 1.15},
        "against_peers": against,
    }
    if peak is not None:
        found["peak_mib"] = {"mmexplain": peak, "torch-cam": 100.0, "captum": None}
    return found


def test_verdicts():
    of = load("verdicts").verdicts

    def met(found: dict[str, Any], device: str = "cpu") -> dict[str, bool]:
        return {verdict.asked: verdict.met for verdict in of({"case": found}, device)}

    good = met(record(1.1, torch_cam=2.2, pytorch_grad_cam=11.0, peak=100.5))
    assert len(good) == 5 and all(good.values())
    assert met(record(1.16, torch_cam=2.4)) == {
        "at most 1.15 forward passes": False,
        "at least 2 x as fast as the fastest peer": True,
        "never slower than a peer": True,
    }
    assert "at most 1.15 forward passes" not in met(record(1.16, torch_cam=2.4), "cuda:0")
    slow = met(record(1.1, torch_cam=1.0, captum=5.0, pytorch_grad_cam=10.0, peak=102.0))
    assert [slow[asked] for asked in slow] == [True, False, False, False, False]
    # The two- and tenfold goals are for several targets only; what is slower by a little is slower.
    single = met(record(1.002, against=False, torch_cam=1.0))
    assert single == {"at most 1.15 forward passes": True, "never slower than a peer": False}


# -- end to end -------------------------------------------------------------------------------------------------------


@pytest.mark.peers
def test_a_case_beside_every_peer(tmp_path):
    done = bench(tmp_path, "--only", "1 image, 3 classes", "--budget", "0.2", "--memory")
    found = json.loads((tmp_path / "bench.json").read_text())
    (case,) = found["cases"].values()
    assert case["contenders"].keys() == {"mmexplain", "naive loop", "torch-cam", "captum", "pytorch-grad-cam"}
    # The maps were compared before anything was timed.
    off = [entry["difference"] for name, entry in case["contenders"].items() if name != "mmexplain"]
    assert len(off) == 4 and 0 < max(off) < 1e-4
    assert all(entry["ms"]["median"] > 0 and entry["of_floor"] > 0 for entry in case["contenders"].values())
    # A linear layer of 512 inputs and 1,000 outputs, of which all have a gradient; then the mean over 2 x 2 places.
    assert case["floor"]["head_flops"] == 3 * 2 * 512 * 1000
    assert case["floor"]["ms"] > 0 and found["rates"]["flops"] > 1e8
    if Path("/proc/self/clear_refs").exists():
        assert all(0 < value < 2**12 for value in case["peak_mib"].values())
        assert case["peak_mib"].keys() == {"forward pass", *case["contenders"]}
    page = (tmp_path / "bench.md").read_text()
    assert page.strip() == done.stdout.strip()
    assert "### ResNet-18, 1 image, 3 classes" in page and "never slower than a peer" in page
    assert str(Path.home()) not in json.dumps(found) and str(tmp_path) not in json.dumps(found)


def test_peers_that_are_missing_are_skipped_with_a_line(tmp_path):
    # A finder that knows no peers, installed before the script starts.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "peers = ('captum', 'pytorch_grad_cam', 'torchcam')\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in peers else find(name, *rest)\n"
    )
    done = bench(tmp_path, "--only", "words", "--budget", "0.2", PYTHONPATH=str(tmp_path))
    for peer in ("captum", "pytorch_grad_cam", "torchcam"):
        assert f"{peer} is not installed: skipped" in done.stderr
    (case,) = json.loads((tmp_path / "bench.json").read_text())["cases"].values()
    assert case["contenders"].keys() == {"mmexplain", "naive loop"}
    assert case["left_out"] == dict.fromkeys(("torch-cam", "captum", "pytorch-grad-cam"), "not installed")
    assert case["contenders"]["naive loop"]["difference"] < 1e-4


def test_cases_are_named(tmp_path):
    named = bench(tmp_path, "--list").stdout.splitlines()
    assert "Classes/ResNet-18, 1 image, 1 class" in named
    every = load("cases.every").every()
    names = [case.name for case in every]
    assert len(set(names)) == len(names) and {case.group for case in every if case.quick} == {
        case.group for case in every
    }
