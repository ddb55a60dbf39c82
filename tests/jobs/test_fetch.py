"""What an item names is fetched, from wherever it lies, as from a file; or one line says why not."""

from __future__ import annotations

import gc
import io
import tarfile
import warnings
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.io import decode_image, load_image
from mmexplain.jobs import fetch
from mmexplain.jobs.inputs import items
from mmexplain.jobs.item import Item
from tests.videos import read_number, write_video

Y, X = np.mgrid[:48, :64]
PIXELS = np.stack([X * 4, Y * 5, 255 - X * 2 - Y], axis=-1).astype(np.uint8)


@pytest.fixture
def photo(tmp_path) -> Path:
    """Stored lying on its side: EXIF says how it is set upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "side.jpg"
    Image.fromarray(PIXELS).save(path, exif=exif, quality=95)
    return path


@pytest.fixture
def tar(tmp_path, photo) -> Path:
    path = tmp_path / "000.tar"
    with tarfile.open(path, "w") as file:
        for name, content in (
            ("a.jpg", b"not it"),
            ("b.jpg", photo.read_bytes()),
            ("c.jpg", b""),
            ("d.jpg", b"nor it"),
        ):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            file.addfile(header, io.BytesIO(content))
    return path


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def same(one, other) -> bool:
    return one.original == other.original and bool((np.array(one.image) == np.array(other.image)).all())


def refusal(fetching, item) -> str:
    with pytest.raises(InputError) as caught:
        fetching(item)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def item(source, **fields) -> Item:
    return Item(0, "x", str(source), **fields)


def test_a_photo_is_the_same_wherever_it_lies(photo, tar, memory):
    on_disk = load_image(photo)
    assert on_disk.original == (64, 48)
    memory.pipe_file("/b.jpg", photo.read_bytes())
    memory.pipe_file("/000.tar", tar.read_bytes())
    in_tar, far = list(items(str(tar), "caption"))[1], list(items("memory://000.tar", "caption"))[1]
    chain = f"tar://b.jpg::file://{tar}"
    for each in (item(photo), item(f"file://{photo}"), item("memory://b.jpg"), in_tar, far, item(chain)):
        found = fetch.photo(each)
        assert same(found, on_disk), each
        assert found.source == each.source
        assert fetch.data(each) == photo.read_bytes()


def test_names_that_look_like_chains_and_patterns(tmp_path, photo, tar):
    folder = tmp_path / "a::b" / "[c] {d,e} #1 100%"
    folder.mkdir(parents=True)
    tar.rename(folder / "x::y.tar")
    photo.rename(folder / "x::y.jpg")
    (folder / "x::y.csv").write_text("image\nx::y.jpg\n")
    upright = load_image(folder / "x::y.jpg")
    for source, number in ((folder, 0), (folder / "x::y.jpg", 0), (folder / "x::y.tar", 1), (folder / "x::y.csv", 0)):
        assert same(fetch.photo(list(items(str(source), "caption"))[number]), upright)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
def test_bytes_are_decoded_as_the_file_is(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(PIXELS).save(path)
    found = decode_image(path.read_bytes(), "somewhere/photo")
    assert same(found, load_image(path)) and found.source == "somewhere/photo"


def test_refusals_of_bytes_are_those_of_the_file(tmp_path):
    photo = io.BytesIO()
    Image.fromarray(PIXELS).save(photo, format="png")
    animated = io.BytesIO()
    frames = [Image.fromarray(PIXELS).rotate(turn) for turn in (0, 90)]
    frames[0].save(animated, format="gif", save_all=True, append_images=frames[1:])
    contents = [b"", b"hello", b"<!DOCTYPE html><html>", b"%PDF-1.7", photo.getvalue()[:60], animated.getvalue()]
    path = tmp_path / "photo"
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(InputError) as of_file:
            load_image(path)
        with pytest.raises(InputError) as of_bytes:
            decode_image(content, str(path))
        assert str(of_bytes.value) == str(of_file.value)
    with pytest.raises(InputError, match="has no frame 2: it has 2"):
        decode_image(animated.getvalue(), "x", frame=2)
    assert decode_image(animated.getvalue(), "x", frame=1).original == (48, 64)


def test_only_the_members_bytes_are_read(tar, monkeypatch):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/photos.tar", tar.read_bytes())
    each = list(items("memory://photos.tar", "caption"))[1]
    asked = []
    original = type(fs).cat_file

    def cat_file(self, path, start=None, end=None, **options):
        asked.append((path, start, end))
        return original(self, path, start, end, **options)

    monkeypatch.setattr(type(fs), "cat_file", cat_file)
    fetch.photo(each)
    assert asked == [("/photos.tar", each.offset, each.offset + each.size)]


def test_refusals_quote_the_source(photo, tar, tmp_path, memory, monkeypatch):
    damaged, _, empty, _ = items(str(tar), "caption")
    assert refusal(fetch.photo, damaged).startswith(f"{damaged.source!r} is not an image")
    assert refusal(fetch.photo, empty).startswith(f"{empty.source!r} is empty")
    assert "closest: 'side.jpg'" in refusal(fetch.photo, item(tmp_path / "sied.jpg"))
    assert refusal(fetch.photo, item("")) == "item 'x' names no file"
    assert refusal(fetch.photo, item("memory://no.jpg")) == "no such file: 'memory://no.jpg'"
    assert "no such file" in refusal(fetch.data, item(tmp_path / "no.jpg"))
    assert "there is no file system 'nope'" in refusal(fetch.photo, item("nope://x.jpg"))
    last = list(items(str(tar), "caption"))[3]
    tar.write_bytes(tar.read_bytes()[: last.offset + 2])
    assert "has 2 bytes instead of 6; was its tar file cut short?" in refusal(fetch.data, last)
    tar.unlink()
    assert refusal(fetch.photo, last) == f"no such file: {last.source!r}"
    for error, text in (
        (PermissionError(), "permission denied"),
        (TimeoutError(), "no answer in time"),
        (RuntimeError("Access\nDenied"), "cannot be read (Access Denied)"),
    ):
        monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: (_ for _ in ()).throw(error))  # noqa: B023
        assert text in refusal(fetch.photo, item("memory://a.jpg"))


# -- videos -----------------------------------------------------------------------------------------------------------


def copies() -> list[Path]:
    import tempfile

    return list(Path(tempfile.gettempdir()).glob("mmexplain-*"))


@pytest.fixture
def own_temporary_folder(tmp_path, monkeypatch):
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.mark.usefixtures("own_temporary_folder")
def test_a_video_is_the_same_wherever_it_lies(tmp_path, memory):
    clip = write_video(tmp_path / "clip.mp4", 20)
    with tarfile.open(tmp_path / "v.tar", "w") as file:
        file.add(clip, "one/clip.mp4")
    memory.pipe_file("/clip.mp4", clip.read_bytes())
    (in_tar,) = items(str(tmp_path / "v.tar"), "action")
    for each in (item(clip), item(f"file://{clip}"), item("memory://clip.mp4"), in_tar):
        video = fetch.video(each)
        assert [read_number(frame.image) for frame in video.frames([0, 7, 19])] == [0, 7, 19]
        assert [read_number(frame.image) for frame in video.frames([3])] == [3]
        assert video.n_frames == 20 and video.times is not None
        copied = str(clip) not in each.source
        assert video.source == (each.source if copied else str(clip))
        assert len(copies()) == copied
        frames = video.frames()
        del video
        gc.collect()
        assert read_number(next(frames).image) == 0
        del frames
        gc.collect()
        assert not copies()


@pytest.mark.usefixtures("own_temporary_folder")
def test_animations_are_videos_too(tmp_path, memory):
    frames = [Image.fromarray(PIXELS).rotate(turn) for turn in (0, 90, 180)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    memory.pipe_file("/a.gif", (tmp_path / "a.gif").read_bytes())
    assert fetch.video(item("memory://a.gif")).n_frames == 3


@pytest.mark.usefixtures("own_temporary_folder")
def test_refusals_of_videos_quote_the_source(tmp_path, memory):
    memory.pipe_file("/a.mp4", b"hello")
    memory.pipe_file("/empty.mp4", b"")
    assert refusal(fetch.video, item("memory://a.mp4")).startswith("'memory://a.mp4' is not a video")
    assert refusal(fetch.video, item("memory://empty.mp4")).startswith("'memory://empty.mp4' is empty")
    assert refusal(fetch.video, item("memory://no.mp4")) == "no such file: 'memory://no.mp4'"
    assert "no such file" in refusal(fetch.video, item(tmp_path / "no.mp4"))
    gc.collect()
    assert not copies()


@pytest.mark.usefixtures("own_temporary_folder")
def test_a_video_cut_short_is_told_of_by_its_source(tmp_path, memory):
    clip = write_video(tmp_path / "clip.mkv", 60, codec="mpeg4", size=(240, 320))
    memory.pipe_file("/clip.mkv", clip.read_bytes()[: clip.stat().st_size // 2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        video = fetch.video(item("memory://clip.mkv"))
    assert video.truncated
    assert [str(warning.message) for warning in caught] == [
        f"'memory://clip.mkv' is cut short: {video.n_frames} frames of it can be decoded"
    ]


def test_real_photos_in_a_tar(data_dir, tmp_path):
    paths = sorted((data_dir / "coco_mini" / "images").glob("*.jpg"))[:20]
    with tarfile.open(tmp_path / "coco.tar", "w") as file:
        for path in paths:
            file.add(path, path.name)
    found = list(items(str(tmp_path / "coco.tar"), "caption"))
    assert [each.id for each in found] == [f"coco/{path.stem}" for path in paths]
    assert all(same(fetch.photo(each), load_image(path)) for each, path in zip(found, paths, strict=True))
