"""What a run does not lose, leave behind or mistake for whole."""

import duckdb
import pyarrow.parquet as pq
import pytest

from mmexplain.errors import InputError
from mmexplain.gallery import write_gallery
from mmexplain.jobs.inputs import items
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.rows import Rows
from mmexplain.jobs.run import run
from mmexplain.jobs.store import open_store
from tests.jobs.tiny import photos, tables

COUNT, SHARD = 24, 8


@pytest.fixture
def inputs(tmp_path):
    return str(photos(tmp_path / "photos", COUNT))


def begin(tiny, inputs, store, **options):
    return run(Job("classify", tiny, device="cpu"), inputs, store, batch=4, shard=SHARD, **options)


def test_rows_that_are_damaged_inside_are_made_again(tiny, inputs, tmp_path):
    store = tmp_path / "store"
    begin(tiny, inputs, store)
    before = tables(store)
    path = store / "rows" / "part-000001.parquet"
    column = next(
        found
        for found in map(pq.ParquetFile(path).metadata.row_group(0).column, range(100))
        if found.path_in_schema == "score"
    )
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size - 4
    data[middle] ^= 0xFF
    path.write_bytes(data)
    assert open_store(store).missing() == [] and open_store(store).missing(verify=True) == [1]
    assert begin(tiny, inputs, store, resume=True).done == SHARD
    assert all(tables(store)[name].equals(table) for name, table in before.items())


def test_a_shard_is_written_when_its_last_input_is_done(tiny, inputs, tmp_path):
    store = tmp_path / "store"

    def stop(done, total):
        if done == 2 * SHARD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(tiny, inputs, store, progress=stop)
    assert open_store(store).shards.whole(verify=True) == [0, 1]


def test_folders_may_be_called_anything(tiny, inputs, tmp_path):
    store = tmp_path / "o'clock [1] *?"
    begin(tiny, inputs, store)
    other = tmp_path / "o'clock 1 xy"
    begin(tiny, inputs, other, limit=4)
    assert open_store(store).sql("select count(*) from rows").fetchall() == [(COUNT,)]


@pytest.mark.parametrize("query", ["", "select 1; select 2", "select nothing from rows"])
def test_what_is_no_query_is_refused_in_one_line(tiny, inputs, tmp_path, query):
    begin(tiny, inputs, tmp_path / "store", limit=4)
    with pytest.raises(InputError) as error:
        open_store(tmp_path / "store").sql(query)
    assert "\n" not in str(error.value) and "CASE WHEN" not in str(error.value)


def test_a_start_that_fails_leaves_nothing(tiny, inputs, tmp_path):
    for name, there in (("new", False), ("old", True)):
        store = tmp_path / name
        if there:
            store.mkdir()
        with pytest.raises(InputError):
            begin(tiny, str(tmp_path / "nowhere"), store)
        assert store.exists() == there and not (there and list(store.iterdir()))


def test_an_input_has_all_of_its_rows_or_none(tiny, inputs, tmp_path, monkeypatch):
    begin(tiny, inputs, tmp_path / "store", limit=1)
    explanation = open_store(tmp_path / "store")[0]
    (key,) = explanation.maps
    explanation.maps[type(key)(key.layer, "another")] = explanation.maps[key][:, :2]
    rows = Rows(None)
    rows.add(Item(0, "0", "0.png"), explanation)
    assert len(rows) == 2
    explanation.scores = explanation.scores[:0]
    with pytest.raises(IndexError):
        rows.add(Item(1, "1", "1.png"), explanation)
    assert len(rows) == 2
    rows.fail(Item(1, "1", "1.png"), ValueError("no"))
    assert rows.table().column("input").to_pylist() == [0, 0, 1]


def test_answers_in_a_table_are_divided_by_bars_or_a_list(tmp_path):
    (tmp_path / "a.png").write_bytes(b"photo")
    table = tmp_path / "asked.csv"
    table.write_text('image,question,answers\na.png,what,red|blue\na.png,what,"[""red"", ""blue""]"\na.png,what,[red\n')
    assert [item.answers for item in items(str(table), "vqa")] == [("red", "blue"), ("red", "blue"), ("[red",)]


def test_other_programs_ask_too(tiny, inputs, tmp_path):
    begin(tiny, inputs, tmp_path / "store")
    pattern = str(tmp_path / "store" / "rows" / "*.parquet")
    assert duckdb.sql(f"select count(*), max(list_max(map)) from '{pattern}'").fetchall() == [(COUNT, 1.0)]


def test_runs_with_nothing_in_common_are_not_compared(tiny, inputs, tmp_path):
    begin(tiny, inputs, tmp_path / "one", limit=4)
    (tmp_path / "photos" / "0000.png").rename(tmp_path / "alone.png")
    begin(tiny, str(tmp_path / "alone.png"), tmp_path / "other")
    one, other = open_store(tmp_path / "one"), open_store(tmp_path / "other")
    with pytest.raises(InputError, match="in common"):
        write_gallery(one, tmp_path / "gallery", against=other)
