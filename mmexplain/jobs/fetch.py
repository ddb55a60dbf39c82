"""The photo or the video of an item, wherever it lies."""

from __future__ import annotations

import os
import tempfile
import warnings
import weakref
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from PIL import Image

from mmexplain.errors import InputError
from mmexplain.io import Photo, decode_image, load_image
from mmexplain.jobs.content import data, plain_path
from mmexplain.jobs.item import Item
from mmexplain.jobs.places import name_of, resolve, telling
from mmexplain.video import Video, open_file, open_video


def photo(item: Item, content: bytes | None = None) -> Photo:
    """Decode an item's photo, as :func:`~mmexplain.io.load_image` does.

    Args:
        item: whose photo.
        content: what :func:`data` returned, if it was called already.

    Raises:
        InputError: it cannot be read or decoded; the message quotes the item's source.
    """
    if content is not None:
        return decode_image(content, item.source)
    path = plain_path(item)
    return decode_image(data(item), item.source) if path is None else replace(load_image(path), source=item.source)


def video(item: Item) -> Video:
    """Open an item's video, as :func:`~mmexplain.video.open_video` does.

    One that is not a plain file is copied to a temporary one, which is removed when the video is no longer used.

    Raises:
        InputError: it cannot be read or decoded; the message quotes the item's source.
    """
    path = plain_path(item)
    return _Copy(item) if path is None else open_video(path)


class _Copy(Video):
    """A video from elsewhere, in a temporary file for as long as this object lives."""

    def __init__(self, item: Item) -> None:
        folder = tempfile.TemporaryDirectory(prefix="mmexplain-")
        weakref.finalize(self, folder.cleanup)
        path = os.path.join(folder.name, name_of(item.source) or "video")
        if item.offset is None:
            fs, inner = resolve(item.source)
            with telling(item.source):
                fs.get_file(inner, path)
        else:
            content = data(item)
            with open(path, "wb") as file:
                file.write(content)
        if os.path.getsize(path) == 0:
            raise InputError(f"{item.source!r} is empty (0 bytes); copy or download it again")
        self._path = path
        with _quoting(item.source, path):
            self._video = video = open_file(path)
        if video.truncated:
            text = f"{item.source!r} is cut short: {video.n_frames} frames of it can be decoded"
            warnings.warn(text, stacklevel=3)
        super().__init__(item.source, video.size, video.n_frames, video.times, video.truncated)

    def _images(self, numbers: Sequence[int]) -> Generator[Image.Image]:
        with _quoting(str(self.source), self._path), closing(self._video._images(numbers)) as images:
            yield from images


@contextmanager
def _quoting(source: str, path: str) -> Generator[None]:
    """Errors that quote the source in place of the temporary file."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(repr(path), repr(source))) from None
