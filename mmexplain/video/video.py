"""A video, wherever it comes from: how large and how long it is, and its frames as a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from PIL import Image

from mmexplain.errors import InputError
from mmexplain.geometry import Size
from mmexplain.io import Photo
from mmexplain.video.sampling import windows

MAX_DECODED = 9_000_000
"""Frames with more pixels (4K has 8.8 million) are held at a half, a third, ... of their size."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        number: counted from 0, in the order of display.
        time: seconds from the first frame, None where the source has no clock.
        image: upright RGB, which is what :class:`~mmexplain.preprocess.Preprocess` takes; frames of more than
            :data:`MAX_DECODED` pixels are held at reduced size.
        original: ``(H, W)`` of the upright original, pixels.
    """

    number: int
    time: float | None
    image: Image.Image
    original: Size

    @property
    def photo(self) -> Photo:
        """The frame as a photo, which is what preprocessing takes where the original's pixels are to be found again."""
        return Photo(self.image, self.original)


class Video(ABC):
    """A video that can be read again and again; opened by :func:`~mmexplain.video.open_video`.

    Attributes:
        source: the path it came from, None for one given in memory.
        size: ``(H, W)`` of the upright original, pixels as they are stored: rotation is applied, a sample aspect
            ratio is not, as datasets and models of the field have it.
        n_frames: how many frames there are, counted and not estimated.
        rate: frames per second on average, None where the source has no clock or only one frame.
        times: of every frame, seconds from the first; None where the source has no clock.
        truncated: the file ends before its announced end.
    """

    def __init__(
        self,
        source: str | None,
        size: Size,
        n_frames: int,
        times: tuple[float, ...] | None = None,
        truncated: bool = False,
    ) -> None:
        self.source = source
        self.size = size
        self.n_frames = n_frames
        self.times = times
        self.truncated = truncated
        self.rate = (n_frames - 1) / times[-1] if times and times[-1] > 0 else None

    def __repr__(self) -> str:
        height, width = self.size
        rate = f", {self.rate:.4g} frames/s" if self.rate else ""
        return f"<Video {self.source or 'in memory'}: {self.n_frames} frames of {width}×{height}{rate}>"

    def frames(self, numbers: Iterable[int] | None = None) -> Generator[Frame]:
        """The frames one by one, in the order of display; one is held in memory at a time.

        A frame that is damaged beyond decoding shows the one before it, as players do, and a warning says so.

        Args:
            numbers: of the frames wanted, never decreasing; a number that repeats yields the same frame again,
                decoded once. All by default.

        Raises:
            InputError: a number is out of range or lower than the one before it, or the source can no longer be read.
        """
        wanted = list(range(self.n_frames) if numbers is None else numbers)
        for number, before in zip(wanted, [0, *wanted], strict=False):
            if not 0 <= number < self.n_frames:
                raise InputError(f"there is no frame {number}: the video has {self.n_frames}, counted from 0")
            if number < before:
                raise InputError(f"frame numbers must not decrease, got {number} after {before}")
        return self._stream(wanted)

    def windows(self, count: int, stride: int = 1, step: int | None = None) -> Generator[list[Frame]]:
        """The frames of each of :func:`~mmexplain.video.windows`, every frame decoded once.

        What is in memory is one window and, where windows overlap, the frames between that the next one needs.

        Raises:
            InputError: a number is below 1, or the source can no longer be read.
        """
        return self._windows(windows(self.n_frames, count, stride, step))

    def _windows(self, numbers: list[tuple[int, ...]]) -> Generator[list[Frame]]:
        held: dict[int, Frame] = {}
        with closing(self.frames(sorted({number for window in numbers for number in window}))) as stream:
            for window in numbers:
                held = {number: frame for number, frame in held.items() if number >= window[0]}
                while window[-1] not in held:
                    frame = next(stream)
                    held[frame.number] = frame
                yield [held[number] for number in window]

    def _stream(self, wanted: list[int]) -> Generator[Frame]:
        frame: Frame | None = None
        with closing(self._images(list(dict.fromkeys(wanted)))) as images:
            for number in wanted:
                if frame is None or frame.number != number:
                    time = None if self.times is None else self.times[number]
                    frame = Frame(number, time, next(images), self.size)
                yield frame

    @abstractmethod
    def _images(self, numbers: Sequence[int]) -> Generator[Image.Image]:
        """One upright RGB image for each of the numbers, which increase and exist."""
