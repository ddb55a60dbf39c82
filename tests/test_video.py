"""Video files as people have them: every frame is the right one, upright, at its time."""

import os
import warnings
import weakref
from dataclasses import replace

import av
import numpy as np
import pytest

from mmexplain.geometry import Geometry
from mmexplain.preprocess import Preprocess
from mmexplain.video import file, open_video, uniform, windows
from mmexplain.video.container import decode
from tests.videos import SIZE, numbered, read_number, write_video

N = 40
FORMATS = [
    ("mp4", "libx264", {"b_frames": 3}),
    ("mp4", "libx264", {"b_frames": 3, "options": {"x264-params": "open-gop=1"}}),
    ("mp4", "libx264", {"b_frames": 0, "key_every": 1}),
    ("mp4", "libx265", {"options": {"x265-params": "log-level=none"}}),
    ("mp4", "mpeg4", {"b_frames": 2}),
    ("mp4", "libx264", {"container": {"movflags": "frag_keyframe+empty_moov"}}),
    ("mov", "prores_ks", {"pixel_format": "yuv422p10le"}),
    ("mkv", "libx264", {"b_frames": 3}),
    ("mkv", "ffv1", {"pixel_format": "yuv444p"}),
    ("webm", "libvpx", {"options": {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}}),
    ("webm", "libvpx-vp9", {"options": {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}}),
    ("avi", "mpeg4", {"b_frames": 2}),
    ("avi", "libx264", {"b_frames": 3}),
    ("avi", "mjpeg", {"pixel_format": "yuvj420p"}),
    ("ts", "libx264", {"b_frames": 3}),
    ("mpg", "mpeg2video", {"b_frames": 2}),
    ("flv", "libx264", {}),
    ("wmv", "wmv2", {}),
    ("h264", "libx264", {"b_frames": 3}),
]


def numbers_seen(frames):
    """(the number a frame is given, the number it shows) of each."""
    return [(frame.number, read_number(frame.image)) for frame in frames]


def pixels(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(("suffix", "codec", "options"), FORMATS)
def test_every_frame_is_found_by_its_number(tmp_path, suffix, codec, options):
    path = write_video(tmp_path / f"clip.{suffix}", N, codec=codec, **options)
    video = open_video(path)
    assert video.source == str(path) and video.size == SIZE and video.n_frames == N and not video.truncated
    if suffix == "h264":
        assert video.times is None and video.rate is None
    else:
        assert video.times == pytest.approx([number / 25 for number in range(N)], abs=1e-3)
        assert video.rate == pytest.approx(25, rel=1e-3)
    # the whole, each alone (sought and decoded), some that are near and far
    assert numbers_seen(video.frames()) == [(number, number) for number in range(N)]
    for number in range(0, N, 6):
        assert numbers_seen(video.frames([number])) == [(number, number)]
    some = [1, 2, 14, 15, 37, 39]
    assert numbers_seen(video.frames(some)) == [(number, number) for number in some]


def test_seeking_and_decoding_show_the_same_pixels(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 100, b_frames=3)
    video = open_video(path)
    whole = [pixels(frame.image) for frame in video.frames()]
    for number in (0, 11, 12, 13, 50, 88, 99):
        (frame,) = video.frames([number])
        assert np.array_equal(pixels(frame.image), whole[number])


def test_frames_far_apart_are_sought(tmp_path, monkeypatch):
    video = open_video(write_video(tmp_path / "clip.mp4", 600, b_frames=0))
    decoded = []

    def counting(*arguments, **options):
        for frame in decode(*arguments, **options):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(file, "decode", counting)
    assert numbers_seen(video.frames([5, 300, 599])) == [(5, 5), (300, 300), (599, 599)]
    assert len(decoded) <= 3 * 12


def test_a_container_whose_index_leads_astray(tmp_path):
    """Where a seek lands too late, decoding begins anew and the frame is still the right one."""
    video = open_video(write_video(tmp_path / "clip.mp4", 60))
    video._index = replace(video._index, entries=[video._index.entries[-1]] * len(video._index.entries))
    assert numbers_seen(video.frames([20, 30, 59])) == [(20, 20), (30, 30), (59, 59)]


def test_repeated_numbers_are_the_same_frame(tmp_path):
    video = open_video(write_video(tmp_path / "clip.mp4", 3))
    frames = list(video.frames(uniform(3, 6)))
    assert [frame.number for frame in frames] == [0, 0, 1, 1, 2, 2]
    assert frames[0] is frames[1] and frames[4] is frames[5]


def test_the_video_can_be_read_again_and_by_two_at_once(tmp_path):
    video = open_video(write_video(tmp_path / "clip.mp4", 10))
    both = list(zip(video.frames(), video.frames(), strict=True))
    assert [(read_number(a.image), read_number(b.image)) for a, b in both] == [(n, n) for n in range(10)]
    assert len(list(video.frames())) == 10


def test_one_frame(tmp_path):
    video = open_video(write_video(tmp_path / "clip.mp4", 1))
    assert video.n_frames == 1 and video.times == (0.0,) and video.rate is None
    assert numbers_seen(video.frames()) == [(0, 0)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate_and_a_start_that_is_not_zero(tmp_path, suffix):
    stamps = [400, 440, 640, 650, 1000, 1400, 1404, 2400]
    video = open_video(write_video(tmp_path / f"clip.{suffix}", len(stamps), stamps=stamps, b_frames=2))
    expected = [(stamp - 400) / 1000 for stamp in stamps]
    assert video.times == pytest.approx(expected, abs=2e-3)
    assert [frame.time for frame in video.frames()] == pytest.approx(expected, abs=2e-3)
    assert video.rate == pytest.approx(7 / 2.0, rel=1e-3)
    assert numbers_seen(video.frames([3, 5])) == [(3, 3), (5, 5)]


def test_an_edit_list_cuts_the_beginning(tmp_path):
    """What phones write when a clip is trimmed without encoding it anew: frames before the cut are never shown."""
    whole, cut = write_video(tmp_path / "whole.mp4", N, key_every=100, b_frames=0), tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= 10 * packet.duration
                packet.dts -= 10 * packet.duration
                packet.stream = stream
                output.mux(packet)
    video = open_video(cut)
    assert video.n_frames == N - 10 and video.times[0] == 0.0 and not video.truncated
    assert numbers_seen(video.frames()) == [(number, number + 10) for number in range(N - 10)]
    assert numbers_seen(video.frames([25])) == [(25, 35)]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_in_the_metadata(tmp_path, rotation, mirrored):
    path = write_video(tmp_path / "clip.mp4", 2, rotation=rotation, mirrored=mirrored)
    upright = np.rot90(numbered(1), rotation // 90).astype(int)  # counterclockwise, as the metadata means it
    if mirrored:
        upright = upright[:, ::-1]
    video = open_video(path)
    *_, frame = video.frames()
    assert video.size == upright.shape[:2] == (frame.image.height, frame.image.width)
    assert np.abs(pixels(frame.image) - upright).mean() < 12
    assert np.abs(pixels(frame.image) - upright[::-1, ::-1]).mean() > 40


@pytest.mark.parametrize("size", [(65, 97), (63, 101), (16, 130)])
def test_odd_sizes(tmp_path, size):
    video = open_video(write_video(tmp_path / "clip.mkv", 3, size=size, codec="ffv1", pixel_format="yuv420p"))
    assert video.size == size
    for frame in video.frames():
        assert np.abs(pixels(frame.image) - numbered(frame.number, size)).mean() < 12


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "yuv420p10le", "yuv444p12le", "rgb24", "rgb48be"])
def test_pixel_formats(tmp_path, pixel_format):
    codec, suffix = {"rgb24": ("qtrle", "mov"), "rgb48be": ("png", "mov")}.get(pixel_format, ("ffv1", "mkv"))
    path = write_video(tmp_path / f"clip.{suffix}", 3, codec=codec, pixel_format=pixel_format)
    *_, frame = open_video(path).frames()
    expected = numbered(2).astype(int)
    if pixel_format.startswith("gray"):
        expected = (expected @ [0.299, 0.587, 0.114])[..., None]
    assert read_number(frame.image) == 2 and np.abs(pixels(frame.image) - expected).mean() < 12


@pytest.mark.parametrize(("space", "name"), [(1, "ITU709"), (5, "ITU601")])
def test_colours_follow_the_matrix_that_the_stream_names(tmp_path, space, name):
    path = tmp_path / "clip.mkv"
    frame = av.VideoFrame.from_ndarray(numbered(1), format="rgb24").reformat(format="yuv444p", dst_colorspace=name)
    frame.colorspace = space
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = space
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    (shown,) = open_video(path).frames()
    assert np.abs(pixels(shown.image) - numbered(1)).max() <= 4


def test_transparent_pixels_lie_over_white(tmp_path):
    clear = np.zeros((*SIZE, 4), np.uint8)
    clear[: SIZE[0] // 2] = (10, 200, 30, 255)
    path = write_video(tmp_path / "clip.mov", 2, codec="qtrle", pixel_format="argb", frames=[clear, clear])
    for frame in open_video(path).frames():
        assert frame.image.mode == "RGB"
        assert frame.image.getpixel((3, 3)) == (10, 200, 30) and frame.image.getpixel((3, 60)) == (255, 255, 255)


def test_large_frames_are_held_at_reduced_size(tmp_path, monkeypatch):
    monkeypatch.setattr("mmexplain.video.file.MAX_DECODED", 3000)
    video = open_video(write_video(tmp_path / "clip.mp4", 2))
    frame = next(video.frames())
    assert video.size == frame.original == SIZE and frame.image.size == (SIZE[1] // 2, SIZE[0] // 2)
    _, geometry = Preprocess(resize=(8, 8))(frame.photo)
    assert geometry == Geometry.identity(*SIZE).resize(8, 8)


def test_a_stream_that_changes_its_size(tmp_path):
    """MPEG-TS recordings do; frames keep the size that the video began with."""
    first = write_video(tmp_path / "a.ts", 5, b_frames=0)
    second = write_video(tmp_path / "b.ts", 5, b_frames=0, size=(SIZE[0] * 2, SIZE[1] * 2))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert {frame.image.size for frame in open_video(both).frames()} == {SIZE[::-1]}


def test_cover_art_is_no_video_and_the_default_stream_is_shown(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 200, 200, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        second = output.add_stream("libx264", rate=25)
        third = output.add_stream("libx264", rate=25)
        for stream in (second, third):
            stream.height, stream.width = SIZE
            stream.pix_fmt = "yuv420p"
        second.disposition = 0
        third.disposition = av.stream.Disposition.default
        picture = np.zeros((200, 200, 3), np.uint8)
        for number in range(3):
            output.mux(second.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
            output.mux(third.encode(av.VideoFrame.from_ndarray(numbered(number + 100), format="rgb24")))
        output.mux(cover.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in (second, third, cover):
            output.mux(stream.encode(None))
    assert numbers_seen(open_video(path).frames()) == [(0, 100), (1, 101), (2, 102)]


@pytest.mark.parametrize(("count", "stride", "step"), [(4, 1, None), (4, 2, 3), (3, 3, 2), (50, 1, None)])
def test_windows_decode_each_frame_once(tmp_path, monkeypatch, count, stride, step):
    video = open_video(write_video(tmp_path / "clip.mp4", 23))
    read = []
    frames = video.frames

    def counted(numbers=None):
        for frame in frames(numbers):
            read.append(frame.number)
            yield frame

    monkeypatch.setattr(video, "frames", counted)
    shown = [[read_number(frame.image) for frame in window] for window in video.windows(count, stride, step)]
    assert shown == [list(window) for window in windows(23, count, stride, step)]
    assert read == sorted(set(read))


def test_windows_hold_no_more_than_they_show(tmp_path):
    """Each frame is freed when the last window that shows it has passed."""
    video = open_video(write_video(tmp_path / "clip.mp4", 60))
    seen = {}
    for window in video.windows(8, step=4):
        seen.update({frame.number: weakref.ref(frame) for frame in window})
        numbers = [frame.number for frame in window]
        assert [number for number, frame in seen.items() if frame() is not None] == numbers


def test_a_long_video_streams_in_bounded_memory(tmp_path):
    path = write_video(tmp_path / "long.mp4", 2000, codec="mpeg4", size=(120, 160))
    video = open_video(path)
    resident = 0
    for frame in video.frames():
        if frame.number % 200 == 199:
            assert read_number(frame.image) == frame.number
            resident = resident or _resident()
    assert frame.number == video.n_frames - 1 == 1999
    assert _resident() - resident < 20_000_000  # the frames have 115 MB


def _resident() -> int:
    """Memory of this process, bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def test_stopping_early_closes_the_file(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 30)
    stream = open_video(path).frames()
    next(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.close()
    path.rename(tmp_path / "moved.mp4")


def test_real_clips(data_dir):
    demo = open_video(data_dir / "samples" / "mmaction2_demo.mp4")
    assert (demo.size, demo.n_frames, demo.rate) == ((256, 340), 280, pytest.approx(28.0))
    animation = open_video(data_dir / "samples" / "v_CricketShot_g04_c01_rgb.gif")
    assert (animation.size, animation.n_frames, animation.rate) == ((224, 224), 79, pytest.approx(25.0))
    for video in (demo, animation):
        whole = {frame.number: pixels(frame.image) for frame in video.frames()}
        for frame in video.frames(uniform(video.n_frames, 7)):
            assert np.array_equal(pixels(frame.image), whole[frame.number])
