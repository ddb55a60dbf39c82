"""The photo or the clip as people see it: kept with an explanation, or decoded when it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """The photo or the clip as people see it.

    Attributes:
        pixels: ``[h, w, 3]`` uint8 RGB, upright; large photos are reduced for display (the geometry keeps the
            original size). For a clip ``[n, h, w, 3]``: n of its frames, fewer than the file has where it is long.
        source: path or name it came from, None for an image given in memory.
        frames: for a clip, the numbers of the n frames in the file, increasing; None for a photo.
        times: for a clip with a clock, when these frames are shown, in seconds from the first frame of the file.
    """

    pixels: Tensor
    source: str | None = None
    frames: tuple[int, ...] | None = None
    times: tuple[float, ...] | None = None


class PictureAtSource(Picture):
    """A picture that is decoded when its pixels are first looked at, and then kept.

    Args:
        read: decodes it; what it raises comes out of :attr:`pixels`, :attr:`frames` and :attr:`times`.
        source: as :attr:`Picture.source`.
    """

    def __init__(self, read: Callable[[], Picture], source: str | None) -> None:
        object.__setattr__(self, "_read", read)
        object.__setattr__(self, "source", source)

    @cached_property
    def _decoded(self) -> Picture:
        read: Callable[[], Picture] = self.__dict__["_read"]
        return read()

    @property
    def pixels(self) -> Tensor:
        """As :attr:`Picture.pixels`."""
        return self._decoded.pixels

    @property
    def frames(self) -> tuple[int, ...] | None:
        """As :attr:`Picture.frames`."""
        return self._decoded.frames

    @property
    def times(self) -> tuple[float, ...] | None:
        """As :attr:`Picture.times`."""
        return self._decoded.times

    def __repr__(self) -> str:
        return f"<Picture at {self.source}>"
