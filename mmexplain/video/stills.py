"""Videos that are pictures in a row: arrays, lists and folders of photos, animated images."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.geometry import Size
from mmexplain.io import MAX_PIXELS, Source, load_image
from mmexplain.pixels import reduce_to_rgb
from mmexplain.video.video import MAX_DECODED, Video

_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")

# Browsers and FFmpeg alike show frames that ask for no time, or for 10 ms, for this long.
_SHORTEST, _INSTEAD = 20, 100


class Clip(Video):
    """An array or tensor ``[T, H, W, 3]`` or ``[T, 3, H, W]``, uint8 or floating point from 0 to 1."""

    def __init__(self, values: NDArray[Any] | Tensor) -> None:
        shape = list(values.shape)
        if len(shape) != 4 or 0 in shape or 3 not in (shape[1], shape[3]):
            raise InputError(f"an array video is [T, H, W, 3] or [T, 3, H, W], got {shape}{_hint(shape)}")
        if shape[1] == shape[3]:
            raise InputError(f"{shape} is both [T, H, W, 3] and [T, 3, H, W]; give a list of photos [H, W, 3] instead")
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.is_floating_point() else values).numpy()
        self._values = values if shape[3] == 3 else values.transpose(0, 2, 3, 1)
        if np.issubdtype(values.dtype, np.floating):
            low, high = float(values.min()), float(values.max())
            if not (low >= 0.0 and high <= 1.0):
                mend = "divide by 255" if low >= 0.0 and high <= 255.0 else "undo its normalisation"
                raise InputError(f"a floating-point video runs from 0 to 1, got {low:g} to {high:g}; {mend}")
        elif values.dtype != np.uint8:
            raise InputError(f"an array video is uint8, or floating point from 0 to 1, got {values.dtype}")
        length, height, width, _ = self._values.shape
        super().__init__(None, (height, width), length)

    def _images(self, numbers: Sequence[int]) -> Generator[Image.Image]:
        for number in numbers:
            yield load_image(self._values[number]).image


class Stills(Video):
    """Photos of one size, read one by one."""

    def __init__(self, photos: Sequence[Source], source: str | None = None) -> None:
        if not photos:
            raise InputError("no frames were given: the list is empty")
        self._photos = photos
        size = _size(photos[0])
        super().__init__(source, size, len(photos))
        for number, photo in enumerate(photos):
            self._check(number, _size(photo))

    def _images(self, numbers: Sequence[int]) -> Generator[Image.Image]:
        for number in numbers:
            photo = load_image(self._photos[number])
            self._check(number, photo.original)
            yield reduce_to_rgb(photo.image, MAX_DECODED)

    def _check(self, number: int, size: Size) -> None:
        photo = self._photos[number]
        _require_one_size(
            self.size, size, repr(os.fspath(photo)) if isinstance(photo, str | os.PathLike) else f"frame {number}"
        )


class Animation(Video):
    """An animated GIF, WebP, PNG, AVIF or the pages of a TIFF; transparent parts are laid over white."""

    def __init__(self, name: str, image: Image.Image) -> None:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(f"{name!r} has {width * height / 1e6:,.0f} megapixels a frame; make it smaller")
        announced = getattr(image, "n_frames", 1)
        durations: list[float] = []
        for number in range(announced):
            try:
                image.seek(number)
                _require_one_size((height, width), (image.height, image.width), f"page {number + 1} of {name!r}")
                image.load()
            except InputError:
                raise
            except Exception:  # damaged frames raise anything, and end the animation
                break
            durations.append(image.info.get("duration", 0))
        if not durations:
            raise InputError(f"{name!r} is cut short or damaged; copy or download it again")
        times = None if image.format == "TIFF" else _times(durations)
        super().__init__(name, (height, width), len(durations), times, len(durations) < announced)

    @classmethod
    def open(cls, name: str) -> Animation | None:
        """The animation in a file, None if it is no image.

        Raises:
            InputError: it is a photo, or it is damaged.
        """
        try:
            with Image.open(name) as image:
                if getattr(image, "n_frames", 1) > 1 and image.format in _ANIMATED:
                    return cls(name, image)
                if image.format == "MPEG":
                    return None  # a name without a decoder
        except InputError:
            raise
        except Exception:
            return None
        raise InputError(f"{name!r} is a photo, not a video: use caption, vqa or classify")

    def _images(self, numbers: Sequence[int]) -> Generator[Image.Image]:
        assert self.source is not None
        try:
            with Image.open(self.source) as image:
                for number in numbers:
                    image.seek(number)
                    _require_one_size(self.size, (image.height, image.width), f"page {number + 1} of {self.source!r}")
                    yield reduce_to_rgb(image, MAX_DECODED)
        except (OSError, EOFError, SyntaxError) as error:
            raise InputError(f"{self.source!r} can no longer be read ({error})") from None


def folder(name: str) -> list[Source]:
    """The images in a folder, numbers in their names counted as numbers; hidden files and others are passed over.

    Raises:
        InputError: there is none.
    """
    try:
        paths = [path for path in Path(name).iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise InputError(f"the folder {name!r} cannot be read ({error.strerror})") from None
    known = Image.registered_extensions()
    images: list[Path] = [path for path in paths if known.get(path.suffix.lower(), "MPEG") != "MPEG"]
    if not images:
        raise InputError(f"the folder {name!r} holds no images; give a video, or a folder of its frames")
    images.sort(key=lambda path: _natural(path.name))
    return list[Source](images)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key: runs of digits by their value. The name itself decides between ``1.png`` and ``01.png``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)] + [(0, name)]


def _require_one_size(first: Size, size: Size, name: str) -> None:
    if size != first:
        (rows, columns), (height, width) = first, size
        raise InputError(
            f"the frames of a video are of one size: the first is {columns}×{rows} pixels, {name} {width}×{height}"
        )


def _size(source: Source) -> Size:
    """``(H, W)`` upright; of a file only its head is read."""
    if isinstance(source, str | os.PathLike):
        try:
            with Image.open(source) as image:
                turned = image.getexif().get(0x0112, 1) >= 5
                return (image.width, image.height) if turned else (image.height, image.width)
        except Exception:  # whatever is wrong with it, load_image says it better
            return load_image(source).original
    return load_image(source).original


def _times(durations: Sequence[float]) -> tuple[float, ...]:
    """When each frame begins, seconds, from how long each lasts, milliseconds."""
    lasting = [duration if duration >= _SHORTEST else _INSTEAD for duration in durations]
    return tuple(accumulate((value / 1000 for value in lasting[:-1]), initial=0.0))


def _hint(shape: list[int]) -> str:
    if len(shape) == 3:
        return "; give [None] of one photo"
    if len(shape) == 4 and shape[0] == 3:
        return "; permute [3, T, H, W] to [T, H, W, 3]"
    if len(shape) == 5:
        return "; give one video of the batch"
    return ""
