"""Videos made for the tests: every frame carries its number, written in black and white squares along its top."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

BITS, SQUARE = 12, 8
SIZE = (64, BITS * SQUARE)  # (H, W)


def numbered(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """``[H, W, 3]`` uint8: the number's bits, highest first; below them red at the left, blue at the right."""
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        pixels[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 235 * (number >> (BITS - 1 - bit) & 1)
    pixels[SQUARE:, : width // 2, 0] = 200
    pixels[SQUARE:, width // 2 :, 2] = 200
    return pixels


def read_number(image: Image.Image) -> int:
    """The number that :func:`numbered` wrote."""
    row = np.asarray(image.convert("L"))[SQUARE // 2, SQUARE // 2 : BITS * SQUARE : SQUARE]
    return int("".join("1" if value > 117 else "0" for value in row), 2)


def write_video(
    path: Path,
    n_frames: int,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = SIZE,
    stamps: Sequence[int] | None = None,
    key_every: int = 12,
    b_frames: int | None = None,
    rotation: float | None = None,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    frames: Sequence[np.ndarray] | None = None,
) -> Path:
    """Write numbered frames (or ``frames``) at 25 a second, or at ``stamps`` in milliseconds."""
    with av.open(str(path), "w", container_options=container or {}) as output:
        stream = output.add_stream(
            codec, rate=25, options=options or ({"preset": "veryfast"} if codec == "libx264" else {})
        )
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = key_every
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        for number in range(n_frames):
            pixels = numbered(number, size) if frames is None else frames[number]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.shape[2] == 3 else "rgba")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
