"""Reading inputs: every kind of source gives the items that are in it, in one order, or one line that says why not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.jobs.inputs import items
from mmexplain.jobs.item import Item


def read(source, task="classify", **options) -> list[Item]:
    return list(items(str(source), task, **options))


def refusal(source, task="classify", **options) -> str:
    with pytest.raises(InputError) as caught:
        read(source, task, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content of " + name.encode())
    return folder


def write_csv(path: Path, rows: list[list[str]], **options) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows(rows)
    return path


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tar(path: Path, members: dict[str, bytes], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, options.pop("mode", "w"), **options) as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    return touch(
        tmp_path / "photos",
        "b.jpg",
        "a.PNG",
        "a/2.jpeg",
        "a/10.jpg",
        "a-b/x.webp",
        ".hidden.jpg",
        ".git/x.jpg",
        "notes.txt",
        "clip.mp4",
        "a/clip.webm",
        "noext",
    )


IN_ORDER = ["a-b/x.webp", "a.PNG", "a/10.jpg", "a/2.jpeg", "b.jpg"]


def test_folder(photos):
    found = read(photos)
    assert [item.id for item in found] == IN_ORDER == sorted(IN_ORDER)
    assert [item.number for item in found] == list(range(5))
    assert [item.source for item in found] == [str(photos / name) for name in IN_ORDER]
    assert all(item == Item(item.number, item.id, item.source) for item in found)


def test_folder_of_videos(photos):
    assert [item.id for item in read(photos, "action")] == ["a/clip.webm", "clip.mp4"]


def test_folder_as_url(photos, memory):
    for name in IN_ORDER:
        memory.pipe_file(f"/in/{name}", b"x")
    memory.pipe_file("/in/.hidden.jpg", b"x")
    found = read("memory://in")
    assert [item.id for item in found] == IN_ORDER
    assert [item.source for item in found] == [f"memory://in/{name}" for name in IN_ORDER]
    assert read(f"file://{photos}") == read(photos)


def test_folder_named_from_the_working_folder(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    assert read("photos") == read("./photos/") == read(photos)


def test_a_linked_folder_is_read_and_a_circle_ends(photos):
    (photos / "a" / "circle").symlink_to(photos)
    (photos / "linked").symlink_to(photos / "a-b")
    assert [item.id for item in read(photos)] == [*IN_ORDER, "linked/x.webp"]


def test_one_file(photos):
    assert read(photos / "b.jpg") == [Item(0, "b.jpg", str(photos / "b.jpg"))]
    assert read(photos / "clip.mp4", "action") == [Item(0, "clip.mp4", str(photos / "clip.mp4"))]
    assert "is a video; caption takes photos" in refusal(photos / "clip.mp4", "caption")
    assert "is a photo; action takes videos" in refusal(photos / "b.jpg", "action")


def test_a_name_with_wildcards_that_exists_is_that_file(tmp_path):
    touch(tmp_path, "a[1].jpg", "a1.jpg", "{x,y}/1.jpg")
    assert [item.id for item in read(tmp_path / "a[1].jpg")] == ["a[1].jpg"]
    assert [item.id for item in read(tmp_path / "{x,y}")] == ["1.jpg"]


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("*", ["a.PNG", "b.jpg"]),
        ("*.jpg", ["b.jpg"]),
        ("**", IN_ORDER),
        ("**/*.jpg", ["a/10.jpg", "b.jpg"]),
        ("a*/*", ["a-b/x.webp", "a/10.jpg", "a/2.jpeg"]),
        ("a/[0-9].jp?g", ["2.jpeg"]),
        ("{b,a}*", ["b.jpg", "a.PNG"]),
        ("{b.jpg,a/2.jpeg}", ["b.jpg", "a/2.jpeg"]),
        ("a/{9..10}.jpg", None),
    ],
)
def test_patterns(photos, memory, pattern, ids):
    if ids is None:
        assert [item.id for item in read(photos / pattern)] == ["9.jpg", "10.jpg"]
        return
    assert [
        item.id.removeprefix("a/") if pattern.startswith("a/") else item.id for item in read(photos / pattern)
    ] == ids
    for name in IN_ORDER:
        memory.pipe_file(f"/{name}", b"x")
    for root in ("memory://", "memory:///"):
        local = [item.source.removeprefix(f"{photos}/") for item in read(photos / pattern)]
        assert [item.source for item in read(root + pattern)] == [root + name for name in local]


def test_photos_in_a_zip(tmp_path, photos, monkeypatch):
    import zipfile

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for name in IN_ORDER:
            file.write(photos / name, f"in/{name}")
    monkeypatch.chdir(tmp_path)
    for source in ("zip://in::all.zip", "zip://in/**::all.zip"):
        found = read(source)
        assert [item.id for item in found] == IN_ORDER
        assert found[0].source == f"zip://in/a-b/x.webp::file://{tmp_path}/all.zip"
    with fsspec.open(found[0].source) as file:
        assert file.read() == b"content of a-b/x.webp"
    assert f"give 'zip://::{tmp_path}/all.zip'" in refusal("all.zip")
    for root in (f"zip://::{tmp_path}/all.zip", "zip::all.zip"):
        assert [item.id for item in read(root)] == [f"in/{name}" for name in IN_ORDER]


# -- tables -----------------------------------------------------------------------------------------------------------

HARD = [
    ["image", "caption", "id"],
    ["a.jpg", 'a "quoted", word', "1"],
    ["b.jpg", "two\nlines", "x|y"],
    ["c.jpg", "", "3"],
    ["ü.jpg", "naïve 犬", "04"],
]
CAPTIONS = ['a "quoted", word', "two\nlines", None, "naïve 犬"]


@pytest.fixture
def folder(tmp_path):
    return touch(tmp_path, "a.jpg", "b.jpg", "c.jpg", "ü.jpg")


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_delimited(folder, mark, end, suffix, delimiter, packed):
    text = io.StringIO(newline="")
    text.write(mark)
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([*HARD, []])
    data = text.getvalue().encode()
    path = folder / f"table.{suffix}{packed}"
    path.write_bytes(gzip.compress(data) if packed else data)
    found = read(path, "caption")
    assert [item.caption for item in found] == CAPTIONS
    assert [item.id for item in found] == ["1", "x|y", "3", "04"]
    assert [item.source for item in found] == [str(folder / name) for name in ("a.jpg", "b.jpg", "c.jpg", "ü.jpg")]
    assert [item.caption for item in read(path, "caption", generate=True)] == [None] * 4


def rows() -> list[dict]:
    return [dict(zip(HARD[0], row, strict=True)) for row in HARD[1:]]


def test_every_kind_of_table_gives_the_same(folder, memory):
    write_csv(folder / "t.csv", HARD)
    write_csv(folder / "t.tsv", HARD, delimiter="\t")
    write_lines(folder / "t.jsonl", rows())
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows()), folder / "t.parquet", row_group_size=3)
    expected = read(folder / "t.csv", "caption")
    for suffix in ("tsv", "jsonl", "parquet"):
        assert read(folder / f"t.{suffix}", "caption") == expected
        memory.pipe_file(f"/far/t.{suffix}", (folder / f"t.{suffix}").read_bytes())
        memory.pipe_file("/far/images/a.jpg", b"x")
        far = read(f"memory://far/t.{suffix}", "caption")
        assert far[0].source == "memory://far/images/a.jpg"
        assert [item.caption for item in far] == CAPTIONS
        there = read(f"memory://far/t.{suffix}", "caption", images=str(folder))
        assert there == expected


@pytest.mark.parametrize(
    "column", ["image", "image_path", "path", "file", "file_name", "filename", "url", "Image", " FILE "]
)
def test_names_of_the_photo_column(folder, column):
    found = read(write_lines(folder / "t.jsonl", [{column: "a.jpg", "other": [1]}]))
    assert found == [Item(0, "a.jpg", str(folder / "a.jpg"))]


def test_the_best_of_several_columns(folder):
    row = {"url": "https://x.org/a.jpg", "file_name": "b.jpg", "image": "a.jpg", "video": "c.mp4"}
    touch(folder, "c.mp4")
    path = write_lines(folder / "t.jsonl", [row])
    assert read(path)[0].source == str(folder / "a.jpg")
    assert read(path, "action")[0].source == str(folder / "c.mp4")


@pytest.mark.parametrize(
    ("task", "cells", "answers"),
    [
        ("vqa", {"answers": ["yes", "no", "yes"]}, ("yes", "no")),
        ("vqa", {"answers": "yes| no ||"}, ("yes", "no")),
        ("vqa", {"answer": 2}, ("2",)),
        ("vqa", {"answers": [{"answer": "cat", "answer_id": 1}, {"answer": "dog"}]}, ("cat", "dog")),
        ("vqa", {"label": "cat"}, ()),
        ("vqa", {"answers": None}, ()),
        ("classify", {"label": "tabby cat"}, ("tabby cat",)),
        ("classify", {"targets": ["cat", "dog"]}, ("cat", "dog")),
        ("classify", {"labels": 3}, ("3",)),
        ("action", {"target": "skating|skiing"}, ("skating", "skiing")),
        ("caption", {"answers": ["yes"]}, ()),
    ],
)
def test_answers(folder, task, cells, answers):
    touch(folder, "a.mp4")
    file = "a.mp4" if task == "action" else "a.jpg"
    (found,) = read(write_lines(folder / "t.jsonl", [{"path": file, "question": " what? ", **cells}]), task)
    assert found.answers == answers
    assert found.question == ("what?" if task == "vqa" else None)


def test_rows_without_an_id_are_named_by_their_photo_and_numbered_where_it_comes_twice(folder):
    once = [{"image": "a.jpg"}, {"image": "b.jpg"}]
    assert [item.id for item in read(write_lines(folder / "t.jsonl", once))] == ["a.jpg", "b.jpg"]
    twice = [*once, {"image": "a.jpg"}, {"image": None}]
    found = read(write_lines(folder / "t.jsonl", twice))
    assert [item.id for item in found] == ["a.jpg#0", "b.jpg#1", "a.jpg#2", "#3"]
    assert found[3].source == ""
    some = [{"image": "a.jpg", "id": 7}, {"image": "a.jpg"}, {"image": "a.jpg", "id": None}]
    assert [item.id for item in read(write_lines(folder / "t.jsonl", some))] == ["7", "a.jpg#1", "a.jpg#2"]


def test_a_list_of_captions_is_an_item_each(folder):
    path = write_lines(folder / "t.jsonl", [{"image": "a.jpg", "captions": ["one", "two"]}, {"image": "b.jpg"}])
    assert [(item.id, item.caption) for item in read(path, "caption")] == [
        ("a.jpg#0", "one"),
        ("a.jpg#1", "two"),
        ("b.jpg", None),
    ]
    assert [item.id for item in read(path, "caption", generate=True)] == ["a.jpg", "b.jpg"]
    assert [item.id for item in read(path, "classify")] == ["a.jpg", "b.jpg"]


def test_several_tables_are_read_as_one(tmp_path):
    for part in ("0", "1"):
        touch(tmp_path, f"{part}/a.jpg")
        write_csv(tmp_path / part / "t.csv", [["image", "question"], ["a.jpg", f"is it {part}?"]])
    found = read(tmp_path / "*" / "t.csv", "vqa")
    assert [(item.id, item.question) for item in found] == [("a.jpg#0", "is it 0?"), ("a.jpg#1", "is it 1?")]
    assert [item.source for item in found] == [str(tmp_path / part / "a.jpg") for part in "01"]


def test_urls_and_absolute_paths_stay(folder, tmp_path):
    sources = [
        "https://x.org/a.jpg?size=1",
        "s3://bucket/b.jpg",
        str(folder / "c.jpg"),
        "zip://d.jpg::s3://bucket/z.zip",
    ]
    found = read(write_lines(tmp_path / "t.jsonl", [{"image": source} for source in sources]))
    assert [item.source for item in found] == sources


def test_a_row_that_lacks_something_is_an_item(folder):
    rows = [{"image": "a.jpg", "question": "why?"}, {"image": "b.jpg"}, {"question": "where?", "image": " "}]
    found = read(write_lines(folder / "t.jsonl", rows), "vqa")
    assert [item.question for item in found] == ["why?", None, "where?"]
    assert [item.source for item in found] == [str(folder / "a.jpg"), str(folder / "b.jpg"), ""]


def test_a_column_that_begins_late_is_found(folder):
    rows = [{"image": "a.jpg", "id": n} for n in range(3000)] + [{"image": "a.jpg", "id": "last", "question": "why?"}]
    assert read(write_lines(folder / "t.jsonl", rows), "vqa")[-1].question == "why?"


def test_tables_that_lack_a_column(folder):
    write_csv(folder / "t.csv", [["photo", "caption"], ["a.jpg", "x"]])
    message = refusal(folder / "t.csv", "caption")
    assert "has no column 'image' (nor 'image_path'," in message and "it has 'photo', 'caption'" in message
    for name, write in (("q.csv", None), ("q.parquet", pyarrow.parquet.write_table)):
        if write:
            write(pyarrow.table({"image": ["a.jpg"], "caption": ["x"]}), folder / name)
        else:
            write_csv(folder / name, [["image", "caption"], ["a.jpg", "x"]])
        assert "has no column 'question', which vqa needs; it has 'image', 'caption'" in refusal(folder / name, "vqa")
    write_lines(folder / "q.jsonl", [{"image": "a.jpg"}, {"image": "a.jpg", "n": 1}])
    assert "'question', which vqa needs; it has 'image', 'n'" in refusal(folder / "q.jsonl", "vqa")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", b"", "is empty (0 bytes)"),
        ("t.csv", b"image,caption\n", "has no rows"),
        ("t.csv", b"image,caption\na.jpg,x,y\n", "line 2: 3 cells under a header of 2"),
        ("t.csv", b'image,caption\na.jpg,"x\nb.jpg,y\n', "unexpected end of data"),
        ("t.csv", b"image,caption\na.jpg,\xff\n", "is not UTF-8 text"),
        ("t.jsonl", b'{"image": "a.jpg"}\n{"image": \n', "is not JSON Lines: line 2:"),
        ("t.jsonl", b'["a.jpg"]\n', "line 1: one object {...} is expected"),
        ("t.jsonl", b'{"image": {"bytes": "x"}}\n', "holds the image as dict; give the path"),
        ("t.jsonl", b'{"image": "a.jpg", "id": "\\ud800"}\n', "no character of Unicode"),
        ("t.jsonl", b"\n\n", "has no rows"),
        ("t.parquet", b"PAR1 and more", "cannot be read"),
        ("t.csv.gz", b"image\na.jpg\n", "cannot be read (Not a gzipped file"),
        ("t.json", b"{", "is not JSON"),
        ("t.json", b'[{"image": "a.jpg"}]', "write a list of rows as JSON Lines"),
        ("t.json", b'{"a": 1}', "holds neither COCO's 'images' and 'annotations' nor VQA's 'questions'"),
        ("t.json", b'{"images": [1]}', "is not in COCO's layout"),
        ("t.xlsx", b"PK", "suffix that is not known (.xlsx)"),
        ("t", b"PK", "suffix that is not known (none)"),
        ("t.tar", b"x" * 2000, "is not a tar file"),
        ("t.tar", b"\x1f\x8b" + b"x" * 2000, "is a compressed tar file"),
        ("t.tar.gz", b"x", "decompress it to a plain .tar"),
        ("t.tgz", b"x", "decompress it to a plain .tar"),
    ],
)
def test_damaged_files(folder, name, content, expected):
    (folder / name).write_bytes(content)
    message = refusal(folder / name)
    assert expected in message


def test_photos_inside_parquet_are_refused(folder):
    pyarrow.parquet.write_table(pyarrow.table({"image": [{"bytes": b"x", "path": "a.jpg"}]}), folder / "t.parquet")
    assert "holds the image as dict" in refusal(folder / "t.parquet")


def test_missing_photos(folder):
    path = write_lines(folder / "t.jsonl", [{"image": "no.jpg"}, {"image": "neither.jpg"}])
    message = refusal(path)
    assert f"'no.jpg' (nor any other of the first 2) is not in {str(folder)!r}, nor in images there" in message
    write_lines(folder / "t.jsonl", [{"image": "no.jpg"}, {"image": "a.jpg"}])
    assert [item.source for item in read(path)] == [str(folder / "no.jpg"), str(folder / "a.jpg")]


def test_missing_things(folder, memory):
    assert "no such file" in refusal(folder / "tabel.csv")
    write_csv(folder / "table.csv", HARD)
    assert "closest: 'table.csv'" in refusal(folder / "tabel.csv")
    assert "the folder" in refusal(folder / "nowhere" / "t.csv") and "the folder" in refusal(folder / "nowhere" / "t")
    assert "no such folder" in refusal(folder / "nowhere" / "*.jpg")
    assert "no such folder: 'nowhere'" in refusal(folder, images="nowhere")
    assert "no such file: 'memory://t.csv'" in refusal("memory://t.csv")
    assert "no inputs were given" in refusal(" ")
    assert "closest: 'caption'" in refusal(folder, "captoin")
    (folder / "empty").mkdir()
    assert "no photo was found" in refusal(folder / "empty") and ".jpg, " in refusal(folder / "empty")
    touch(folder, "others/1.tar", "others/2.tar", "others/x.heic")
    assert "there are other files (2 .tar, 1 .heic)" in refusal(folder / "others")
    assert "no photo was found" in refusal(folder / "others" / "*.jpg")
    assert "no file was found for" in refusal(folder / "others" / "*.csv")
    assert "'question' (.jsonl, .csv" in refusal(folder, "vqa")


def test_a_missing_file_system_is_named(tmp_path, monkeypatch):
    for package in ("s3fs", "aiohttp"):
        monkeypatch.setitem(sys.modules, package, None)
    assert refusal("s3://bucket/t.csv") == "'s3://bucket/t.csv' needs a package that is not installed: pip install s3fs"
    assert "there is no file system 'memroy'; closest: 'memory'" in refusal("memroy://t.csv")


def test_ids_that_come_twice(folder):
    rows = [{"image": "a.jpg", "id": number % 4000} for number in range(4001)]
    assert "two items have the id '0': " in refusal(write_lines(folder / "t.jsonl", rows))
    read(write_lines(folder / "t.jsonl", rows[:-1]))
    rows = [{"image": "a.jpg", "id": "x"}, {"image": "b.jpg", "id": "x"}]
    message = refusal(write_lines(folder / "t.jsonl", rows))
    assert message.startswith(f"two items have the id 'x': {str(folder / 'a.jpg')!r} and {str(folder / 'b.jpg')!r}")


def test_ids_whose_hashes_agree_are_not_taken_for_the_same(folder):
    # hash(str) is secret, so the agreement is made: of numbers as names' hashes
    from mmexplain.jobs.inputs.columns import Entry
    from mmexplain.jobs.inputs.unique import require_unique

    class Name(str):
        def __hash__(self) -> int:
            return 7

    different = [Entry(Name("a"), "1"), Entry(Name("b"), "2")]
    assert list(require_unique(lambda: different)) == different
    with pytest.raises(InputError, match="two items have the id 'a'"):
        list(require_unique(lambda: [*different, different[0]]))


def test_reading_is_lazy(folder):
    path = folder / "t.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps({"image": "a.jpg", "id": number}) + "\n" for number in range(20_000))
        file.write("damaged")
    found = items(str(path), "classify")
    assert next(found).id == "0"
    with pytest.raises(InputError, match="line 20001"):
        list(found)


TABLE = (
    "image,caption,question,answers,id\n" + "".join(f'a.jpg,"a, ""b""",why?,yes|no,{n}\n' for n in range(30))
).encode()
LINES = b"".join(
    json.dumps({"image": "a.jpg", "caption": ["x", "y"], "answers": ["a", 1], "id": n}).encode() + b"\n"
    for n in range(30)
)


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"image": ["a.jpg"] * 9, "caption": list("abcdefghi")}), file)
    return file.getvalue()


def tar_bytes() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in {"a.jpg": b"x" * 600, "a.json": b'{"question": "why?"}', "b.jpg": b"y"}.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()[:6000]


COCO = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 5, "image_id": 1, "caption": "x"}]}
SOUND = {
    "t.csv": TABLE,
    "t.tsv": TABLE.replace(b",", b"\t"),
    "t.jsonl": LINES,
    "t.csv.gz": gzip.compress(TABLE),
    "t.parquet": parquet_bytes(),
    "t.json": json.dumps(COCO).encode(),
    "t.tar": tar_bytes(),
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("task", ["caption", "vqa"])
def test_damage_of_any_kind_gives_items_or_one_line(folder, name, task):
    generator = np.random.default_rng(0)
    sound = np.frombuffer(SOUND[name], np.uint8)
    refused = 0
    for trial in range(150):
        data = sound[: generator.integers(1, len(sound))] if trial % 3 == 0 else sound
        data = data.copy()
        places = generator.integers(0, len(data), generator.integers(1, 6))
        data[places] = generator.integers(0, 256, len(places))
        (folder / name).write_bytes(data.tobytes())
        try:
            assert all(isinstance(item, Item) for item in read(folder / name, task))
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 10


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1), st.sampled_from([",", "\t"]))
def test_any_text_survives_a_csv(tmp_path_factory, cells, delimiter):
    folder = tmp_path_factory.mktemp("csv")
    cells = [[one.encode("utf-8", "replace").decode(), two.encode("utf-8", "replace").decode()] for one, two in cells]
    path = folder / ("t.csv" if delimiter == "," else "t.tsv")
    rows = [[f"/{number}.jpg", *row] for number, row in enumerate(cells)]
    write_csv(path, [["image", "caption", "ignored"], *rows], delimiter=delimiter)
    assert [item.caption for item in read(path, "caption")] == [one.strip() or None for one, _ in cells]


# -- COCO and VQA -----------------------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    record = {
        "images": [{"id": 9, "file_name": "000000000009.jpg"}, {"id": 4, "file_name": "000000000004.jpg"}],
        "annotations": [
            {"id": 70, "image_id": 4, "caption": " a dog "},
            {"id": 12, "image_id": 9, "caption": "a cat"},
            {"id": 13, "image_id": 9, "caption": "a cat sleeps"},
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_val2017.json").write_text(json.dumps(record))
    return tmp_path


@pytest.mark.parametrize(
    "where", ["annotations", "annotations/images", "annotations/val2017", "val2017", "images/val2017", "images"]
)
def test_coco_captions(coco, where):
    touch(coco / where, "000000000009.jpg", "000000000004.jpg")
    path = coco / "annotations" / "captions_val2017.json"
    photos = {number: str(coco / where / f"{number:012d}.jpg") for number in (4, 9)}
    assert read(path, "caption") == [
        Item(0, "70", photos[4], caption="a dog"),
        Item(1, "12", photos[9], caption="a cat"),
        Item(2, "13", photos[9], caption="a cat sleeps"),
    ]
    each_photo = [Item(0, "9", photos[9]), Item(1, "4", photos[4])]
    assert read(path, "caption", generate=True) == read(path, "classify") == each_photo
    assert "holds captions of photos, which vqa cannot take" in refusal(path, "vqa")


def test_coco_photos_elsewhere_or_nowhere(coco, tmp_path_factory):
    path = coco / "annotations" / "captions_val2017.json"
    message = refusal(path, "caption")
    assert (
        f"'000000000009.jpg' (nor any other of the first 2) is not in {str(path.parent)!r} or {str(coco)!r}" in message
    )
    assert "nor in images, val2017, images/val2017 there" in message
    elsewhere = touch(tmp_path_factory.mktemp("elsewhere"), "val2017/000000000009.jpg")
    for images in (elsewhere, elsewhere / "val2017"):
        assert read(path, "caption", images=str(images))[0].source == str(elsewhere / "val2017" / "000000000004.jpg")


def test_coco_instances_have_no_captions(coco):
    touch(coco / "annotations", "a.jpg")
    path = coco / "annotations" / "instances_val.json"
    path.write_text(json.dumps(COCO | {"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1]}]}))
    assert "has no captions" in refusal(path, "caption")
    assert [item.id for item in read(path, "caption", generate=True)] == ["1"]


@pytest.mark.parametrize(("subset", "folder"), [("val2014", "val2014"), ("test-dev2015", "test2015")])
def test_vqa_questions(tmp_path, memory, subset, folder):
    questions = [
        {"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000},
        {"image_id": 262148, "question": "What is it?", "question_id": 262148001, "answers": ["a dog", "a cat"]},
    ]
    path = tmp_path / "v2_questions.json"
    path.write_text(json.dumps({"data_subtype": subset, "questions": questions}))
    name = f"COCO_{folder}_000000262148.jpg"
    touch(tmp_path / folder, name)
    photo = str(tmp_path / folder / name)
    assert read(path, "vqa") == [
        Item(0, "262148000", photo, question="Where is he looking?"),
        Item(1, "262148001", photo, question="What is it?", answers=("a dog", "a cat")),
    ]
    assert "holds questions, which vqa answers, not caption" in refusal(path, "caption")
    memory.pipe_file("/q.json", path.read_bytes())
    memory.pipe_file(f"/{folder}/{name}", b"x")
    assert read("memory://q.json", "vqa")[0].source == f"memory://{folder}/{name}"


# -- WebDataset -------------------------------------------------------------------------------------------------------

SAMPLES = {
    "./x/001.jpg": b"one" * 1000,
    "./x/001.txt": b" a dog\n",
    "./x/001.json": b'{"question": "why?", "answers": ["yes", "no"], "caption": "from json", "url": "http://x/1.jpg"}',
    "./x/001.seg.png": b"not the photo",
    "./x/.hidden.jpg": b"hidden",
    "002.txt": b"",
    "002.JPEG": b"two",
    "readme": b"no suffix",
    "text only.txt": b"alone",
    "clip.v1.mp4": b"no",
    "clip.mp4": b"video",
    "clip.txt": b"skating",
}


@pytest.fixture
def shards(tmp_path):
    write_tar(tmp_path / "shards" / "000.tar", SAMPLES)
    write_tar(tmp_path / "shards" / "001.tar", {"1.png": b"1", "1.json": b'{"id": "own"}'}, format=tarfile.PAX_FORMAT)
    long = "a folder with a long name/" * 8
    write_tar(tmp_path / "shards" / "010.tar", {f"{long}ü.webp": b"long"}, format=tarfile.GNU_FORMAT)
    return tmp_path / "shards"


def test_shards(shards):
    found = read(shards / "{000..001}.tar", "caption")
    assert [(item.id, item.caption) for item in found] == [
        ("000/x/001", "from json"),
        ("000/002", None),
        ("own", None),
    ]
    assert [item.source for item in found] == [
        f"tar://./x/001.jpg::file://{shards}/000.tar",
        f"tar://002.JPEG::file://{shards}/000.tar",
        f"tar://1.png::file://{shards}/001.tar",
    ]
    (asked, *_) = read(shards / "*.tar", "vqa")
    assert (asked.question, asked.answers, asked.caption) == ("why?", ("yes", "no"), None)
    assert [item.id for item in read(shards / "000.tar", "action")] == ["000/clip"]
    assert [item.caption for item in read(shards / "000.tar", "caption", generate=True)] == [None, None]


def test_offsets_are_those_of_the_members(shards, memory):
    for path in sorted(shards.glob("*.tar")):
        memory.pipe_file(f"/{path.name}", path.read_bytes())
        for source in (str(path), f"memory://{path.name}"):
            for item in read(source):
                with tarfile.open(path) as tar:
                    member = item.source.removeprefix("tar://").partition("::")[0]
                    content = tar.extractfile(member).read()
                data = path.read_bytes()
                assert data[item.offset : item.offset + item.size] == content


def test_samples_that_lack_everything(shards):
    assert "have no 'question', which vqa needs; they have none at all" in refusal(shards / "010.tar", "vqa")
    other = write_tar(shards / "other.tar", {"1.jpg": b"x", "1.json": b'{"q": 1}'})
    assert "they have 'q'" in refusal(other, "vqa")
    assert "no videos were found" in refusal(shards / "001.tar", "action")
    assert "no such file" in refusal(shards / "{000..002}.tar")


def test_damaged_shards(shards, tmp_path):
    data = (shards / "000.tar").read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(data[:2000])
    assert "cut short" in refusal(cut)
    cut.write_bytes(data[:4608] + b"garbage!" * 64 + data[5120:])
    assert "is damaged at byte 4,608" in refusal(cut)
    write_tar(cut, {"a.jpg": b"x", "a.json": b"[1]"})
    assert "'a.json' of" in refusal(cut) and "holds no object" in refusal(cut)
    write_tar(cut, {"a.jpg": b"x", "a.json": b"{"})
    assert "is not JSON" in refusal(cut)
    write_tar(tmp_path / "t.tar.gz", {"a.jpg": b"x"}, mode="w:gz")
    assert "decompress it to a plain .tar" in refusal(tmp_path / "*.tar.gz")
    write_tar(cut, {"a.jpg": b"x", "b.jpg": b"x", "a.png": b"x"})
    assert "two items have the id 'cut/a'" in refusal(cut)


# -- real data --------------------------------------------------------------------------------------------------------


def test_flickr8k(data_dir):
    source = data_dir / "flickr8k" / "annotations.jsonl.gz"
    captions = read(source, "caption")
    assert len(captions) == 40_430 and len({item.id for item in captions}) == 40_430
    assert all(item.caption for item in captions)
    photos = read(source, "caption", generate=True)
    assert len(photos) == 8_086 and all(Path(item.source).is_file() for item in photos)


def test_daquar(data_dir):
    source = data_dir / "daquar" / "qa.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    found = read(source, "vqa")
    assert len(found) == 12_468
    assert [(Path(item.source).name, item.question) for item in found] == [
        (row["image"], row["question"]) for row in rows
    ]
    assert [item.answers for item in found] == [tuple(dict.fromkeys(row["answers"])) for row in rows]


def test_coco_mini(data_dir):
    found = read(data_dir / "coco_mini")
    assert len(found) == 159
    with Image.open(found[0].source) as image:
        assert image.size[0] > 0


# -- start-up ---------------------------------------------------------------------------------------------------------


def test_reading_inputs_needs_no_torch_and_the_package_no_pyarrow():
    code = "import sys, mmexplain.jobs.inputs, mmexplain.jobs.manifest; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, mmexplain.cli, mmexplain.jobs.item, mmexplain.io, mmexplain.video\n"
    code += "import mmexplain; dir(mmexplain); assert not {'pyarrow', 'fsspec', 'duckdb'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_question_for_every_photo_of_a_folder(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"photo")
    with pytest.raises(InputError, match="--question"):
        list(items(str(tmp_path), "vqa"))
    assert [item.question for item in items(str(tmp_path), "vqa", question="what is it")] == ["what is it"] * 2
    with pytest.raises(InputError, match="empty"):
        list(items(str(tmp_path), "vqa", question=" "))
    with pytest.raises(InputError, match="asks no question"):
        list(items(str(tmp_path), "caption", question="what is it"))


def test_a_question_for_the_rows_that_have_none(tmp_path):
    table = tmp_path / "asked.csv"
    (tmp_path / "a.png").write_bytes(b"photo")
    table.write_text("image,question\na.png,who is it\na.png,\n")
    assert [item.question for item in items(str(table), "vqa", question="what is it")] == ["who is it", "what is it"]
