"""Large photos: bounded memory, original pixels, and Pillow left as it was."""

import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

import mmexplain.io
from mmexplain.errors import InputError
from mmexplain.io import display, load_image


def pixels(photo):
    assert photo.image.mode == "RGB"
    return np.array(photo.image).astype(int)


def refusal(source, **options):
    """The message of the refusal, which is one line."""
    with pytest.raises(InputError) as caught:
        load_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(mmexplain.io, "MAX_DECODED", 40_000)
    monkeypatch.setattr(mmexplain.io, "MAX_PIXELS", 2_000_000)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("size", [(403, 302), (1201, 900)])
def test_large_photos_are_held_small_but_measured_in_original_pixels(tmp_path, small_limits, orientation, suffix, size):
    width, height = size
    y, x = np.mgrid[:height, :width]
    array = np.stack([x * 255 / width, y * 255 / height, 0 * x], -1).astype(np.uint8)
    path = tmp_path / f"large.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif)
    photo = load_image(path)
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    assert photo.original == upright.shape[:2]
    assert photo.image.width * photo.image.height <= 40_000
    assert photo.geometry.original == photo.original
    assert photo.geometry.input == photo.image.size[::-1]
    # What stands at a decoded pixel is what stands at its place in the original.
    decoded = pixels(photo)
    for row, column in [(3, 5), (50, 90), (decoded.shape[0] - 4, decoded.shape[1] - 6)]:
        x, y = photo.geometry.point_to_original(column + 0.5, row + 0.5)
        assert np.abs(decoded[row, column] - upright[int(y), int(x)].astype(int)).max() <= 6
    shown = display(photo, 100)
    assert max(shown.shape) == 100 and min(shown.shape[:2]) == 75


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "F", "1"])
def test_large_photos_of_every_mode(small_limits, mode):
    grey = Image.fromarray(np.tile(np.arange(600, dtype=np.uint8)[None] // 3, (700, 1)))
    if mode == "I;16":
        image = Image.fromarray(np.array(grey).astype(np.uint16) * 257)
    else:
        image = (grey if mode in "LF1" else grey.convert("RGB")).convert(mode)
    photo = load_image(image)
    assert photo.original == (700, 600) and photo.image.size == (150, 175)
    if mode != "1":
        whole = np.array(grey.reduce(4)).astype(int)
        assert np.abs(pixels(photo)[..., 0] - whole).max() <= (10 if mode == "P" else 3)  # palettes are dithered


def test_a_lazily_opened_large_file_keeps_its_size(tmp_path, small_limits):
    Image.new("RGB", (600, 400)).save(tmp_path / "large.jpg")
    with Image.open(tmp_path / "large.jpg") as image:
        photo = load_image(image)
        assert image.size == (600, 400) and image.getpixel((599, 399)) == (0, 0, 0)
    assert photo.original == (400, 600) and photo.image.size == (200, 134)


def test_a_long_strip(tmp_path):
    path = tmp_path / "panorama.png"
    Image.new("L", (200_000, 200), 9).save(path, compress_level=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photo = load_image(path)
    assert photo.original == (200, 200_000) and photo.image.size == (100_000, 100)
    assert display(photo).shape == (2, 1600, 3) and int(display(photo).min()) == 9


def test_over_the_limit(tmp_path, small_limits):
    path = tmp_path / "vast.png"
    Image.new("L", (2001, 1000)).save(path)
    assert re.search(r"vast\.png' has 2 megapixels; make it smaller, the limit is 2", refusal(path))
    assert "megapixels" in refusal(Image.new("L", (2001, 1000)))


def test_a_hundred_megapixels(tmp_path):
    """For real, in a process of its own whose memory and standard error are watched."""
    Image.new("RGB", (10_000, 10_000), (200, 100, 50)).save(tmp_path / "vast.jpg")
    Image.new("L", (10_000, 10_000), 77).save(tmp_path / "vast.png", compress_level=1)
    # 200 megapixels, where Pillow refuses by itself.
    Image.new("L", (20_000, 10_000), 77).save(tmp_path / "vaster.jpg")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    code = """
import resource, sys
from mmexplain.errors import InputError
from mmexplain.io import display, load_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, size in (("vast.jpg", (10_000, 10_000)), ("vaster.jpg", (10_000, 20_000)), ("vast.png", (10_000, 10_000))):
    photo = load_image(name)
    assert photo.original == size and photo.image.width * photo.image.height <= 32_000_000
    assert max(display(photo).shape) == 1600
    print(name, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
try:
    load_image("bomb.png")
except InputError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    *memory, refused = run.stdout.splitlines()
    assert "'bomb.png' has 400 megapixels; make it smaller, the limit is 300" in refused
    peaks = dict(line.split() for line in memory)
    assert int(peaks["vast.jpg"]) < 350
    assert int(peaks["vast.png"]) < 450


def test_pillow_is_left_as_it_was(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    limit = Image.MAX_IMAGE_PIXELS
    before = warnings.filters[:]
    errors = []

    def work():
        try:
            for _ in range(20):
                load_image(tmp_path / "a.png")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert limit == Image.MAX_IMAGE_PIXELS and ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert warnings.filters[: len(before)] == before and len(warnings.filters) <= len(before) + 1


def test_nothing_is_printed_about_damaged_metadata(tmp_path):
    path = tmp_path / "odd.jpg"
    Image.new("RGB", (64, 48)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x03\x01\x12\0\x03\0\0\0\x01\0\x06")
    code = "from mmexplain.io import load_image; print(load_image('odd.jpg').original)"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and run.stderr == ""
