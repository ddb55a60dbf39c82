"""The frozen manifest gives back what it was given, whole or in part, to whoever asks."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import duckdb
import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmexplain.errors import InputError
from mmexplain.jobs import manifest as module
from mmexplain.jobs.item import Item
from mmexplain.jobs.manifest import Manifest, freeze

LOCAL = fsspec.filesystem("file")

text = st.text(st.characters(exclude_categories=["Cs"]))
whole = st.integers(0, 2**63 - 1)
some_items = st.lists(
    st.builds(
        Item,
        number=st.just(0),
        id=text,
        source=text,
        offset=st.none() | whole,
        size=st.none() | whole,
        caption=st.none() | text,
        question=st.none() | text,
        answers=st.lists(text, max_size=3).map(tuple),
    ),
    max_size=30,
)


def numbered(items: list[Item]) -> list[Item]:
    return [replace(item, number=number) for number, item in enumerate(items)]


def many(count: int):
    for number in range(count):
        yield Item(
            number, f"id {number}", f"/photos/{number}.jpg", caption=f"caption {number}", answers=("a", str(number))
        )


@given(some_items, st.integers(-35, 35), st.none() | st.integers(-35, 35), st.integers(1, 12))
def test_any_manifest_reads_back_and_slices_as_a_list(items, start, stop, group):
    items = numbered(items)
    fs = fsspec.filesystem("memory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROW_GROUP", group)
        assert freeze(iter(items), "/job/manifest.parquet", fs) == len(items)
    manifest = Manifest.open("/job/manifest.parquet", fs)
    assert len(manifest) == len(items)
    assert list(manifest) == manifest.items() == items
    assert manifest.items(start, stop) == items[start:stop]
    assert fs.ls("/job", detail=False) == ["/job/manifest.parquet"]


@given(some_items, some_items, st.integers(1, 5))
def test_the_digest_tells_manifests_apart_and_nothing_else(items, others, group):
    items, others = numbered(items), numbered(others)
    fs = fsspec.filesystem("memory")
    freeze(items, "/a.parquet", fs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROW_GROUP", group)
        freeze(items, "/b.parquet", fs)
    freeze(others, "/c.parquet", fs)
    a, b, c = (Manifest.open(f"/{name}.parquet", fs).digest for name in "abc")
    assert a == b and len(a) == 64
    assert (a == c) == (items == others)


def test_each_field_counts_in_the_digest():
    fs = fsspec.filesystem("memory")
    item = Item(0, "id", "a.jpg", 1, 2, "caption", "question", ("a", "b"))
    changes = {"id": "x", "source": "x", "offset": 2, "size": 1, "caption": None, "question": "", "answers": ("ab",)}
    digests = set()
    for changed in (item, *(replace(item, **{name: value}) for name, value in changes.items())):
        freeze([changed], "/m.parquet", fs)
        digests.add(Manifest.open("/m.parquet", fs).digest)
    assert len(digests) == len(changes) + 1


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("store") / "new" / "manifest.parquet")
    assert freeze(many(25_001), path, LOCAL) == 25_001
    return path


def test_row_groups(frozen):
    metadata = pyarrow.parquet.read_metadata(frozen)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [10_000, 10_000, 5_001]
    assert metadata.row_group(0).column(1).compression == "ZSTD"


def test_only_the_row_groups_needed_are_read(frozen, monkeypatch):
    manifest = Manifest.open(frozen, LOCAL)
    asked = []
    original = pyarrow.parquet.ParquetFile.read_row_groups

    def read(self, groups, **options):
        asked.append(list(groups))
        return original(self, groups, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_groups", read)
    expected = list(many(25_001))
    for start, stop, groups in ((0, 10, [0]), (9_999, 10_001, [0, 1]), (10_000, 20_000, [1]), (25_000, 25_001, [2])):
        asked.clear()
        assert manifest.items(start, stop) == expected[start:stop]
        assert asked == [groups]
    asked.clear()
    assert manifest.items(5, 5) == manifest.items(30_000, 40_000) == [] and not asked


def test_threads_share_one(frozen):
    manifest = Manifest.open(frozen, LOCAL)
    expected = list(many(25_001))
    slices = [(start, start + 700) for start in range(0, 25_001, 350)]
    with ThreadPoolExecutor(8) as pool:
        for (start, stop), found in zip(slices, pool.map(lambda each: manifest.items(*each), slices), strict=True):
            assert found == expected[start:stop]


def test_another_process_gets_it(frozen):
    manifest = Manifest.open(frozen, LOCAL)
    code = "import sys, pickle; m = pickle.load(sys.stdin.buffer); print(len(m), m.digest, m.items(-1)[0].id)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(manifest), capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"25001 {manifest.digest} id 25000"
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_duckdb_reads_it(frozen):
    query = f"select count(*), count(distinct id), max(number), any_value(len(answers)) from '{frozen}'"
    assert duckdb.sql(query).fetchall() == [(25_001, 25_001, 25_000, 2)]


def test_an_interrupted_freeze_leaves_what_was_there(tmp_path):
    path = tmp_path / "manifest.parquet"
    freeze(many(3), str(path), LOCAL)
    before = path.read_bytes()

    def fails(error):
        yield from many(20_000)
        raise error

    for error in (InputError("two items have the id"), RuntimeError("a fault"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            freeze(fails(error), str(path), LOCAL)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    freeze(many(4), str(path), LOCAL)
    assert len(Manifest.open(str(path), LOCAL)) == 4 and list(tmp_path.iterdir()) == [path]


def test_a_bare_name_lands_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    freeze(many(2), "m.parquet", LOCAL)
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the manifest '.*' cannot be written"):
        freeze(many(2), str(tmp_path / "file" / "m.parquet"), LOCAL)
    with pytest.raises(InputError, match="has the number 5"):
        freeze([Item(5, "a", "a.jpg")], str(tmp_path / "m.parquet"), LOCAL)
    with pytest.raises(InputError, match="no character of Unicode"):
        freeze([Item(0, "a", "\udcff.jpg")], str(tmp_path / "m.parquet"), LOCAL)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_no_manifest(tmp_path, frozen):
    def refusal(name):
        with pytest.raises(InputError) as caught:
            Manifest.open(str(tmp_path / name), LOCAL)
        assert "\n" not in str(caught.value) and name in str(caught.value)
        return str(caught.value)

    assert "no such file" in refusal("nothing")
    (tmp_path / "text").write_text("hello")
    assert "is no manifest, or is damaged" in refusal("text")
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), tmp_path / "other")
    assert "is no manifest of mmexplain's" in refusal("other")
    with open(frozen, "rb") as file:
        (tmp_path / "cut").write_bytes(file.read()[:-100])
    assert "is no manifest, or is damaged" in refusal("cut")


def test_a_manifest_that_goes_away(tmp_path):
    path = tmp_path / "m.parquet"
    freeze(many(3), str(path), LOCAL)
    manifest = Manifest.open(str(path), LOCAL)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        manifest.items()


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_200_000_items_are_frozen_in_bounded_memory(tmp_path):
    """From the table to the manifest: what grows with the items is 8 bytes an id, not the items."""
    code = """
import json, resource, sys
import fsspec
from mmexplain.jobs.inputs import items
from mmexplain.jobs.manifest import Manifest, freeze
folder, count = sys.argv[1], int(sys.argv[2])
open(folder + "/0.jpg", "w").close()
with open(folder + "/t.jsonl", "w") as file:
    file.writelines(json.dumps({"image": f"{n}.jpg", "caption": "x" * 500 + str(n)}) + "\\n" for n in range(count))
freeze(items(folder + "/t.jsonl", "caption"), folder + "/m.parquet", fsspec.filesystem("file"))
assert sum(1 for _ in Manifest.open(folder + "/m.parquet", fsspec.filesystem("file"))) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak(count):
        done = subprocess.run([sys.executable, "-c", code, tmp_path, str(count)], capture_output=True, check=True)
        return int(done.stdout) / 1024

    assert peak(200_000) - peak(20_000) < 60, "MiB; the items' texts alone are 100"
