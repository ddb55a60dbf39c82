"""The frames of an explained clip as people see them: read again from its file, or those that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.picture import Picture
from mmexplain.pixels import reduced
from mmexplain.video import Video, open_video

# Mean difference of two pictures, of 255: decoding the same file and reducing its frames in the same way gives the same
# pixels, but for what another build of FFmpeg rounds differently.
_ALIKE = 1.0
_COMPARED = 5


class Footage:
    """Pictures of a clip's frames, streamed: one is in memory at a time.

    The file is read again if it still is what was explained: of the same size, as long, and with the same pictures
    where the explanation keeps some (five of them, spread over the clip, are compared). Otherwise there are the kept
    frames alone.

    Args:
        explanation: of a clip.

    Attributes:
        numbers: of the frames that there are, increasing.
        times: when each of them is shown, seconds from the first frame of the file; None for a clip without a clock.
        complete: all frames of the file are there.
    """

    def __init__(self, explanation: Explanation) -> None:
        self._picture = explanation.picture
        self._video = _same_video(explanation)
        self.complete = self._video is not None
        if self._video is not None:
            self.numbers: Sequence[int] = range(self._video.n_frames)
            self.times = self._video.times
        else:
            self.numbers, self.times = kept_numbers(explanation), explanation.picture.times

    def __contains__(self, number: int) -> bool:
        return number in self.numbers

    def time(self, number: int) -> float | None:
        """When a frame is shown, seconds; None without a clock."""
        return None if self.times is None else self.times[self.numbers.index(number)]

    def stamp(self, number: int) -> str:
        """What to write beside a frame: its time, or its number where there is no clock."""
        seconds = self.time(number)
        if seconds is None:
            return f"frame {number}"
        minutes, rest = divmod(round(seconds, 2), 60)
        return f"{int(minutes)}:{rest:05.2f}" if minutes else f"{rest:.2f} s"

    def frames(self, numbers: Iterable[int], size: tuple[int, int]) -> Iterator[tuple[int, Image.Image]]:
        """``(number, RGB picture of (h, w))`` of frames that there are; the numbers must not decrease.

        Raises:
            InputError: a frame is not there, or the file can no longer be read.
        """
        wanted = list(numbers)
        for number in wanted:
            if number not in self.numbers:
                raise InputError(
                    f"frame {number} is not among the {len(self.numbers)} that the explanation keeps, and the clip "
                    f"{self._picture.source or 'given in memory'!r} cannot be read again"
                )
        if self._video is not None:
            for frame in self._video.frames(wanted):
                yield frame.number, resized(frame.image, size)
            return
        for number in wanted:
            yield number, resized(kept_picture(self._picture, self.numbers.index(number)), size)


def kept_picture(picture: Picture, place: int) -> Image.Image:
    """One of the frames that an explanation keeps, RGB, by its place among them."""
    return Image.fromarray(np.ascontiguousarray(picture.pixels[place].cpu().numpy()))


def _same_video(explanation: Explanation) -> Video | None:
    """The explained file, opened again; None if it is gone or another."""
    picture, geometry = explanation.picture, explanation.geometry
    if picture.source is None:
        return None
    try:
        video = open_video(picture.source)
        if (video.size, video.n_frames) != (geometry.original, geometry.n_frames):
            return None
        kept = kept_numbers(explanation)
        places = sorted({round(place) for place in np.linspace(0, len(kept) - 1, _COMPARED)})
        with closing(video.frames([kept[place] for place in places])) as again:
            same = all(_alike(frame.image, picture, place) for frame, place in zip(again, places, strict=True))
    except InputError:
        return None
    return video if same else None


def _alike(image: Image.Image, picture: Picture, place: int) -> bool:
    kept = kept_picture(picture, place)
    again = image.convert("RGB")
    if again.size != kept.size:
        again = reduced(again, kept.size)
    return float(np.abs(np.asarray(again, np.float32) - np.asarray(kept, np.float32)).mean()) <= _ALIKE


def kept_numbers(explanation: Explanation) -> tuple[int, ...]:
    """Numbers in the file of the frames that an explanation keeps, increasing."""
    kept = explanation.picture.frames
    return tuple(range(len(explanation.picture.pixels))) if kept is None else kept


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """``image`` as RGB of ``(h, w)``."""
    shown = image.convert("RGB")
    return shown if shown.size == size[::-1] else shown.resize(size[::-1], Image.Resampling.LANCZOS)
