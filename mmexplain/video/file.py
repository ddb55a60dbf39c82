"""Video files, decoded by FFmpeg through PyAV: every frame is found by its timestamp, in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import cast

import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image
from PIL.Image import Transpose

from mmexplain.errors import InputError
from mmexplain.io import MAX_PIXELS
from mmexplain.pixels import reduce_to_rgb
from mmexplain.video.container import decode, opened
from mmexplain.video.index import Index, read_index
from mmexplain.video.video import MAX_DECODED, Video

# Seeking costs about as much as decoding this many frames.
_SEEK_COST = 8


class VideoFile(Video):
    """A file that FFmpeg decodes; of several video streams the default one, cover art is none."""

    def __init__(self, name: str) -> None:
        index = read_index(name)
        first = _first(name)
        if first is None:
            raise InputError(f"{name!r} holds no frame that can be decoded; copy or download it again")
        if not index.decoded and index.stamps is not None and (first.pts is None or index.stamps.get(first.pts) != 0):
            index = read_index(name, decoding=True)
        if first.width * first.height > MAX_PIXELS:
            megapixels = first.width * first.height / 1e6
            raise InputError(f"{name!r} has {megapixels:,.0f} megapixels a frame; make it smaller")
        self._index = index
        self._stored = first.width, first.height
        # Once for all frames, which have it from the container: to ask a frame makes a cycle that keeps it in memory.
        swapped, self._turns = _placing(first)
        size = (first.width, first.height) if swapped else (first.height, first.width)
        super().__init__(name, size, index.n_frames, index.times, index.truncated)

    def _images(self, numbers: Sequence[int]) -> Generator[Image.Image]:
        assert self.source is not None
        lost = False
        painter = _Painter(self._stored, self._turns)
        with closing(_Decoder(self.source, self._index)) as decoder:
            for number in numbers:
                found, frame = decoder.at(number)
                if found != number and not lost:
                    lost = True
                    warnings.warn(
                        f"{self.source!r} is damaged at frame {number}; frame {found} stands in", stacklevel=4
                    )
                yield painter.image(frame)


class _Decoder:
    """Finds frames whose numbers increase: decodes on, or begins at a later key frame where that is faster."""

    def __init__(self, name: str, index: Index) -> None:
        self._name, self._index = name, index
        self._exits = ExitStack()
        self._held: tuple[int, VideoFrame] | None
        self._next: tuple[int, VideoFrame] | None
        self._seeks = index.stamps is not None
        self._threads = not index.decoded
        self._begin()

    def close(self) -> None:
        self._exits.close()

    def at(self, number: int) -> tuple[int, VideoFrame]:
        """Frame ``number`` and that number; where it cannot be decoded, the nearest before it, or else after it.

        Raises:
            InputError: nothing can be decoded.
        """
        try:
            return self._find(number)
        except FFmpegError:
            # Threads decode several frames at a time, and a damaged one takes sound ones with it.
            self._threads = False
            self._begin()
            return self._find(number)

    def _find(self, number: int) -> tuple[int, VideoFrame]:
        entry = self._index.entry(number) if self._seeks else None
        reached = self._held[0] if self._held else -1
        if entry is not None and entry[0] > reached + _SEEK_COST:
            self._begin(entry[1])
        while self._held is None or self._held[0] < number:
            following = self._next or next(self._frames, None)
            if following is None or following[0] > number:
                self._next = following
                break
            self._held, self._next = following, None
        if self._held is None and self._sought:
            # The container's own index led too far: from here on every frame is decoded.
            self._seeks = False
            self._begin()
            return self._find(number)
        found = self._held or self._next
        if found is None:
            raise InputError(f"{self._name!r} can no longer be read; has it changed?")
        return found

    def _begin(self, entry: int | None = None) -> None:
        """Decode from the start, or from the key frame at ``entry``."""
        if entry is None:
            self._exits.close()
            opening = opened(self._name, self._threads)
            self._container, self._stream = self._exits.enter_context(opening)
        else:
            self._container.seek(entry, stream=self._stream)
        self._sought = entry is not None
        self._held = self._next = None
        self._frames = self._numbered()

    def _numbered(self) -> Iterator[tuple[int, VideoFrame]]:
        stamps = self._index.stamps
        for count, frame in enumerate(decode(self._container, self._stream, strict=self._threads)):
            number = count if stamps is None else stamps.get(frame.pts) if frame.pts is not None else None
            if number is not None:
                yield number, frame


def _first(name: str) -> VideoFrame | None:
    with opened(name, threads=False) as (container, stream):
        return next(decode(container, stream), None)


class _Painter:
    """Makes upright RGB images of decoded frames; those of a stream that changes its size get the first one's."""

    def __init__(self, stored: tuple[int, int], turns: Sequence[Transpose]) -> None:
        self._stored, self._turns = stored, turns
        # One for all frames: `frame.reformat` sets up the conversion, and its threads, anew for each.
        self._reformatter = VideoReformatter()

    def image(self, frame: VideoFrame) -> Image.Image:
        clear = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
        pixels = self._reformatter.reformat(frame, *self._stored, "rgba" if clear else "rgb24", threads=1)
        image = reduce_to_rgb(Image.fromarray(pixels.to_ndarray()), MAX_DECODED)
        for turn in self._turns:
            image = image.transpose(turn)
        return image


def _placing(frame: VideoFrame) -> tuple[bool, list[Transpose]]:
    """Whether the display matrix swaps the axes, and the turns that set the frame upright.

    Of the matrix ``[[a, b, u], [c, d, v], [x, y, w]]`` a stored point (p, q) is shown at (a·p + c·q, b·p + d·q), but
    for a shift (ISO/IEC 14496-12, 6.2.2). Phones write multiples of 90°, mirrored or not; others are taken as the
    nearest of them.
    """
    matrix = cast(SideDataContainer, frame.side_data).get("DISPLAYMATRIX")
    if matrix is None:
        return False, []
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].tolist()
    swapped = abs(b) + abs(c) > abs(a) + abs(d)
    turns = [Transpose.TRANSPOSE] if swapped else []
    if (c if swapped else a) < 0:
        turns.append(Transpose.FLIP_LEFT_RIGHT)
    if (b if swapped else d) < 0:
        turns.append(Transpose.FLIP_TOP_BOTTOM)
    return swapped, turns
