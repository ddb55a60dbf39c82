"""Files that are no video, or a damaged one: one clear line, or the frames that there are."""

import os
import warnings
import wave

import av
import numpy as np
import pytest
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.video import open_video
from tests.videos import SIZE, SQUARE, numbered, read_number, write_video

N = 48


@pytest.fixture
def clip(tmp_path):
    """An MP4 whose index lies before the pictures."""
    return write_video(tmp_path / "clip.mp4", N, b_frames=2, container={"movflags": "faststart"})


def noisy(n_frames):
    """Numbered frames that take some room in a file."""
    random = np.random.default_rng(0)
    frames = [numbered(number) for number in range(n_frames)]
    for pixels in frames:
        pixels[SQUARE * 2 :] = random.integers(0, 255, pixels[SQUARE * 2 :].shape)
    return frames


def refusal(source):
    """The message of the refusal, which is one line."""
    with pytest.raises(InputError) as caught:
        list(open_video(source).frames())
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("clip.mp4", b"", "is empty"),
        ("clip.mp4", b"hello world\n" * 50, "not a video that can be read; convert it to MP4"),
        ("notes.txt", b"hello world\n" * 50, "not a video"),  # which FFmpeg would show as a film of text
        ("clip.yuv", bytes(10_000), "not a video"),  # and this as raw pixels
        ("clip.mp4", b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        ("clip.mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
        ("clip.mp4", bytes(5000), "not a video"),
        ("clip.mp4", np.random.default_rng(0).bytes(5000), "not a video"),
        ("clip.mp4", b"\0\0\0\x20ftypisom" + bytes(400), "index (the moov atom) cannot be read"),
        ("clip.mkv", b"\x1aE\xdf\xa3" + bytes(400), "cut short or damaged"),
        ("photo.heic", b"\0\0\0\x20ftypheic" + bytes(400), "a photo"),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nclip.mp4\n#EXT-X-ENDLIST\n", "a playlist"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile clip.mp4\n", "a playlist"),
    ],
)
def test_not_a_video(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path)
    assert expected in message and repr(str(path)) in message


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp"])
def test_a_photo(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(numbered(1)).save(path)
    assert "a photo, not a video" in refusal(path) and "use caption" in refusal(path)
    renamed = path.rename(tmp_path / "clip.mp4")
    assert "a photo, not a video" in refusal(renamed)


def test_paths(tmp_path, clip):
    assert "no such file" in refusal(tmp_path / "clop.mp4") and "'clip.mp4'" in refusal(tmp_path / "clop.mp4")
    assert "no video was given" in refusal("")
    assert "download the video first" in refusal("https://example.org/clip.mp4")
    assert "not a regular file" in refusal(os.devnull)
    assert "not int: 3" in refusal(3)


def test_an_odd_name_is_only_a_name(tmp_path, clip):
    """FFmpeg reads ``subfile:``, ``%d`` and the like in names as instructions."""
    for name in ("a:b.mp4", "frame%03d.mp4", "- clip – naïve #1.mp4", "concat:x|y.mp4"):
        assert open_video(clip.rename(tmp_path / name)).n_frames == N
        clip = tmp_path / name


@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.ffconcat", "frames.txt"])
def test_what_a_file_names_is_not_opened(tmp_path, clip, monkeypatch, name):
    """Playlists of videos that lie beside them: FFmpeg could open all of them, and is not let to."""
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{clip.name}\n#EXT-X-ENDLIST\n"
    clip = clip.rename(tmp_path / "other.mp4")
    began, original = [], av.open

    def spied(*arguments, **options):
        container = original(*arguments, **options)
        began.append(container.format.name)
        return container

    monkeypatch.setattr(av, "open", spied)
    for content in (f"ffconcat version 1.0\nfile {clip.name}\n", hls.replace("clip.mp4", clip.name)):
        path = tmp_path / name
        path.write_text(content)
        assert "a playlist, not a video" in refusal(path)
    assert not began
    assert open_video(clip).n_frames == N and began


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {}), ("mov", {}), ("mkv", {}), ("ts", {}), ("flv", {}), ("avi", {"codec": "mpeg4"}),
        ("wmv", {"codec": "wmv2"}), ("mpg", {"codec": "mpeg2video"}),
        ("webm", {"codec": "libvpx-vp9"}), ("ivf", {"codec": "libvpx"}), ("nut", {"codec": "ffv1"}),
        ("mxf", {"codec": "mpeg2video"}), ("h264", {}), ("m4v", {"codec": "mpeg4"}),
        ("y4m", {"codec": "wrapped_avframe"}), ("3gp", {}),
    ],
)  # fmt: skip
def test_formats_of_videos_are_read(tmp_path, suffix, options):
    try:
        path = write_video(tmp_path / f"clip.{suffix}", 12, b_frames=0, **options)
    except (ValueError, av.error.FFmpegError) as error:
        pytest.skip(f"this FFmpeg does not write it: {error}")
    assert open_video(path).n_frames == 12


def test_only_audio(tmp_path):
    path = tmp_path / "song.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 44100, 1024, "NONE", ""))
        sound.writeframes(bytes(2048))
    assert "has no video, only audio" in refusal(path)
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    assert "has no video, only audio" in refusal(path)


def test_an_index_that_was_never_written(clip):
    """A recording that was broken off: the pictures are there, the moov atom at the end is not."""
    plain = write_video(clip.with_name("plain.mp4"), N, frames=noisy(N))
    content = plain.read_bytes()
    for end in (len(content) // 2, -100):
        plain.write_bytes(content[:end])
        assert "copy or download it again" in refusal(plain)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {"container": {"movflags": "faststart"}}),
        ("mp4", {"container": {"movflags": "frag_keyframe+empty_moov"}}),
        ("mkv", {}),
        ("avi", {"codec": "mpeg4"}),
    ],
)
@pytest.mark.parametrize("kept", [0.6, 0.7])
def test_cut_in_the_middle(tmp_path, suffix, options, kept):
    path = write_video(tmp_path / f"clip.{suffix}", N, b_frames=2, frames=noisy(N), **options)
    whole = [np.asarray(frame.image) for frame in open_video(path).frames()]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.warns(UserWarning, match=r"cut short: \d+ frames"):
        video = open_video(path)
    frames = list(video.frames())
    assert video.truncated and 1 <= video.n_frames == len(frames) == len(video.times) < N
    # the last frames may refer to some that are gone
    for frame in frames[:-4]:
        assert read_number(frame.image) == frame.number and np.array_equal(frame.image, whole[frame.number])


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize("place", [0.5, 0.8])
def test_damaged_in_the_middle(tmp_path, suffix, place):
    """What follows the next key frame is sound again."""
    container = {"movflags": "faststart"} if suffix == "mp4" else {}
    path = write_video(tmp_path / f"clip.{suffix}", 60, key_every=12, frames=noisy(60), container=container)
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        video = open_video(path)
        shown = [read_number(frame.image) for frame in video.frames()]
    # MP4 lists its frames; in a transport stream one that lost its head is lost without a trace
    assert len(shown) == video.n_frames and video.n_frames in ((60,) if suffix == "mp4" else range(57, 61))
    assert len(set(shown) & set(range(60))) >= 60 - 24


def test_damaged_frames_are_held(clip):
    """Packets that the decoder refuses: the frame before them stands in, a warning counts them."""
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size, packet.pts) for packet in container.demux(video=0) if packet.size]
    content = bytearray(clip.read_bytes())
    order = sorted(stamp for _, _, stamp in packets)
    lost = set()
    for position, size, stamp in packets[26:36]:  # of the third group of pictures
        content[position : position + size] = bytes(size)
        lost.add(order.index(stamp))
    clip.write_bytes(content)
    video = open_video(clip)
    assert video.n_frames == N
    with pytest.warns(UserWarning, match="damaged at frame 25; frame 24 stands in"):
        shown = [read_number(frame.image) for frame in video.frames()]
    for number, seen in enumerate(shown):
        assert seen == (max(sound for sound in range(number + 1) if sound not in lost))


def test_everything_is_damaged(clip):
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(clip.read_bytes())
    for position, size in packets:
        content[position : position + size] = bytes(size)
    clip.write_bytes(content)
    assert "no frame that can be decoded" in refusal(clip)


def test_no_frames(tmp_path):
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        output.start_encoding()
    assert "no frame" in refusal(path) or "no video" in refusal(path)


def test_frames_too_large(clip, monkeypatch):
    monkeypatch.setattr("mmexplain.video.file.MAX_PIXELS", 5000)
    assert "megapixels a frame; make it smaller" in refusal(clip)


def test_numbers(clip):
    video = open_video(clip)
    for numbers in ([N], [-1], [3, 2], [0, 1000]):
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            video.frames(numbers)


def test_a_file_that_goes_away(clip):
    video = open_video(clip)
    clip.unlink()
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        next(video.frames())


def test_nothing_is_written_to_the_terminal(clip, capfd):
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2] + os.urandom(300) + content[len(content) // 2 + 300 :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        list(open_video(clip).frames())
    clip.write_bytes(content[:300])
    refusal(clip)
    assert capfd.readouterr() == ("", "")
