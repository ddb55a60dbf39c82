"""Every kind of photo that people have, made here, and what must come of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mmexplain.errors import InputError
from mmexplain.io import display, load_image

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
