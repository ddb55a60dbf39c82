"""Stores as people use them: Explanations one by one, questions in SQL, and other programs that never heard of us."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.compute as pc
import pytest

import mmexplain
from mmexplain.errors import InputError
from mmexplain.jobs import fetch
from mmexplain.jobs.job import Job
from mmexplain.jobs.run import run
from mmexplain.jobs.store import open_store
from tests.command_line import save_answerer, save_captioner
from tests.jobs.tiny import CLASSES, photos


@pytest.fixture
def store(finished):
    return open_store(finished)


def test_is_what_the_model_says(store, tiny, folder):
    classifier = mmexplain.load(tiny, device="cpu")
    for number in (0, 8, 19):
        expected = classifier.explain(str(folder / f"{number:04d}.png"), top=2)
        found = store[number]
        assert found.targets == expected.targets
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5, atol=1e-6)
        for key, values in expected.maps.items():
            np.testing.assert_allclose(found.maps[key], values, atol=float(values.abs().max()) * 2**-10)
        assert (found.heatmap(0) - expected.heatmap(0)).abs().max() <= 2**-10 * expected.heatmap(0).abs().max()
        assert found.peak(0) == expected.peak(0)
        assert found.picture.pixels.equal(expected.picture.pixels)


def test_by_number_by_id_and_one_after_the_other(store):
    assert len(store) == 20
    assert store[5].picture.source == store["0005.png"].picture.source == store[np.int64(-15)].picture.source
    each = list(store)
    assert [Path(one.picture.source).name for one in each] == [f"{n:04d}.png" for n in range(20) if n not in (3, 7)]
    assert each[4].targets == store[5].targets
    assert repr(store).endswith(f"20 inputs, classify by {store.job.model}>")


@pytest.mark.parametrize(
    "key, message",
    [
        (20, "there is no input 20: .* has 20, counted from 0"),
        (-21, "there is no input -21"),
        ("0005.pgn", "there is no input '0005.pgn' .*closest: '0005.png'"),
        (3, "input '0003.png' could not be explained: .*0003.png' is not an image"),
        ("0007.png", "could not be explained: .*0007.png' is empty"),
    ],
)
def test_inputs_that_are_not_there(store, key, message):
    with pytest.raises(InputError, match=message):
        store[key]


def test_a_picture_is_read_when_it_is_looked_at(tiny, tmp_path, monkeypatch):
    folder = photos(tmp_path / "photos", 2)
    run(Job("classify", tiny, device="cpu"), str(folder), tmp_path / "store")
    read = []
    original = fetch.photo
    monkeypatch.setattr(fetch, "photo", lambda item: read.append(item.id) or original(item))
    first, second = open_store(tmp_path / "store")
    assert first.heatmap(0).shape == (16, 16) and first.peak(0) is not None and repr(first.picture)
    assert read == []
    assert first.picture.pixels.shape == (16, 16, 3) and first.picture.pixels is first.picture.pixels
    assert read == ["0000.png"]
    (folder / "0001.png").unlink()
    assert second.heatmap(0).shape == (16, 16)
    with pytest.raises(InputError, match=r"no such file: '.*0001.png'"):
        second.save(tmp_path / "second.png")
    first.save(tmp_path / "first.html")


def test_errors(store):
    found = store.errors().to_pylist()
    assert [(row["input"], row["id"], row["error_type"]) for row in found] == [
        (3, "0003.png", "InputError"),
        (7, "0007.png", "InputError"),
    ]


def test_tables(store):
    likely = store.table(["label", "probability"], pc.field("probability") > 0.3)
    assert likely.column_names == ["label", "probability"] and len(likely)
    assert min(likely.column("probability").to_pylist()) > 0.3
    assert store.table().schema.field("map").type.shape == [4, 4]
    assert len(store.table()) == 18 * 2 + 2


def test_sql(store):
    counted = dict(store.sql("select class, count(*) from rows where class is not null group by 1").fetchall())
    assert sum(counted.values()) == 36 and set(counted) <= set(CLASSES)
    assert store.sql("select count(word), count(answer), count(action) from rows").fetchall() == [(0, 0, 0)]
    assert len(store.sql('select * from rows where "input" = 3').fetchall()[0]) == len(store.table().column_names) + 4
    with pytest.raises(InputError, match=r"the query cannot be run: .*lable"):
        store.sql("select lable from rows")


def test_words_and_answers_in_sql(tmp_path):
    save_captioner(tmp_path / "captioner.safetensors")
    save_answerer(tmp_path / "answerer.safetensors")
    (tmp_path / "inputs.csv").write_text("image,caption,question\nphotos/0000.png,a dog runs,a dog\n")
    photos(tmp_path / "photos", 1)
    for task, synonym, labels in (("caption", "word", {"a", "dog", "runs"}), ("vqa", "answer", {"red", "ice cream"})):
        options = {"targets": ["red", "ice cream"]} if task == "vqa" else {"whole": True}
        job = Job(
            task, str(tmp_path / f"{'captioner' if task == 'caption' else 'answerer'}.safetensors"), options=options
        )
        run(job, str(tmp_path / "inputs.csv"), tmp_path / task)
        store = open_store(tmp_path / task)
        found = store.sql(f"select {synonym} from rows where {synonym} is not null").fetchall()
        assert {name for (name,) in found} == labels
        assert store[0].text == ("a dog runs" if task == "caption" else "a dog")


def test_one_that_is_not_finished(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "store")
    for path in (tmp_path / "store" / "rows").iterdir():
        if path.name != "part-000002.parquet":
            path.unlink()
    store = open_store(tmp_path / "store")
    assert store.missing() == [0, 1, 3, 4]
    assert len(list(store)) == 4
    with pytest.raises(InputError, match=r"input 0 of .* has not been explained yet: resume the run"):
        store[0]
    (tmp_path / "store" / "rows" / "part-000002.parquet").unlink()
    assert list(store) == [] and len(store.table()) == 0 and len(store.errors()) == 0
    assert store.sql("select count(*) from rows").fetchall() == [(0,)]


def test_a_shard_that_is_damaged(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "store")
    part = tmp_path / "store" / "rows" / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    store = open_store(tmp_path / "store")
    assert store.missing() == [0]
    for ask in (lambda: store[0], lambda: list(store), store.table, store.errors):
        with pytest.raises(InputError, match=r"part-000000\.parquet.* --resume makes it again"):
            ask()


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "is no store of `mmexplain run`: it has no run.json"),
        ("{", "run.json is damaged"),
        ("[]", "run.json is damaged"),
        ("{}", "a store of format None"),
        ('{"format": "mmexplain.store/9"}', "a store of format 'mmexplain.store/9'; this version reads"),
        ('{"format": "mmexplain.store/1"}', "run.json is damaged"),
        ('{"format": "mmexplain.store/1", "task": "sing", "model": "m"}', "unknown task 'sing'"),
    ],
)
def test_what_is_no_store(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_store(tmp_path)


def test_settings_come_back(store):
    record = json.loads(Path(store.root, "run.json").read_text())
    assert Job.from_dict(record) == store.job
    assert store.job.count == 20 and store.job.shards == 5 and store.job.map_shape == (4, 4)
    assert store.manifest.digest == store.job.manifest


def test_in_memory(tiny, folder):
    fsspec.filesystem("memory").store.clear()
    summary = run(Job("classify", tiny, device="cpu"), str(folder), "memory://bucket/store", batch=8, shard=8)
    assert (summary.explained, summary.rows) == (18, 20)
    store = open_store("memory://bucket/store")
    assert store["0001.png"].targets[0].label in CLASSES
    assert len(list(store)) == 18
    assert store.sql("select count(*) from rows where error is null").fetchall() == [(18,)]
    fsspec.filesystem("memory").rm("/bucket/store/rows/part-000001.parquet")
    again = run(Job("classify", tiny, device="cpu"), str(folder), "memory://bucket/store", resume=True)
    assert (again.done, again.explained) == (8, 18)


OTHERS = {
    "duckdb": """
import duckdb
rows = f"read_parquet('{store}/rows/*.parquet')"
found = duckdb.sql(f"select label, map, map_scale from {rows} where id = '0005.png' and target = 0").fetchall()[0]
label, values, scale = found[0], list(found[1]), found[2]
count = duckdb.sql(f"select count(*) from {rows}").fetchall()[0][0]
""",
    "pandas": """
import pandas
rows = pandas.read_parquet(f"{store}/rows")
count = len(rows)
row = rows[(rows.id == "0005.png") & (rows.target == 0)].iloc[0]
label, values, scale = row.label, row["map"].tolist(), row.map_scale
""",
    "polars": """
import polars
rows = polars.read_parquet(f"{store}/rows/*.parquet")
count = len(rows)
row = rows.filter((polars.col("id") == "0005.png") & (polars.col("target") == 0)).row(0, named=True)
label, values, scale = row["label"], list(row["map"]), row["map_scale"]
""",
    "pyarrow": """
import pyarrow.parquet as pq
rows = pq.read_table(f"{store}/rows")
count = len(rows)
row = [row for row in rows.to_pylist() if row["id"] == "0005.png" and row["target"] == 0][0]
label, values, scale = row["label"], row["map"], row["map_scale"]
""",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs_read_it(name, store):
    pytest.importorskip(name)
    code = (
        "import json, sys\nsys.modules['mmexplain'] = None\nsys.modules['torch'] = None\n"
        f"store = sys.argv[1]\n{OTHERS[name]}\n"
        "print(json.dumps([count, label, [float(v) * float(scale) for v in values]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, store.root], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    count, label, values = json.loads(done.stdout)
    one = store["0005.png"]
    assert (count, label) == (38, one.targets[0].label)
    np.testing.assert_allclose(values, one.map(0).flatten(), rtol=1e-6)
