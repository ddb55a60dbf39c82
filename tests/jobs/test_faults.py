"""What happens to a run must not happen to its store: kills, full disks, Ctrl-C, photos and shards that go bad."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmexplain.jobs.store import open_store
from tests.command_line import one_line
from tests.jobs.programs import Program, until
from tests.jobs.tiny import photos, tables

COUNT, SHARD = 240, 4
KILLS, EARLY = 20, 6


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    found = photos(tmp_path_factory.mktemp("many") / "photos", COUNT, size=20)
    (found / "0100.png").write_bytes(b"not a photo")
    return found


@pytest.fixture(scope="module")
def arguments(tiny, many):
    return ["run", "classify", many, "--model", tiny, "--top", 2, "--batch", 2, "--shard", SHARD, "--device", "cpu"]


@pytest.fixture(scope="module")
def undisturbed(arguments, tmp_path_factory):
    """The tables of a run that nothing happened to, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert Program(["--version"], folder).wait() == 0  # what all are forked from takes its time
    started = time.monotonic()
    program = Program([*arguments, "--out", folder / "store"], folder)
    until(lambda: (folder / "store" / "run.json").exists())
    begun = time.monotonic() - started
    assert program.wait() == 0, program.stderr
    found = tables(folder / "store")
    assert len(found) == COUNT // SHARD
    return found, begun


def shards(store):
    return sorted((store / "rows").glob("part-*.parquet"))


def check(store):
    """Every shard that is there is readable and holds each of its inputs, in order, once."""
    if (store / "run.json").exists():
        assert json.loads((store / "run.json").read_text())["count"] == COUNT
        open_store(store)
    seen = []
    for path in shards(store):
        number = int(path.stem.removeprefix("part-"))
        table = pq.read_table(path)
        assert table.column("input").unique().to_pylist() == list(range(number * SHARD, (number + 1) * SHARD))
        seen += [(row["input"], row["target"]) for row in table.select(["input", "target"]).to_pylist()]
    assert len(seen) == len(set(seen))
    return len(shards(store))


def assert_same(store, expected):
    found = tables(store)
    assert list(found) == list(expected)
    for name, table in expected.items():
        assert found[name].equals(table), name


def test_killed_at_twenty_moments(arguments, undisturbed, tmp_path):
    expected, begun = undisturbed
    chance, store = random.Random(0), tmp_path / "store"
    killed = 0
    for number in range(4 * KILLS):
        if killed == KILLS:
            break
        resume = ["--resume"] if number % 2 or (store / "run.json").exists() else []
        program = Program([*arguments, "--out", store, *resume], tmp_path)
        if number < EARLY:
            time.sleep(chance.uniform(0, 1.2 * begun))
        else:
            wanted = check(store) + chance.randint(0, 1)
            until(lambda wanted=wanted, program=program: len(shards(store)) > wanted or not program.running)
            time.sleep(chance.uniform(0, 0.01))
        code = program.kill()
        check(store)
        if code == -signal.SIGKILL:
            killed += 1
        else:  # a busy machine was late: the run is over, and the next one starts anew
            assert code == 0, program.stderr
            assert_same(store, expected)
            shutil.rmtree(store)
    assert killed == KILLS
    program = Program([*arguments, "--out", store, "--resume", "--json"], tmp_path)
    assert program.wait() == 0, program.stderr
    told = json.loads(program.stdout)
    assert (told["inputs"], told["explained"]) == (COUNT, COUNT - 1)
    assert_same(store, expected)
    assert not [path for path in store.rglob("*") if path.name.endswith(".partial")]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB, and what makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here (that takes root): what a full disk does is not seen")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(arguments, undisturbed, tmp_path, small_disk):
    disk, enlarge = small_disk
    store = disk / "store"
    program = Program([*arguments, "--out", store], tmp_path)
    assert program.wait() == 2, program.stderr
    line = one_line(program.stderr)
    assert "no space left on device; free some space; what is whole stays" in line and "--resume" in line
    before = check(store)
    assert 0 < before < COUNT // SHARD
    assert not [path for path in store.rglob("*") if path.name.endswith(".partial")]
    program = Program([*arguments, "--out", store, "--resume"], tmp_path)
    assert program.wait() == 2
    one_line(program.stderr)
    assert check(store) >= before
    enlarge()
    program = Program([*arguments, "--out", store, "--resume"], tmp_path)
    assert program.wait() == 0, program.stderr
    assert_same(store, undisturbed[0])


def test_a_disk_that_is_full_before_anything_is_written(arguments, tmp_path, small_disk):
    disk, enlarge = small_disk
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    program = Program([*arguments, "--out", disk / "store"], tmp_path)
    assert program.wait() == 2, program.stderr
    assert "no space left on device" in one_line(program.stderr).lower()
    enlarge()
    program = Program([*arguments, "--out", disk / "store"], tmp_path)
    assert program.wait() == 0, program.stderr


def small_files(limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_files_that_may_not_grow(arguments, undisturbed, tmp_path):
    # A limit of the process: less real than a full disk, but no root is needed for it.
    expected, _ = undisturbed
    store = tmp_path / "store"
    program = Program([*arguments, "--out", store, "--limit", COUNT], tmp_path, partial(small_files, 11_000))
    assert program.wait() == 2, program.stderr
    assert "file too large" in one_line(program.stderr).lower()
    assert shards(store) == []
    resume = ["--resume"] if (store / "run.json").exists() else []
    program = Program([*arguments, "--out", store, "--limit", COUNT, *resume], tmp_path)
    assert program.wait() == 0, program.stderr
    assert_same(store, expected)


def test_control_c(arguments, undisturbed, tmp_path):
    store = tmp_path / "store"
    program = Program([*arguments, "--out", store], tmp_path)
    until(lambda: len(shards(store)) >= 3)
    program.send(signal.SIGINT)
    assert program.wait() == 130, program.stderr
    line = one_line(program.stderr)
    assert line == "interrupted; the parts that are whole stay, and the same command with --resume goes on"
    assert 3 <= check(store) < COUNT // SHARD
    program = Program([*arguments, "--out", store, "--resume"], tmp_path)
    assert program.wait() == 0, program.stderr
    assert_same(store, undisturbed[0])


@pytest.mark.parametrize("overlays", [False, True])
def test_photos_that_go_bad_midway(arguments, many, undisturbed, tmp_path, overlays):
    folder = tmp_path / "photos"
    shutil.copytree(many, folder)
    store, more = tmp_path / "store", ["--overlays"] if overlays else []
    changed = [*arguments[:2], folder, *arguments[3:], *more]
    program = Program([*changed, "--out", store], tmp_path)
    until(lambda: len(shards(store)) >= 1)
    (folder / "0230.png").unlink()
    (folder / "0231.png").write_bytes(b"")
    (folder / "0232.png").write_bytes((folder / "0233.png").read_bytes()[:-300])
    (folder / "0234.png").unlink()
    (folder / "0234.png").mkdir()
    assert program.wait() == 0, program.stderr
    found = open_store(store).errors().to_pylist()
    assert [row["input"] for row in found] == [100, 230, 231, 232, 234]
    assert "no such file" in found[1]["error"] and "empty" in found[2]["error"] and "folder" in found[4]["error"]
    assert "5" not in found[0]["error_type"]
    if overlays:
        assert len(list((store / "overlays").rglob("*.jpg"))) == 2 * (COUNT - 5)


def test_damaged_shards_are_made_again(arguments, undisturbed, tmp_path):
    expected, _ = undisturbed
    store = tmp_path / "store"
    assert Program([*arguments, "--out", store], tmp_path).wait() == 0
    first, second, third = shards(store)[3:6]
    first.write_bytes(first.read_bytes()[:-1000])
    second.write_bytes(bytes(second.stat().st_size))
    third.unlink()
    kept = shards(store)[0].stat().st_mtime_ns
    program = Program([*arguments, "--out", store, "--resume", "--json"], tmp_path)
    assert program.wait() == 0, program.stderr
    assert json.loads(program.stdout)["done"] == 3 * SHARD
    assert_same(store, expected)
    assert shards(store)[0].stat().st_mtime_ns == kept


def test_one_run_at_a_time(arguments, tmp_path):
    store = tmp_path / "store"
    program = Program([*arguments, "--out", store], tmp_path)
    until(lambda: len(shards(store)) >= 1)
    program.send(signal.SIGSTOP)
    try:
        (tmp_path / "second").mkdir()
        second = Program([*arguments, "--out", store, "--resume"], tmp_path / "second")
        assert second.wait() == 2
        assert "another run is writing to" in one_line(second.stderr)
    finally:
        program.send(signal.SIGCONT)
    assert program.wait() == 0, program.stderr


def test_a_store_that_may_not_be_written(arguments, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "closed").mkdir(0o500)
    target = tmp_path / "closed" / "store" if os.geteuid() else Path("/proc/store")  # which not even root may
    program = Program([*arguments, "--out", target], tmp_path / "output")
    assert program.wait() == 2
    assert "cannot write to" in one_line(program.stderr)
