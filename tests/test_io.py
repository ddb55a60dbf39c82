"""Every kind of file that people have, made here, and what must come of it."""

import io
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

import mmexplain.io
from mmexplain.errors import InputError
from mmexplain.io import Photo, display, load_image

Y, X = np.mgrid[:48, :64]
PIXELS = np.stack([X * 4, Y * 5, 255 - X * 2 - Y], axis=-1).astype(np.uint8)


@pytest.fixture
def rgb():
    return Image.fromarray(PIXELS)


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


# -- good files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "gif", "jpg", "jp2", "tga", "avif"])
def test_formats(tmp_path, rgb, suffix):
    path = tmp_path / f"photo.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 98}, "avif": {"quality": 95}}.get(suffix, {})
    try:
        rgb.save(path, **options)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {suffix}")
    photo = load_image(path)
    assert photo.original == (48, 64) and photo.source == str(path)
    assert photo.geometry.box == (0, 0, 64, 48) and photo.geometry.input == (48, 64)
    tolerance = {"gif": 40, "jpg": 25, "avif": 25}.get(suffix, 0)
    assert np.abs(pixels(photo) - PIXELS).max() <= tolerance


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(tmp_path, rgb, kind):
    path = tmp_path / "a photo – naïve #1.png"
    rgb.save(path)
    assert np.array_equal(pixels(load_image(kind(path))), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_exif_orientation(tmp_path, rgb, orientation, suffix):
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image)).astype(int)
    photo = load_image(path)
    assert photo.original == expected.shape[:2] == photo.image.size[::-1]
    assert np.array_equal(pixels(photo), expected)
    if orientation == 6 and suffix == "png":  # by hand: the file's left column becomes the top row, right to left
        assert np.array_equal(expected[0], PIXELS[::-1, 0])
    with Image.open(path) as image:
        assert np.array_equal(pixels(load_image(image)), expected)


def test_cmyk(tmp_path, rgb):
    path = tmp_path / "print.jpg"
    rgb.convert("CMYK").save(path, quality=98)
    assert np.abs(pixels(load_image(path)) - PIXELS).max() <= 25
    # Adobe stores CMYK upside down, and says so in its marker.
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red.save(path, quality=98)
    assert np.abs(pixels(load_image(path)) - [255, 0, 0]).max() <= 8


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, dtype, suffix):
    path = tmp_path / f"deep.{suffix}"
    ramp = np.linspace(0, 65535, 256 * 4).reshape(4, 256).astype(dtype)
    if dtype == ">u2" and suffix == "png":
        pytest.skip("PNG has one byte order")
    Image.fromarray(ramp).save(path)
    expected = np.rint(ramp / 257.0)[..., None].repeat(3, -1)
    assert np.array_equal(pixels(load_image(path)), expected)


def test_deep_grey(tmp_path):
    path = tmp_path / "deep.tiff"
    for values, expected in [
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], dtype=np.float32), [0, 100, 255]),
        (np.array([[-1.0, 0.0, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[7.0, 7.0, 7.0]], dtype=np.float32), [7, 7, 7]),
        (np.array([[0, 257, 65535]], dtype=np.int32), [0, 1, 255]),
        (np.array([[0, 1_000_000]], dtype=np.int32), [0, 255]),
        (np.array([[0, 12, 255]], dtype=np.int32), [0, 12, 255]),
    ]:
        Image.fromarray(values).save(path)
        assert pixels(load_image(path))[0, :, 0].tolist() == expected
    Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)).save(path)
    assert "NaN" in refusal(path)


def test_transparency_lies_over_white(tmp_path, rgb):
    path = tmp_path / "clear.png"
    alpha = Image.fromarray((X * 4).astype(np.uint8))
    over = rgb.copy()
    over.putalpha(alpha)
    over.save(path)
    weight = np.array(alpha)[..., None] / 255.0
    expected = PIXELS * weight + 255 * (1 - weight)
    assert np.abs(pixels(load_image(path)) - expected).max() <= 1
    grey = over.convert("LA")
    for image in (grey, grey.convert("La"), over.convert("RGBa"), over.convert("PA")):
        shown = pixels(load_image(image))
        assert shown.shape == PIXELS.shape
        assert (shown[:, 0] == 255).all()  # wholly transparent
    # A palette with a transparent entry, and a colour key.
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    palette.save(path, transparency=1)
    assert pixels(load_image(path)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    Image.new("RGB", (2, 1), (1, 2, 3)).save(path, transparency=(1, 2, 3))
    assert (pixels(load_image(path)) == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "YCbCr", "HSV", "LAB"])
def test_modes_of_images_in_memory(rgb, mode):
    image = rgb.convert("RGBA" if mode == "LA" else "RGB").convert("L" if mode in ("1", "LA") else "RGB")
    if mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(image, lab)
    else:
        image = image.convert(mode)
    assert load_image(image).image.size == (64, 48)
    assert np.array_equal(pixels(load_image(rgb.convert("L"))), np.array(rgb.convert("L").convert("RGB")))


def test_images_in_memory_are_copied_and_left_alone(rgb):
    photo = load_image(rgb)
    assert photo.source is None
    rgb.paste((0, 0, 0), (0, 0, 64, 48))
    assert np.array_equal(pixels(photo), PIXELS)


@pytest.mark.parametrize("name", ["two.jpg", "two.mpo"])
def test_phones_put_previews_behind_the_photo(tmp_path, rgb, name):
    path = tmp_path / name
    rgb.save(path, format="MPO", quality=98, save_all=True, append_images=[rgb.resize((16, 12))])
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert load_image(path).original == (48, 64)


def test_arrays_and_tensors():
    for source in (PIXELS, PIXELS / 255.0, (PIXELS / 255.0).astype(np.float32), np.asfortranarray(PIXELS)):
        assert np.array_equal(pixels(load_image(source)), PIXELS)
    grey = PIXELS[..., 0]
    assert np.array_equal(pixels(load_image(grey)), grey[..., None].repeat(3, -1))
    tensor = torch.from_numpy(PIXELS).movedim(-1, 0)
    for source in (tensor, tensor / 255.0, (tensor / 255.0).double().requires_grad_()):
        assert np.array_equal(pixels(load_image(source)), PIXELS)
    assert np.abs(pixels(load_image((tensor / 255.0).bfloat16())) - PIXELS).max() <= 1


def test_display(rgb):
    photo = load_image(rgb)
    assert torch.equal(display(photo), torch.from_numpy(PIXELS))
    small = display(photo, max_side=16)
    assert small.shape == (12, 16, 3) and small.dtype == torch.uint8
    means = torch.from_numpy(PIXELS).float().view(12, 4, 16, 4, 3).mean((1, 3))
    assert (small.float() - means)[1:-1, 1:-1].abs().max() < 4  # a smooth photo: any good filter gives the mean
    small += 1  # writable, and its own


def test_frames_of_animations(tmp_path, rgb):
    path = tmp_path / "moving.gif"
    rgb.save(path, save_all=True, append_images=[Image.new("RGB", rgb.size, (200, 0, 0))])
    assert np.abs(pixels(load_image(path, frame=1)) - [200, 0, 0]).max() <= 5
    assert "no frame 2" in refusal(path, frame=2)
    rgb.save(tmp_path / "still.png")
    assert load_image(tmp_path / "still.png", frame=0).original == (48, 64)
    with Image.open(path) as image:
        image.seek(1)
        assert np.abs(pixels(load_image(image)) - [200, 0, 0]).max() <= 5


def test_real_photos(data_dir):
    seen = 0
    for path in sorted((data_dir / "samples").iterdir()):
        if path.suffix in (".jpg", ".png"):
            with Image.open(path) as image:
                expected = np.array(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
            assert np.array_equal(pixels(load_image(path)), expected)
            seen += 1
        else:
            assert ("video" if path.suffix == ".mp4" else "79 frames") in refusal(path)
    assert seen >= 5


# -- large photos --------------------------------------------------------------------------------------------------


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


def test_pillow_is_left_as_it_was(tmp_path, rgb):
    rgb.save(tmp_path / "a.png")
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


def test_nothing_is_printed_about_damaged_metadata(tmp_path, rgb):
    path = tmp_path / "odd.jpg"
    rgb.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x03\x01\x12\0\x03\0\0\0\x01\0\x06")
    code = "from mmexplain.io import load_image; print(load_image('odd.jpg').original)"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and run.stderr == ""


# -- bad files -----------------------------------------------------------------------------------------------------


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
    assert re.search(rf"moving\.{suffix}' has {kind}; save one of them as PNG, or pass frame=0", refusal(path))


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
