"""Files and things that are no photo: one line each, which says how to mend it."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.io import Photo, load_image

Y, X = np.mgrid[:48, :64]
PIXELS = np.stack([X * 4, Y * 5, 255 - X * 2 - Y], axis=-1).astype(np.uint8)


@pytest.fixture
def rgb():
    return Image.fromarray(PIXELS)


def refusal(source, **options):
    """The message of the refusal, which is one line."""
    with pytest.raises(InputError) as caught:
        load_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def test_missing(tmp_path, rgb):
    rgb.save(tmp_path / "holiday.jpeg")
    assert re.search(r"no such file: '.*holiday\.jpg'; closest: 'holiday\.jpeg'", refusal(tmp_path / "holiday.jpg"))
    assert "the folder" in refusal(tmp_path / "nowhere" / "a.jpg")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    assert "mend the link" in refusal(tmp_path / "link.png")


def test_not_files(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    assert "no photo was given" in refusal("")
    assert "no photo was given" in refusal(" ")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a regular file" in refusal(tmp_path / "pipe.jpg")
    assert re.search(r"^(no such file: |)'a\\x00b\.jpg'", refusal("a\0b.jpg"))
    assert "not a usable path" in refusal("a" * 5000)
    for address in ("http://x.org/a.jpg", "HTTPS://x.org/a.jpg", "s3://b/k.png", "data:image/png;base64,AAAA"):
        assert "download the photo first" in refusal(address) and address[:10] in refusal(address)


def test_empty(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert re.search(r"empty\.jpg' is empty \(0 bytes\)", refusal(tmp_path / "empty.jpg"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_truncated(tmp_path, suffix, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    path = tmp_path / f"cut.{suffix}"
    noise.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: max(20, int(len(data) * part))])
    assert re.search(rf"cut\.{suffix}' is cut short or damaged \(.+\); copy or download it again", refusal(path))


def test_damaged_in_many_ways(tmp_path, rgb):
    """Bytes changed at random: a photo or one line, never another exception."""
    generator = np.random.default_rng(0)
    for suffix in ("jpg", "png", "gif", "webp", "tiff", "bmp"):
        buffer = io.BytesIO()
        rgb.save(buffer, format={"jpg": "jpeg"}.get(suffix, suffix))
        for _ in range(40):
            data = np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()
            places = generator.integers(0, min(len(data), 400), 4)
            data[places] = generator.integers(0, 256, 4)
            path = tmp_path / f"bad.{suffix}"
            path.write_bytes(data.tobytes())
            try:
                assert isinstance(load_image(path), Photo)
            except InputError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"hello, this is a text", "not an image"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "SVG"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "a video"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x00" * 500, "not an image"),
    ],
)
def test_other_files(tmp_path, content, what):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    message = refusal(path)
    assert "photo.jpg' is " in message and what in message


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animated(tmp_path, rgb, suffix):
    path = tmp_path / f"moving.{suffix}"
    rgb.save(path, save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)])
    kind = "3 pages" if suffix == "tiff" else r"3 frames \(it is animated\)"
    way_out = r"save one of them as PNG \(or, from Python, pass frame=0\)"
    assert re.search(rf"moving\.{suffix}' has {kind}; {way_out}", refusal(path))


def test_unreadable(tmp_path, rgb, monkeypatch):
    path = tmp_path / "secret.png"
    rgb.save(path)
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert re.search(r"secret\.png' cannot be read: permission denied; try `chmod \+r`", refusal(path))


def test_nothing_in_it():
    assert "no pixels" in refusal(Image.new("RGB", (0, 10)))
    assert "[0, 5, 3]" in refusal(np.zeros((0, 5, 3), np.uint8))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((2, 5, 5, 3), np.uint8), r"got \[2, 5, 5, 3\]; give one photo of the batch"),
        (np.zeros((5, 5, 4), np.uint8), r"\[5, 5, 4\]"),
        (np.zeros((5,), np.uint8), r"\[5\]"),
        (np.zeros((5, 5, 3), np.int64), "int64"),
        (np.full((5, 5, 3), 200.0), "200; divide by 255"),
        (np.full((5, 5, 3), -1.0), "-1 to -1; undo its normalisation"),
        (np.full((5, 5, 3), np.nan), "nan"),
        (torch.zeros(1, 3, 5, 5), r"\[3, H, W\], got \[1, 3, 5, 5\]; give one photo of the batch"),
        (torch.zeros(5, 5, 3), r"\[3, H, W\], got \[5, 5, 3\]"),
        (torch.zeros(3, 5, 5, dtype=torch.int64), "int64"),
        (None, "not NoneType"),
        (b"abc", "not bytes"),
    ],
)
def test_other_things(source, message):
    assert re.search(message, refusal(source))


def test_a_lazily_opened_file_that_is_damaged(tmp_path, rgb):
    path = tmp_path / "cut.png"
    rgb.save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with Image.open(path) as image:
        assert "cut.png' cannot be decoded" in refusal(image)
    with pytest.raises(InputError, match="cannot be decoded"):
        load_image(image)  # closed by now
