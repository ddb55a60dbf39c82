"""Videos that are pictures in a row: arrays, tensors, lists, folders, animated images."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.video import open_video
from tests.videos import SIZE, numbered, read_number

CLIP = np.stack([numbered(number) for number in range(5)])


def shown(video, numbers=None):
    """The frames as an array, checked against what the video says of itself."""
    frames = list(video.frames(numbers))
    assert all(frame.image.mode == "RGB" and frame.original == video.size for frame in frames)
    return np.stack([np.asarray(frame.image) for frame in frames])


def refusal(source):
    with pytest.raises(InputError) as caught:
        list(open_video(source).frames())
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize(
    "source",
    [
        CLIP,
        CLIP / 255,
        (CLIP / 255).astype(np.float16),
        CLIP.transpose(0, 3, 1, 2),
        torch.from_numpy(CLIP),
        torch.from_numpy(CLIP).permute(0, 3, 1, 2),
        (torch.from_numpy(CLIP) / 255).requires_grad_(),
        list(CLIP),
        [Image.fromarray(pixels) for pixels in CLIP],
        tuple(torch.from_numpy(pixels).permute(2, 0, 1) for pixels in CLIP),
    ],
    ids=lambda source: type(source).__name__,
)
def test_in_memory(source):
    video = open_video(source)
    assert (video.size, video.n_frames, video.source, video.times, video.rate) == (SIZE, 5, None, None, None)
    assert np.array_equal(shown(video), CLIP)
    assert np.array_equal(shown(video, [1, 1, 4]), CLIP[[1, 1, 4]])
    assert all(frame.time is None for frame in video.frames())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CLIP[0], "[None]"),
        (CLIP[None], "one video of the batch"),
        (CLIP.transpose(3, 0, 1, 2), "permute [3, T, H, W]"),
        (np.zeros((4, 3, 8, 3), np.uint8), "is both"),
        (np.zeros((0, 8, 8, 3), np.uint8), "[0, 8, 8, 3]"),
        (CLIP.astype(np.float32), "divide by 255"),
        (CLIP / 255 - 0.5, "undo its normalisation"),
        (CLIP.astype(np.int64), "int64"),
        (np.full((2, 8, 8, 3), np.nan), "from 0 to 1"),
        ([], "empty"),
        ([CLIP[0], CLIP[1][:10]], "the first is 96×64 pixels, frame 1 96×10"),
        (["missing.png"], "no such file"),
        ({}, "not dict"),
    ],
)
def test_bad_values(source, expected):
    assert expected in refusal(source)


def test_a_folder_in_natural_order(tmp_path):
    for number, name in enumerate(["frame1.png", "frame2.png", "Frame10.png", "frame010.png", "frame11.jpg"]):
        Image.fromarray(numbered(number)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / ".hidden.png").write_text("no frame")
    video = open_video(tmp_path)
    assert video.source == str(tmp_path) and video.n_frames == 5 and video.times is None
    names = [read_number(frame.image) for frame in video.frames()]
    assert names[:2] == [0, 1] and sorted(names[2:4]) == [2, 3] and names[4] == 4


def test_bad_folders(tmp_path):
    assert "holds no images" in refusal(tmp_path)
    Image.fromarray(numbered(0)).save(tmp_path / "1.png")
    Image.new("RGB", (10, 20)).save(tmp_path / "2.png")
    message = refusal(tmp_path)
    assert "2.png" in message and "96×64" in message and "10×20" in message
    (tmp_path / "2.png").write_bytes(b"")
    assert "2.png" in refusal(tmp_path) and "empty" in refusal(tmp_path)


def test_photos_that_lie_on_their_side(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(numbered(0)).copy()).save(tmp_path / "1.jpg", exif=exif, quality=98)
    Image.fromarray(numbered(1)).save(tmp_path / "2.png")
    video = open_video(tmp_path)
    assert video.size == SIZE and [read_number(frame.image) for frame in video.frames()] == [0, 1]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_animated_images(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    first, *others = [Image.fromarray(pixels) for pixels in CLIP]
    durations = [100, 40, 200, 50, 70]
    options = {"webp": {"lossless": True}, "avif": {"quality": 95}}.get(suffix, {})
    try:
        first.save(path, save_all=True, append_images=others, duration=durations, **options)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {suffix}")
    video = open_video(path)
    assert (video.size, video.n_frames, video.source) == (SIZE, 5, str(path))
    assert video.times == pytest.approx([0, 0.1, 0.14, 0.34, 0.39])
    assert [read_number(frame.image) for frame in video.frames()] == [0, 1, 2, 3, 4]
    assert [read_number(frame.image) for frame in video.frames([0, 3])] == [0, 3]
    if suffix != "avif":
        assert np.abs(shown(video).astype(int) - CLIP).max() <= (40 if suffix == "gif" else 0)


def test_the_pages_of_a_tiff_are_frames_of_one_size(tmp_path):
    first, *others = [Image.fromarray(pixels) for pixels in CLIP]
    path = tmp_path / "clip.tif"
    first.save(path, save_all=True, append_images=others)
    video = open_video(path)
    assert np.array_equal(shown(video), CLIP) and video.times is None
    for odd in (Image.new("RGB", (10, 20)), Image.new("L", (SIZE[1], SIZE[0] + 1))):
        first.save(path, save_all=True, append_images=[others[0], odd, *others])
        message = refusal(path)
        assert "the first is 96×64 pixels" in message and f"page 3 of {str(path)!r} {odd.width}×{odd.height}" in message
    with pytest.raises(InputError, match=r"page 3 of .* 96×65"):  # the file has changed since it was opened
        list(video.frames())


def test_frames_that_ask_for_no_time_last_as_in_browsers(tmp_path):
    first, *others = [Image.fromarray(pixels) for pixels in CLIP]
    first.save(tmp_path / "clip.gif", save_all=True, append_images=others, duration=0)
    assert open_video(tmp_path / "clip.gif").times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_an_animation_cut_short(tmp_path, suffix):
    path = cut_animation(tmp_path / f"clip.{suffix}")
    with pytest.warns(UserWarning, match="cut short"):
        video = open_video(path)
    assert video.truncated and 1 <= video.n_frames < 5 and len(list(video.frames())) == video.n_frames


def test_an_animation_that_cannot_be_read_in_part(tmp_path):
    assert "cut short or damaged" in refusal(cut_animation(tmp_path / "clip.webp"))


def cut_animation(path):
    noise = np.random.default_rng(0).integers(0, 255, (5, *SIZE, 3), dtype=np.uint8)
    first, *others = [Image.fromarray(pixels) for pixels in noise]
    first.save(path, save_all=True, append_images=others, duration=100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 7 // 10])
    return path
