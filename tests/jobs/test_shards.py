"""Files are there whole or not at all."""

import subprocess
import sys

import fsspec
import pyarrow as pa
import pytest

from mmexplain.errors import InputError
from mmexplain.jobs.shards import Shards, opened, put

READER = """
import pathlib, sys, time
import pyarrow as pa, pyarrow.parquet as pq
path, seen, end = pathlib.Path(sys.argv[1]), set(), time.monotonic() + 60
print("ready", flush=True)
while len(seen) < 10:
    assert time.monotonic() < end, seen
    for part in path.parent.glob("*.parquet"):
        values = pq.read_table(pa.OSFile(str(part))).column("n").to_pylist()
        assert values == values[:1] * 20_000, "a mixture"
        seen.add(values[0])
"""


@pytest.fixture
def shards(tmp_path):
    return Shards(*opened(str(tmp_path)))


def table(value, rows=20_000):
    return pa.table({"n": pa.array([value] * rows, pa.int64())})


def test_another_process_never_sees_half_a_shard(shards):
    shards.write(0, table(0))
    reader = subprocess.Popen([sys.executable, "-c", READER, shards.path(0)], stdout=subprocess.PIPE, text=True)
    assert reader.stdout.readline() == "ready\n"
    value = 0
    while reader.poll() is None:
        value += 1
        shards.write(0, table(value))
    assert reader.returncode == 0
    assert value > 10


def test_what_cannot_be_written_leaves_nothing(shards, tmp_path, monkeypatch):
    shards.write(0, table(1))

    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        shards.write(0, table(2))
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["part-000000.parquet"]
    import pyarrow.parquet as pq

    assert pq.read_table(shards.path(0)).column("n")[0].as_py() == 1


def test_leftovers_are_swept_and_nothing_else(shards, tmp_path):
    shards.write(7, table(1))
    left = tmp_path / "rows" / ".part-000008.parquet.0123abcd.partial"
    left.write_bytes(b"PAR1half")
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays" / ".a.jpg.0123abcd.partial").write_bytes(b"half")
    (tmp_path / "rows" / "notes.txt").write_text("mine")
    assert shards.numbers() == [7]
    shards.sweep()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "rows/notes.txt",
        "rows/part-000007.parquet",
    ]


def test_damaged_ones_are_not_whole(shards, tmp_path):
    for number in range(4):
        shards.write(number, table(number))
    data = (tmp_path / "rows" / "part-000001.parquet").read_bytes()
    (tmp_path / "rows" / "part-000001.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "rows" / "part-000002.parquet").write_bytes(b"\0" * len(data))
    (tmp_path / "rows" / "part-000003.parquet").write_bytes(b"")
    assert shards.numbers() == [0, 1, 2, 3]
    assert shards.whole() == [0]


def test_size_is_that_of_the_shards(shards, tmp_path):
    assert shards.size() == 0
    sizes = [shards.write(number, table(number)) for number in range(3)]
    (tmp_path / "rows" / "notes.txt").write_text("mine")
    assert shards.size() == sum(sizes)


def test_in_memory_too():
    fs = fsspec.filesystem("memory")
    shards = Shards(fs, "/somewhere/store")
    assert shards.numbers() == []
    size = shards.write(3, table(5))
    assert (shards.whole(), shards.size()) == ([3], size)
    put(fs, "/somewhere/store/a/b", b"c")
    assert fs.cat_file("/somewhere/store/a/b") == b"c"


def test_a_file_system_that_does_not_exist():
    with pytest.raises(InputError, match="cannot open 'nowhere://store'"):
        opened("nowhere://store")
