"""Pictures in a row as MP4 or GIF: shown when they should be, marked as mmexplain's within their first bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmexplain.errors import InputError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

MARK = "mmexplain"

ENCODERS = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libopenh264": {"qmin": "18", "qmax": "30"},
    "mpeg4": {"qmin": "2", "qmax": "5"},
}
"""FFmpeg's encoders that are tried, with their options. Browsers play H.264, what the first two write."""

# 24, 25, 30, 50 and 60 frames a second, and milliseconds, are whole numbers of these; MPEG-4 has room for 65535.
_TICKS = 60_000
_SEEK_EVERY = 50  # frames: players jump to any of them quickly
_BT709 = 1
_LIMITED = 1

# Browsers slow frames down that ask for less than 20 ms.
_SHORTEST = 2
_SAMPLES = 24


def write_mp4(path: Path, pictures: Iterable[Image.Image], times: Sequence[float], end: float) -> None:
    """Write a video, H.264 where FFmpeg has an encoder for it, one picture in memory at a time.

    Args:
        path: whatever its suffix, it becomes an MP4.
        pictures: RGB, of one size, both sides even.
        times: when each is shown, seconds, increasing; any intervals.
        end: when the last one's time is over, seconds.

    Raises:
        InputError: this build of FFmpeg has no encoder that is known.
        OSError: the system refused.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

    ticks = [round((time - times[0]) * _TICKS) for time in (*times, end)]
    rate = Fraction(len(times) / max(end - times[0], 1e-3)).limit_denominator(1001)
    # The index goes before the pictures: playing begins at once, and the mark is found at the start.
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = MARK
        reformatter = VideoReformatter()
        stream: VideoStream | None = None
        for picture, (start, stop) in zip(pictures, pairwise(ticks), strict=True):
            stream = stream or _stream(container, picture.size, rate)
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.pts, frame.time_base, frame.duration = start, Fraction(1, _TICKS), stop - start
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))


def _stream(container: OutputContainer, size: tuple[int, int], rate: Fraction) -> VideoStream:
    from av.codec.context import Flags

    name = encoder()
    stream = cast("VideoStream", container.add_stream(name, rate=rate, options=dict(ENCODERS[name])))
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    stream.time_base = Fraction(1, _TICKS)
    codec = stream.codec_context
    codec.time_base, codec.gop_size = stream.time_base, _SEEK_EVERY
    codec.flags |= Flags.frame_duration  # the last frame's is written as it is
    codec.max_b_frames = 0  # with them, the file needs an edit list, which not all players heed
    codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
    codec.color_range = _LIMITED
    # A track's name stands before its index, which grows with the video; the file's own comment stands behind it.
    stream.metadata["handler_name"] = MARK
    return stream


def encoder() -> str:
    """The first of :data:`ENCODERS` that this build of FFmpeg has.

    Raises:
        InputError: it has none.
    """
    import av

    for name in ENCODERS:
        if name in av.codecs_available:
            return name
    raise InputError("this build of FFmpeg can encode neither H.264 nor MPEG-4; save as .gif instead")


def write_gif(path: Path, pictures: Iterable[Image.Image], times: Sequence[float], end: float) -> None:
    """Write an animation that repeats for ever; arguments as of :func:`write_mp4`, but all pictures are held in memory.

    All pictures share one palette, so that still parts stand still, and are dithered by a fixed pattern (Bayer's), so
    that the heat is not banded and what does not move does not crawl.

    Raises:
        OSError: the system refused.
    """
    held = list(pictures)
    palette = _palette(held)
    pattern = _bayer(held[0].height, held[0].width)
    stops = [round((time - times[0]) * 100) for time in (*times, end)]
    lasting = [10 * max(_SHORTEST, stop - start) for start, stop in pairwise(stops)]
    first, *rest = (_dithered(picture, palette, pattern) for picture in held)
    first.save(
        path, "GIF", save_all=True, append_images=rest, duration=lasting, loop=0, comment=MARK.encode(), optimize=False
    )  # fmt: skip


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """256 colours for all pictures, by median cut refined by k-means. Colours count by the square root of how common
    they are, so that a small hot spot gets colours of its own."""
    places = np.unique(np.linspace(0, len(pictures) - 1, _SAMPLES).round().astype(int))
    pixels = np.concatenate([np.asarray(pictures[place])[::2, ::2].reshape(-1, 3) for place in places])
    codes = (pixels >> 3).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    _, kinds, counts = np.unique(codes, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(kinds, pixels[:, channel]) / counts for channel in range(3)], axis=1)
    sample = np.repeat(means.round().astype(np.uint8), np.sqrt(counts).round().astype(int), axis=0)
    return Image.fromarray(sample[None]).quantize(256, Image.Quantize.MEDIANCUT, kmeans=2)


def _dithered(picture: Image.Image, palette: Image.Image, pattern: NDArray[np.int16]) -> Image.Image:
    shifted = np.clip(np.asarray(picture).astype(np.int16) + pattern[..., None], 0, 255).astype(np.uint8)
    return Image.fromarray(shifted).quantize(palette=palette, dither=Image.Dither.NONE)


def _bayer(height: int, width: int, strength: float = 20.0) -> NDArray[np.int16]:
    """Bayer's ordered dither of 8 x 8 thresholds (1973), from ``-strength / 2`` to ``strength / 2``."""
    pattern = np.zeros((1, 1))
    for _ in range(3):
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    levels = ((pattern + 0.5) / 64 - 0.5) * strength
    tiled = np.tile(levels, (-(-height // 8), -(-width // 8)))[:height, :width]
    return tiled.round().astype(np.int16)
