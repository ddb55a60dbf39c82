"""Reading video safely: whatever the source, upright RGB frames come out, or one line that says what is wrong.

Also the ways to choose frames: :func:`uniform`, :func:`dense`, :func:`windows`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.io import Source as Picture
from mmexplain.paths import check_path
from mmexplain.video.sampling import dense, uniform, windows
from mmexplain.video.stills import Animation, Clip, Stills, folder
from mmexplain.video.video import Frame, Video

__all__ = ["Frame", "Source", "Video", "dense", "open_video", "uniform", "windows"]

Source = str | os.PathLike[str] | Sequence[Picture] | NDArray[Any] | Tensor


def open_video(source: Source) -> Video:
    """Open a video; nothing but what counting its frames needs is decoded yet.

    Args:
        source: a video file (MP4, MKV, WebM, AVI, MOV and whatever else FFmpeg decodes); an animated GIF, WebP, PNG or
            AVIF; a folder of images, in natural order (``frame2`` before ``frame10``); a list of photos as
            :func:`~mmexplain.io.load_image` takes them; an array or tensor ``[T, H, W, 3]`` or ``[T, 3, H, W]``, uint8
            or floating point from 0 to 1. Folders, lists, arrays and tensors have no clock.

    Raises:
        InputError: it cannot be read; the message quotes the source and says how to mend it.
    """
    match source:
        case np.ndarray() | Tensor():
            return Clip(source)
        case list() | tuple():
            return Stills(source)
        case str() | os.PathLike():
            name = os.fspath(source)
            if os.path.isdir(name):
                return Stills(folder(name), name)
            check_path(name, "video")
            video = open_file(name)
            if video.truncated:
                warnings.warn(f"{name!r} is cut short: {video.n_frames} frames of it can be decoded", stacklevel=2)
            return video
    kind = type(source).__name__
    raise InputError(f"a video is a path, a folder, a list of photos, an array or a tensor, not {kind}: {source!r:.80}")


def open_file(name: str) -> Video:
    """Open a video file or an animated image that exists; that it is cut short is left to the caller to tell.

    Raises:
        InputError: it cannot be read.
    """
    animation = Animation.open(name)
    if animation is not None:
        return animation
    from mmexplain.video.file import VideoFile  # here, because loading FFmpeg takes a tenth of a second

    return VideoFile(name)
