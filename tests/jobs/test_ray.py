"""The distributed engine writes what the local one does, whatever dies on the way."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from mmexplain.errors import MMExplainError, ModelError
from mmexplain.jobs import distributed
from mmexplain.jobs.job import Job
from mmexplain.jobs.run import Summary, run
from mmexplain.jobs.store import open_store
from tests.command_line import run as cli_run
from tests.command_line import save_classifier

pytest_plugins = ["tests.command_line_fixtures"]
pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
pytestmark = pytest.mark.ray

PATIENCE = 240.0
"""Seconds that Ray may take for anything on a busy machine."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node with two cores."""
    from ray.cluster_utils import Cluster

    # a node that no longer answers is given up after seconds, not after half a minute
    health = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
    found = Cluster(True, head_node_args={"num_cpus": 2, "include_dashboard": False, "_system_config": health})
    yield found
    found.shutdown()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread for each model: sums of several are in no certain order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def on_cluster(cluster: Any) -> Iterator[Any]:
    """The same, and this process stays connected to it: processes that Ray has started once need not start again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        with distributed._connected(distributed._imported()):
            yield cluster


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-four photos, four of which cannot be explained."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(44):
        random = np.random.default_rng(number)
        height, width = random.integers(60, 160, 2)
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    folder.joinpath("03.png").write_bytes(b"")
    folder.joinpath("17.png").write_bytes(b"not a photo")
    folder.joinpath("30.png").write_bytes(folder.joinpath("31.png").read_bytes()[:300])
    folder.joinpath("41.png").unlink()
    folder.joinpath("41.png").symlink_to("nowhere.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "three.safetensors"
    save_classifier(path)
    return path


@pytest.fixture(scope="module")
def undisturbed(photos: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local engine makes of the photos."""
    store = tmp_path_factory.mktemp("local") / "store"
    torch.set_num_threads(1)
    run(Job("classify", str(model)), str(photos), store, batch=2, shard=4)
    return store


def files(store: Path, folder: str = "rows") -> dict[str, bytes]:
    """Name → content; what a killed process left half written is no excuse."""
    return {path.name: path.read_bytes() for path in sorted((store / folder).rglob("*")) if path.is_file()}


def explain(model: Path, photos: Path, store: Path, **options: Any) -> Summary:
    return run(Job("classify", str(model)), str(photos), store, **{"engine": "ray", "batch": 2, "shard": 4, **options})


def test_both_engines_make_the_same_files(
    on_cluster: Any, photos: Path, model: Path, undisturbed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[int, int]] = []
    found = explain(model, photos, tmp_path / "ray", workers=2, progress=lambda *numbers: told.append(numbers))
    assert files(tmp_path / "ray") == files(undisturbed)
    assert open_store(tmp_path / "ray").table().equals(open_store(undisturbed).table())
    assert (found.inputs, found.explained, found.done) == (44, 40, 44)
    assert told[0] == (0, 44) and told[-1] == (44, 44) and told == sorted(told)
    assert capfd.readouterr() == ("", "")


def test_captions_urls_and_pictures(on_cluster: Any, photos: Path, captioner: str, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "photos"), "zip", photos, ".")
    archive = f"::{tmp_path}/photos.zip"
    table = tmp_path / "table.csv"
    rows = [f"{photos}/00.png,a dog", f"{photos}/01.png,", f"{photos}/none.png,a cat", f"{photos}/17.png,"]
    rows += [f"zip://02.png{archive},", f"zip://17.png{archive},", f"zip://none.png{archive},a dog", "what://5.png,"]
    table.write_text("\n".join(["image,caption", *rows]))
    job = Job("caption", captioner, overlays=True)
    for engine in ("local", "ray"):
        found = run(job, str(table), tmp_path / engine, engine=engine, batch=2, shard=3)
        assert found.explained == 3
    for folder in ("rows", "overlays"):
        assert files(tmp_path / "ray", folder) == files(tmp_path / "local", folder) != {}
    errors = open_store(tmp_path / "ray").errors().column("error").to_pylist()
    assert any("there is no file system 'what'" in error for error in errors), errors


def test_paths_are_seen_from_where_the_run_begins(
    on_cluster: Any, photos: Path, model: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.symlink(photos, tmp_path / "photos")
    shutil.copy(model, tmp_path / "m.safetensors")
    shutil.copy(model.with_suffix(".json"), tmp_path / "m.json")
    monkeypatch.chdir(tmp_path)
    found = explain(Path("m.safetensors"), Path("photos"), Path("store"), limit=8)
    assert found.explained == 7
    same = ["id", "score", "map", "label"]
    assert open_store("store").table(same).equals(open_store(undisturbed).table(same)[:8])


def test_a_run_goes_on_with_either_engine(
    on_cluster: Any, photos: Path, model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    explain(model, photos, tmp_path / "ray")
    kept = (tmp_path / "ray/rows/part-000004.parquet").stat().st_mtime_ns
    told: list[tuple[int, int]] = []
    for engine in ("ray", "local"):
        for number in (0, 2, 10):
            (tmp_path / f"ray/rows/part-{number:06d}.parquet").unlink()
        (tmp_path / "ray/rows/part-000003.parquet").write_bytes(b"PAR1 cut short")
        explain(model, photos, tmp_path / "ray", engine=engine, resume=True, progress=lambda *now: told.append(now))
        assert files(tmp_path / "ray") == files(undisturbed)
        assert told[0] == (28, 44) and told[-1] == (44, 44)
        told.clear()
    assert (tmp_path / "ray/rows/part-000004.parquet").stat().st_mtime_ns == kept


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_model_that_cannot_be_loaded_elsewhere_is_told_in_one_line(
    on_cluster: Any, change: str, photos: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.safetensors"
    shutil.copy(model, path)
    shutil.copy(model.with_suffix(".json"), path.with_suffix(".json"))

    def spoil(text: str) -> None:
        if text == "trying a batch":  # the driver has loaded it
            path.unlink()
            if change == "other":
                save_classifier(path, poison=True)

    with pytest.raises(ModelError, match="cannot be loaded on" if change == "gone" else "has other weights on") as told:
        explain(path, photos, tmp_path / "store", say=spoil)
    assert "\n" not in str(told.value) and "m.safetensors" in str(told.value)
    assert capfd.readouterr() == ("", "")


def test_a_store_that_cannot_be_written_is_told_in_one_line(
    on_cluster: Any, photos: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def spoil(text: str) -> None:
        if text == "trying a batch":
            (tmp_path / "store/rows").write_text("in the way")

    with pytest.raises(MMExplainError, match=r"cannot write to .*store.*--resume goes on") as told:
        explain(model, photos, tmp_path / "store", say=spoil)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


def test_large_photos_stay_out_of_the_driver(on_cluster: Any, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    for number in range(80):
        Image.fromarray(np.roll(pixels, number, 0)).save(folder / f"{number:02d}.bmp")
    process, over, peak = psutil.Process(), threading.Event(), [0]
    before: list[int] = []

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    def begin(done: int, total: int) -> None:
        if not done:
            before.append(process.memory_info().rss)
            threading.Thread(target=watch, daemon=True).start()

    try:  # 173 MB a shard: more than is carried, and two of them more than Ray's store of 150 MiB holds
        explain(model, folder, tmp_path / "ray", batch=4, shard=40, progress=begin)
    finally:
        over.set()
    assert peak[0] - before[0] < 100e6
    run(Job("classify", str(model)), str(folder), tmp_path / "local", batch=4, shard=40)
    assert files(tmp_path / "ray") == files(tmp_path / "local")


class AtWork(threading.Thread):
    """Does something to the cluster once actors explain, while all of them stand still."""

    def __init__(self, raylets: list[psutil.Process], then: Callable[[list[psutil.Process]], None]) -> None:
        super().__init__(daemon=True)
        self._raylets = raylets
        self._then = then
        self.error: BaseException | None = None

    def run(self) -> None:
        actors = []
        try:
            for raylet in self._raylets:
                actors.append(_frozen_at_work(raylet))
            self._then(actors)
        except BaseException as error:
            self.error = error
        finally:
            for actor in actors:
                with contextlib.suppress(psutil.NoSuchProcess):
                    actor.resume()

    def begin(self, done: int, total: int) -> None:
        if not done:
            self.start()


def _raylet(node: Any) -> psutil.Process:
    (found,) = node.all_processes["raylet"]
    return psutil.Process(found.process.pid)


def _frozen_at_work(raylet: psutil.Process) -> psutil.Process:
    """The actor of a node, stopped while it explains a shard."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for process in raylet.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if _explains(process):
                    process.suspend()
                    if _explains(process):
                        return process
                    process.resume()
        time.sleep(0.001)
    raise AssertionError("no actor ever explained a shard")


def _explains(process: psutil.Process) -> bool:
    return "MapWorker" in (title := " ".join(process.cmdline())) and ".submit" in title


def test_a_killed_actor_costs_nothing(
    on_cluster: Any, photos: Path, model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    disturbance = AtWork([_raylet(on_cluster.head_node)], lambda actors: actors[0].kill())
    explain(model, photos, tmp_path / "ray", workers=1, progress=disturbance.begin)
    disturbance.join()
    assert disturbance.error is None
    assert files(tmp_path / "ray") == files(undisturbed)


def test_a_killed_node_costs_nothing(
    on_cluster: Any, photos: Path, model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    node = on_cluster.add_node(num_cpus=2)

    def kill(actors: list[psutil.Process]) -> None:
        raylet = _raylet(node)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()

    # Each actor claims three quarters of a node: what was on the other one has no room until this one's is done.
    disturbance = AtWork([_raylet(on_cluster.head_node), _raylet(node)], kill)
    try:
        found = explain(model, photos, tmp_path / "ray", workers=2, progress=disturbance.begin)
    finally:
        disturbance.join()
        on_cluster.remove_node(node, allow_graceful=False)
    assert disturbance.error is None
    assert found.explained == 40
    assert files(tmp_path / "ray") == files(undisturbed)


def test_the_command_line_stops_and_goes_on_with_a_cluster_of_its_own(
    photos: Path, model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "mmexplain.cli", "run", "classify", str(photos), "--model", str(model)]
    command += ["--out", str(store), "--engine", "ray", "--batch", "2", "--shard", "4"]
    alone = {**os.environ, "RAY_ADDRESS": "local"}

    def start(*more: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *more], env=alone, start_new_session=True, **pipes)

    first = start()
    _until(lambda: list(store.glob("rows/part-*")) != [] or first.poll() is not None)
    os.killpg(first.pid, signal.SIGINT)  # as the terminal does
    out, err = first.communicate(timeout=PATIENCE)
    assert (first.returncode, out) == (130, "")
    (told,) = _but_progress(err)
    assert "the same command with --resume goes on" in told
    there = open_store(store).missing()
    assert 0 < len(there) < 11

    second = start("--resume")
    out, err = second.communicate(timeout=2 * PATIENCE)
    assert (second.returncode, _but_progress(err)) == (0, [])
    assert files(store) == files(undisturbed)
    local = cli_run(*command[3:5], photos, "--model", model, "--out", store, "--resume")
    assert _lasting(out) == _lasting(local.stdout) != []


def _but_progress(errors: str) -> list[str]:
    """The lines that do not tell how far a run is, as is told now and then where it takes long."""
    return [line for line in errors.splitlines() if not line.startswith("explaining: ")]


def _lasting(output: str) -> list[str]:
    """The lines that do not tell how long it took."""
    return [line for line in output.splitlines() if " a second" not in line]


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
