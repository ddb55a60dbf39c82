"""What the distributed engine does apart from Ray: what it reads ahead, and how it shares a cluster out."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from mmexplain.errors import DeviceError, InputError
from mmexplain.jobs import parcels
from mmexplain.jobs.distributed import _address, _connected, _imported, _pool
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.manifest import Manifest, freeze
from mmexplain.jobs.shards import Shards


def parcel_of(tmp_path: Path, sources: list[str], task: str = "classify") -> dict[str, Any]:
    """What is read of a shard of these sources."""
    fs = LocalFileSystem()
    path = str(tmp_path / "inputs.parquet")
    freeze((Item(number, str(number), source) for number, source in enumerate(sources)), path, fs)
    job = Job(task, "any", batch=1, shard=len(sources), count=len(sources))
    (row,) = parcels.read(pa.table({"number": [0]}), job, Manifest.open(path, fs)).to_pylist()
    return dict(row)


def test_bytes_and_refusals_are_carried_but_not_those_of_files(tmp_path: Path) -> None:
    tmp_path.joinpath("a.jpg").write_bytes(b"a photo")
    row = parcel_of(tmp_path, [str(tmp_path / "a.jpg"), str(tmp_path / "none.jpg"), "what://b.jpg", " "])
    assert row["contents"] == [b"a photo", None, None, None]
    assert row["refusals"][:2] == [None, None]  # the actor looks again, and says it as the local engine does
    assert "no file system 'what'" in row["refusals"][2]
    assert "names no file" in row["refusals"][3]
    assert row["fault"] is None


def test_no_more_than_some_bytes_are_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "CARRIED", 1000)
    monkeypatch.setattr(parcels, "READERS", 4)
    tmp_path.joinpath("a.jpg").write_bytes(bytes(150))
    row = parcel_of(tmp_path, [str(tmp_path / "a.jpg")] * 20)
    assert [content is not None for content in row["contents"]] == [True] * 8 + [False] * 12
    assert row["refusals"] == [None] * 20


def test_videos_are_left_to_the_actor(tmp_path: Path) -> None:
    tmp_path.joinpath("a.mp4").write_bytes(b"a video")
    assert parcel_of(tmp_path, [str(tmp_path / "a.mp4")], "action")["contents"] == [None]


def test_a_manifest_that_is_gone_is_a_fault_and_goes_to_the_end(tmp_path: Path) -> None:
    fs = LocalFileSystem()
    path = str(tmp_path / "inputs.parquet")
    freeze([Item(0, "0", "a.jpg")], path, fs)
    manifest = Manifest.open(path, fs)
    os.unlink(path)
    found = parcels.read(pa.table({"number": [0]}), Job("classify", "any", shard=1, count=1), manifest)
    assert parcels.write(found, Shards(fs, str(tmp_path))) is found
    fault = parcels.fault_of(found["fault"][0].as_py())
    assert isinstance(fault, InputError) and "inputs.parquet" in str(fault)


def nodes(*resources: dict[str, float]) -> Any:
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": found} for found in resources])


@pytest.mark.parametrize(
    ("ray", "device", "workers", "size", "cpus", "gpus", "threads"),
    [
        (nodes({"CPU": 16, "GPU": 2}, {"CPU": 16, "GPU": 2}, {}), "auto", None, 4, 0.75, 1, 4),
        (nodes({"CPU": 16, "GPU": 2}), "cuda", 1, 1, 0.75, 1, 4),
        (nodes({"CPU": 16, "GPU": 2}), "cpu", None, 4, 3.0, 0, 4),
        (nodes({"CPU": 8}, {"CPU": 6}), "auto", None, 3, 3.0, 0, 4),
        (nodes({"CPU": 2}), "auto", None, 1, 1.5, 0, 2),
        (nodes({"CPU": 2}), "auto", 2, 2, 0.75, 0, 1),
        (nodes({"CPU": 2}), "auto", 4, 4, 0.375, 0, 1),  # what reads has room still
        (nodes({"CPU": 1}, {"CPU": 1}), "auto", None, 2, 0.75, 0, 1),
        (nodes({"CPU": 256}), "auto", None, 10, 3.0, 0, 4),  # there are ten shards
    ],
)
def test_how_a_cluster_is_shared_out(
    ray: Any, device: str, workers: int | None, size: int, cpus: float, gpus: int, threads: int
) -> None:
    pool = _pool(ray, device, workers, 10)
    assert (pool.size, pool.cpus, pool.gpus, pool.threads) == (size, cpus, gpus, threads)
    assert pool.device == ("cuda" if gpus else device)


def test_devices_that_a_cluster_cannot_give() -> None:
    with pytest.raises(DeviceError, match="no machine of the Ray cluster has a GPU"):
        _pool(nodes({"CPU": 2}), "cuda", None, 1)
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES"):
        _pool(nodes({"CPU": 2, "GPU": 2}), "cuda:1", None, 1)


def test_without_ray_it_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine ray needs ray: pip install 'mmexplain\[ray\]'"):
        _imported()


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
    ray = _imported()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"no Ray cluster answers at RAY_ADDRESS='127\.0\.0\.1:1'"), _connected(ray):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
    with pytest.raises(InputError, match="ray job submit"), _connected(ray):
        pass


@pytest.mark.parametrize("named", ["", "auto"])
def test_a_cluster_that_was_noted_down_and_is_gone(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
    ray = _imported()
    monkeypatch.setenv("RAY_ADDRESS", named)
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda: "127.0.0.1:1")
    assert _address(ray) == "local"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("ray._private.utils.read_ray_address", lambda: address)
        assert _address(ray) == address
