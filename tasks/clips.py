"""Tasks that look at videos: which frames their model is shown, and those frames as its input."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.geometry import Geometry, fit
from mmexplain.picture import Picture
from mmexplain.pixels import reduced
from mmexplain.preprocess import PhotoPreprocess
from mmexplain.tasks.base import Batch, PhotoTask
from mmexplain.video import Frame, Video, dense, open_video, uniform, windows

Sampling = Literal["auto", "dense", "uniform", "windows"]
Window = tuple[int, ...]

SHOWN_BYTES = 64 * 2**20
"""Memory that the frames kept for display may take."""

SHOWN_FRAMES = 240
SHOWN_SIDE = 1600


def choose_windows(
    n_frames: int, frames: int, stride: int = 1, sampling: Sampling = "auto", step: int | None = None
) -> list[Window]:
    """The numbers of the frames that a model is shown at a time.

    Args:
        n_frames: of the video.
        frames: that the model sees at once.
        stride: from one of them to the next.
        sampling: "dense": one window in the middle; "uniform": one window spread over the whole video, whatever the
            stride; "windows": as many as cover it; "auto": as "windows", which for a short video is one.
        step: from the start of one of several windows to that of the next; no overlap if None.

    Raises:
        InputError: a number is below 1, or there is no such sampling.
    """
    if sampling not in get_args(Sampling):
        raise InputError(f"unknown sampling {sampling!r}; there are: {', '.join(get_args(Sampling))}")
    if step is not None and sampling in ("dense", "uniform"):
        raise InputError(f"step={step} is between windows, and sampling {sampling!r} takes one; use 'windows'")
    if sampling == "dense":
        return [dense(n_frames, frames, stride)]
    if sampling == "uniform":
        return [uniform(n_frames, frames)]
    return windows(n_frames, frames, stride, step)


def stream_windows(
    video: Video, numbers: Sequence[Window], preprocess: PhotoPreprocess, see: Callable[[Frame], None] | None = None
) -> Generator[tuple[Tensor, Geometry]]:
    """Each window as ``[3, T, h, w]`` and how it lies over the video. Every frame is decoded and prepared once; what
    is in memory is one window, and what the next one shares with it.

    Args:
        video: is read once.
        numbers: of each window's frames, which never decrease; nor do the windows' first and last ones.
        preprocess: frame → tensor, with its geometry.
        see: called with each frame.
    """
    held: dict[int, tuple[Tensor, Geometry]] = {}
    with closing(video.frames(sorted({number for window in numbers for number in window}))) as stream:
        for window in numbers:
            held = {number: prepared for number, prepared in held.items() if number >= window[0]}
            while window[-1] not in held:
                frame = next(stream)
                held[frame.number] = preprocess(frame.photo)
                if see is not None:
                    see(frame)
            clip = torch.stack([held[number][0] for number in window], 1)
            yield clip, held[window[0]][1].sample(window, video.n_frames)


class Album:
    """Frames of a video that are kept for display: evenly thinned and reduced, so that they take at most
    :data:`SHOWN_BYTES`.

    Args:
        video: that they come from.
        numbers: of the frames that the model is shown, increasing.
    """

    def __init__(self, video: Video, numbers: Sequence[int]) -> None:
        count = min(len(numbers), SHOWN_FRAMES)
        self._video = video
        self._wanted = [numbers[len(numbers) * (2 * place + 1) // (2 * count)] for place in range(count)]
        height, width = fit(video.size, SHOWN_SIDE)
        scale = min(1.0, (SHOWN_BYTES / (3 * count * height * width)) ** 0.5)
        self._size = max(1, int(height * scale)), max(1, int(width * scale))
        self._pixels = torch.empty(count, *self._size, 3, dtype=torch.uint8)
        self._places = {number: place for place, number in enumerate(self._wanted)}

    def see(self, frame: Frame) -> None:
        """Keep the frame if it is to be shown."""
        if frame.number in self._places:
            height, width = self._size
            image = frame.image
            if image.size != (width, height):
                image = reduced(image, (width, height))
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            self._pixels[self._places[frame.number]] = pixels.view(height, width, 3)

    def picture(self) -> Picture:
        """What was kept."""
        times = self._video.times
        shown = None if times is None else tuple(times[number] for number in self._wanted)
        return Picture(self._pixels, self._video.source, tuple(self._wanted), shown)


class ClipTask(PhotoTask):
    """A task that looks at videos, a window of T frames at a time. Each frame is prepared as a photo is.

    Attributes:
        frames: T.
        stride: from one frame of a window to the next, where a rate is not known.
        frame_rate: frames a second that the model sees; None if it does not matter or is not known.
    """

    frames: int
    stride: int
    frame_rate: float | None = None

    def stride_for(self, video: Video) -> int:
        """The stride that brings a video's frames to the model's frame rate, or nearest to it: at least 1."""
        if self.frame_rate is None or video.rate is None:
            return self.stride
        return max(1, round(video.rate / self.frame_rate))

    def prepare(self, videos: Any) -> Batch:
        """One video or a list of them (see :func:`mmexplain.video.open_video`) → a batch whose input ``clip`` is
        ``[B, 3, T, h, w]``: of each the window in its middle.

        Raises:
            InputError: a video that cannot be read, or videos that become inputs of different sizes.
        """
        found = all_opened(videos)
        parts = [
            self.prepare_window(video, dense(video.n_frames, self.frames, self.stride_for(video))) for video in found
        ]
        clips = [part.inputs["clip"] for part in parts]
        for clip, video in zip(clips, found, strict=True):
            if clip.shape != clips[0].shape:
                raise InputError(
                    f"{video} becomes an input of {_pixels(clip)} but {found[0]} one of {_pixels(clips[0])}: explain "
                    "them one by one, or let the preprocessing crop or squash to one size"
                )
        return Batch(
            {"clip": torch.cat(clips)},
            geometries=[part.geometries[0] for part in parts],
            pictures=[part.pictures[0] for part in parts],
        )

    def prepare_window(self, video: Video, window: Window) -> Batch:
        """The frames of a video with these numbers, which never decrease, as a batch of one clip."""
        album = Album(video, sorted(set(window)))
        clip, geometry = next(stream_windows(video, [window], self.preprocess, album.see))
        return Batch({"clip": clip[None].to(self.like)}, geometries=[geometry], pictures=[album.picture()])

    def empty(self) -> Tensor:
        """An empty clip ``[1, 3, T, h, w]``, to see how the model runs."""
        return torch.zeros(1, 3, self.frames, *self.preprocess.size).to(self.like)


def all_opened(videos: Any) -> list[Video]:
    """One video or a list of them, each open already or whatever :func:`mmexplain.video.open_video` takes.

    Raises:
        InputError: there is none, one cannot be read, or the list holds the frames of one video.
    """
    listed = list(videos) if isinstance(videos, (list, tuple)) else [videos]
    if not listed:
        raise InputError("no video was given")
    if isinstance(videos, (list, tuple)) and any(map(_is_photo, listed)):
        raise InputError(
            "a list is several videos, and this one holds photos: if they are the frames of one video, give "
            "mmexplain.video.open_video(frames)"
        )
    return [video if isinstance(video, Video) else open_video(video) for video in listed]


def _is_photo(item: Any) -> bool:
    return isinstance(item, Image) or (isinstance(item, (np.ndarray, Tensor)) and item.ndim < 4)


def _pixels(clip: Tensor) -> str:
    height, width = clip.shape[-2:]
    return f"{width}×{height} pixels"
