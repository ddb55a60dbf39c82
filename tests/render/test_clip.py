"""A written clip shows every frame at its time with the heat where the map has it, and is whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import mmexplain.render.clip as clip_module
import mmexplain.render.movie as movie
from mmexplain.commands.output import Destination
from mmexplain.errors import InputError, TargetError
from mmexplain.explanation import MapKey
from mmexplain.picture import Picture
from mmexplain.render import overlay, save_clip
from mmexplain.render.footage import Footage
from mmexplain.tasks.clips import Album
from mmexplain.video import open_video, uniform
from tests.render.clips import clip, decoded, grey, write_video

KEY = MapKey("conv", "gradcam")
UNEVEN = (0.0, 0.04, 0.08, 0.2, 0.24, 0.5)


def explained(folder: Path, times: tuple[float, ...] = UNEVEN, **options: Any) -> Any:
    size = options.get("size", (60, 90))
    return clip(write_video(folder / "source.mkv", times, *size), times, len(times), **options)


def test_every_frame_is_shown_at_its_own_time(tmp_path: Path) -> None:
    explanation = explained(tmp_path, kept=(0, 3))
    explanation.maps[KEY][:] = 0
    frames, times = decoded(save_clip(explanation, tmp_path / "c.mp4", 0))
    assert times == pytest.approx(UNEVEN, abs=1e-4)
    inner = frames[:, 10:50, 25:65].astype(int)
    assert [int(np.median(frame)) for frame in inner] == pytest.approx([grey(n) for n in range(6)], abs=2)


def test_the_last_frame_lasts_as_long_as_most(tmp_path: Path) -> None:
    path = save_clip(explained(tmp_path), tmp_path / "c.mp4", 0)
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(0.5 + 0.04, abs=2e-3)


@pytest.mark.parametrize("cropped", [True, False])
def test_the_heat_lies_on_the_pixels_that_it_is_about(tmp_path: Path, cropped: bool) -> None:
    times = tuple(number / 25 for number in range(4))
    explanation = explained(tmp_path, times, cropped=cropped)
    with_heat, _ = decoded(save_clip(explanation, tmp_path / "c.mp4", 0))
    explanation.maps[KEY][:] = 0
    without, _ = decoded(save_clip(explanation, tmp_path / "plain.mp4", 0))
    change = np.abs(with_heat.astype(int) - without.astype(int)).sum(axis=3)[:, :60, :90]
    left, width = (15, 60) if cropped else (0, 90)
    for step in (2, 3):  # the strongest
        y, x = 10 * (1 + step + 0.5), left + width / 6 * (4 - step + 0.5)
        rows, columns = np.nonzero(change[step] > 0.8 * change[step].max())
        assert abs(rows.mean() + 0.5 - y) <= 2 and abs(columns.mean() + 0.5 - x) <= 2
    strengths = change.reshape(4, -1).max(axis=1)
    assert all(strengths[1:] > strengths[:-1] * 1.05), "the scale is the clip's, not the frame's"


def test_a_frame_of_it_is_the_overlay(tmp_path: Path) -> None:
    explanation = explained(tmp_path)
    frames, _ = decoded(save_clip(explanation, tmp_path / "c.mp4", 0))
    difference = np.abs(frames[3][:60, :90].astype(int) - np.asarray(overlay(explanation, 0, frame=3)))
    assert np.median(difference) <= 3 and difference.mean() < 8, "what compression takes"


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(200, 40, 30), (30, 180, 60), (40, 60, 210), (230, 200, 40)]
    pictures = [Image.new("RGB", (64, 48), colour) for colour in colours]
    movie.write_mp4(tmp_path / "c.mp4", pictures, [0, 0.1, 0.2, 0.3], 0.4)
    with av.open(str(tmp_path / "c.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1), "BT.709, limited"
        assert stream.codec_context.pix_fmt == "yuv420p"
        for frame, colour in zip(container.decode(stream), colours, strict=True):
            luma, blue, red = (np.frombuffer(plane, np.uint8)[0].astype(float) for plane in frame.planes)
            # ITU-R BT.709-6, items 3.2-3.5, undone by hand.
            y, cb, cr = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
            r, b = y + 1.5748 * cr, y + 1.8556 * cb
            g = (y - 0.2126 * r - 0.0722 * b) / 0.7152
            assert [round(255 * value) for value in (r, g, b)] == pytest.approx(colour, abs=4)


def test_odd_sizes_are_padded_not_stretched(tmp_path: Path) -> None:
    explanation = explained(tmp_path, size=(61, 91), cropped=False)
    explanation.maps[KEY][:] = 0
    frames, _ = decoded(save_clip(explanation, tmp_path / "c.mp4", 0))
    height, width = frames.shape[1:3]
    assert height % 2 == 0 and width == 92
    assert abs(int(frames[5, 30, 90, 0]) - grey(5)) <= 4 and frames[5, 30, 91].max() < 45


def test_targets_stand_side_by_side(tmp_path: Path) -> None:
    explanation = explained(tmp_path, cropped=False)
    frames, _ = decoded(save_clip(explanation, tmp_path / "two.mp4"))
    assert frames.shape[2] == 90 + 4 + 90
    frames, _ = decoded(save_clip(explanation, tmp_path / "both.mp4", "running", side_by_side=True))
    assert frames.shape[2] == 90 + 4 + 90
    assert np.abs(frames[5, 5:55, 5:85].astype(int) - grey(5)).max() <= 6, "the frame as it is"
    assert np.abs(frames[5, :60, 94:184].astype(int) - grey(5)).max() > 60
    frames, _ = decoded(save_clip(explanation, tmp_path / "size.mp4", 0, size=(30, 46)))
    assert frames.shape[2] == 46


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_progress_is_told_picture_by_picture(tmp_path: Path, suffix: str) -> None:
    explanation, told = explained(tmp_path), []
    footage = Footage(explanation)
    path = save_clip(
        explanation, tmp_path / f"a{suffix}", footage=footage, progress=lambda done, total: told.append((done, total))
    )
    count = len(decoded(path)[0]) if suffix == ".mp4" else Image.open(path).n_frames
    assert count > 3
    assert told == [(number, count) for number in range(1, count + 1)]
    assert path.read_bytes() == save_clip(explanation, tmp_path / f"b{suffix}").read_bytes()


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    explanation = explained(tmp_path)
    for suffix in (".mp4", ".gif"):
        one, two = (save_clip(explanation, tmp_path / f"{name}{suffix}") for name in "ab")
        assert one.read_bytes() == two.read_bytes()


def test_frames_are_read_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    original = Footage.frames

    def counted(self: Footage, *arguments: Any) -> Any:
        nonlocal read
        for item in original(self, *arguments):
            read += 1
            yield item

    def write(path: Path, pictures: Any, times: Any, end: float) -> None:
        for written, _ in enumerate(pictures, 1):
            assert read == written, "one picture is in memory"
        path.touch()

    monkeypatch.setattr(Footage, "frames", counted)
    monkeypatch.setattr(clip_module, "write_mp4", write)
    save_clip(explained(tmp_path), tmp_path / "c.mp4")
    assert read == 6


@pytest.mark.parametrize("change", ["gone", "shorter", "another"])
def test_kept_frames_are_shown_where_the_file_is_not_what_it_was(tmp_path: Path, change: str) -> None:
    explanation = explained(tmp_path, kept=(0, 2, 5))
    source = tmp_path / "source.mkv"
    source.unlink()
    if change == "shorter":
        write_video(source, UNEVEN[:4])
    elif change == "another":
        with av.open(str(source), "w", format="matroska") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 90, 60, "gray"
            for _ in range(6):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.full((60, 90), 250, np.uint8), format="gray"))
                )
            container.mux(stream.encode(None))
    explanation.maps[KEY][:] = 0
    frames, times = decoded(save_clip(explanation, tmp_path / "c.mp4", 0))
    assert times == pytest.approx([0.0, 0.08, 0.5], abs=1e-4)
    assert [int(np.median(frame[10:50, 25:65])) for frame in frames] == pytest.approx([40, 48, 60], abs=2)


@pytest.mark.parametrize("size", [(60, 90), (31, 46)])
def test_a_file_that_differs_in_one_kept_frame_is_not_the_one_explained(tmp_path: Path, size: tuple[int, int]) -> None:
    """A cut of the same recording: as many frames, of the same size, the first alike."""
    explanation = explained(tmp_path)
    video = open_video(explanation.picture.source)
    album = Album(video, range(6))
    album._size, album._pixels = size, torch.empty(6, *size, 3, dtype=torch.uint8)
    for frame in video.frames():
        album.see(frame)
    explanation.picture = kept = album.picture()
    assert Footage(explanation).complete
    for place in (0, 2, 5):
        changed = kept.pixels.clone()
        changed[place] = grey(place) + 3
        explanation.picture = Picture(changed, video.source, tuple(range(6)), UNEVEN)
        assert not Footage(explanation).complete


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_maps_that_say_nothing_change_no_frame(tmp_path: Path, value: float) -> None:
    explanation = explained(tmp_path, cropped=False)
    explanation.maps[KEY][:] = value
    frames, _ = decoded(save_clip(explanation, tmp_path / "c.mp4", 0))
    assert np.abs(frames[4, 2:58, 2:88].astype(int) - grey(4)).max() <= 6


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_one_frame_and_no_clock(tmp_path: Path, suffix: str) -> None:
    path = save_clip(clip(None, None, 1), tmp_path / f"one{suffix}", 0)
    if suffix == ".gif":
        Image.open(path).verify()
    else:
        assert decoded(path)[1] == [0.0]
    path = save_clip(clip(None, None, 5), tmp_path / f"five{suffix}", 0)
    if suffix == ".mp4":
        assert decoded(path)[1] == pytest.approx([number / 25 for number in range(5)], abs=1e-4)


def test_what_cannot_be_written_is_told_in_one_line(tmp_path: Path, make: Any) -> None:
    explanation = explained(tmp_path)
    for path, options, error, message in [
        ("c.avi", {}, InputError, "cannot write a clip as '.avi'; use .mp4 or .gif"),
        ("no/c.mp4", {}, InputError, "cannot write .*no/c.mp4.*[Nn]o such file"),
        ("c.mp4", {"targets": "jmping"}, TargetError, "'jmping' is not among"),
        ("c.mp4", {"targets": []}, InputError, "1 to 4 targets, not 0"),
        ("c.mp4", {"targets": [0] * 5}, InputError, "1 to 4 targets, not 5"),
        ("c.mp4", {"alpha": 2}, InputError, "opacity 2"),
    ]:
        with pytest.raises(error, match=message):
            save_clip(explanation, tmp_path / path, **options)
    with pytest.raises(InputError, match=r"cannot write a photo as '\.mp4'"):
        save_clip(make(), tmp_path / "c.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["source.mkv"]


def test_the_clip_itself_is_not_written_over(tmp_path: Path) -> None:
    explanation = explained(tmp_path)
    source = (tmp_path / "source.mkv").rename(tmp_path / "source.mp4")
    explanation.picture = type(explanation.picture)(explanation.picture.pixels, str(source), (0, 1, 2, 3, 4, 5), UNEVEN)
    before = source.read_bytes()
    with pytest.raises(InputError, match="is the clip itself"):
        explanation.save(source)
    assert source.read_bytes() == before


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("reason", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, reason: Any
) -> None:
    explanation = explained(tmp_path)
    path = save_clip(explanation, tmp_path / f"c{suffix}")
    before = path.read_bytes()
    original = Footage.frames

    def interrupted(self: Footage, *arguments: Any) -> Any:
        for place, item in enumerate(original(self, *arguments)):
            if place == 3:
                raise reason
            yield item

    monkeypatch.setattr(Footage, "frames", interrupted)
    with pytest.raises((KeyboardInterrupt, InputError)):
        save_clip(explanation, path)
    assert path.read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == [path.name, "source.mkv"]


def test_without_an_encoder_for_h264(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explanation = explained(tmp_path)
    monkeypatch.setattr(movie, "ENCODERS", {"absent": {}, "mpeg4": movie.ENCODERS["mpeg4"]})
    frames, times = decoded(save_clip(explanation, tmp_path / "c.mp4", 0))
    assert len(frames) == 6 and times == pytest.approx(UNEVEN, abs=1e-4)
    monkeypatch.setattr(movie, "ENCODERS", {"absent": {}})
    with pytest.raises(InputError, match=r"neither H\.264 nor MPEG-4; save as \.gif instead"):
        save_clip(explanation, tmp_path / "d.mp4", 0)
    assert not (tmp_path / "d.mp4").exists()


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_only_our_own_clips_are_written_over(tmp_path: Path, suffix: str) -> None:
    explanation, out = explained(tmp_path), tmp_path / f"c{suffix}"
    for _ in range(2):
        Destination(str(out), explanation.picture.source, clip=True).write(explanation, [])
    head = out.read_bytes()
    assert head.index(b"mmexplain") < (head.index(b"stbl") if suffix == ".mp4" else 900), "before what grows"
    if suffix == ".mp4":
        write_video(out, UNEVEN)
    else:
        Image.new("L", (8, 8)).save(out)
    with pytest.raises(InputError, match="not from mmexplain"):
        Destination(str(out), None, clip=True)
    with pytest.raises(InputError, match=r"should end in .html, .png, .pdf, .svg, .safetensors, or"):
        Destination(str(out), None)


def test_a_folder_holds_a_clip_for_every_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explanation = explained(tmp_path)
    monkeypatch.setattr("mmexplain.render.save_report", lambda explanations, path: path.write_text("mmexplain"))
    opened: list[str] = []
    monkeypatch.setattr(
        "mmexplain.render.footage.open_video", lambda source: opened.append(source) or open_video(source)
    )
    written: list[str] = []
    said: list[str] = []
    Destination(f"{tmp_path}/out/", explanation.picture.source, clip=True).write(explanation, written, said.append)
    assert said[5:7] == ["writing 00_jumping.mp4: 6 of 6 pictures", "writing 01_running.mp4: 1 of 6 pictures"]
    assert len(opened) == 2, "for the film strip, and once for all clips"
    names = ["report.html", "filmstrip.png", "00_jumping.mp4", "01_running.mp4", "explanation.safetensors"]
    assert [Path(path).name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    frames, _ = decoded(tmp_path / "out" / names[3])
    assert frames.shape[0] == 6 and frames.shape[2] == 90
    frames = tmp_path / "frames"
    frames.mkdir()
    with pytest.raises(InputError, match="the clip's own folder"):
        Destination(str(frames), str(frames), clip=True)


def test_a_real_clip_keeps_every_frame_and_its_time(tmp_path: Path, data_dir: Path) -> None:
    video = open_video(data_dir / "samples" / "mmaction2_demo.mp4")
    taken = uniform(video.n_frames, 16)
    explanation = clip(video.source, None, video.n_frames, taken=taken, kept=(0,), size=video.size)
    first = next(video.frames([0])).image
    explanation.picture = Picture(torch.from_numpy(np.array(first))[None], video.source, (0,), (0.0,))
    frames, times = decoded(save_clip(explanation, tmp_path / "c.mp4", 0, size=(64, 86)))
    assert len(frames) == video.n_frames and times == pytest.approx(video.times, abs=1e-4)
    # The frames before the first and after the last that the model saw are veiled, those between are not.
    inner = np.s_[10:50, 20:60]
    source = {
        frame.number: np.asarray(frame.image.resize((86, 64)))[inner].astype(int) for frame in video.frames([0, 140])
    }
    changes = {number: float(np.abs(frames[number][inner] - picture).mean()) for number, picture in source.items()}
    assert changes[0] > 30 > changes[140]
