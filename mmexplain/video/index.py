"""How many frames a video file has, when each is shown, and where decoding can begin."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
from av.error import FFmpegError

from mmexplain.video.container import decode, is_end, opened

# One packet is one frame in these, and shown at the packet's timestamp. Elsewhere some packets show nothing: VP8's
# alternate references, MPEG-4's packed B-frames.
_ONE_TO_ONE = {"h264", "hevc", "vp9", "av1", "libdav1d", "mpeg2video", "mjpeg", "prores", "ffv1", "png"}

_SLACK = 0.5  # seconds that what a Matroska file announces may be longer than what it holds


@dataclass(frozen=True, eq=False)
class Index:
    """The frames of a video file.

    Attributes:
        n_frames: how many there are.
        stamps: the number of the frame shown at a timestamp, in the stream's units; None where timestamps do not tell
            the frames apart, which can then only be counted.
        times: seconds from the first frame, None if the stream has no clock.
        keys: numbers of the frames that decoding can begin at, increasing.
        entries: where to seek for each of ``keys``, a timestamp of decoding.
        truncated: the file ends before its announced end.
        decoded: the frames were counted by decoding them all; packets alone did not tell.
    """

    n_frames: int
    stamps: dict[int, int] | None
    times: tuple[float, ...] | None
    keys: Sequence[int]
    entries: Sequence[int]
    truncated: bool
    decoded: bool

    def entry(self, number: int) -> tuple[int, int] | None:
        """The last frame at or before ``number`` that decoding can begin at, and where to seek for it."""
        place = bisect_right(self.keys, number) - 1
        return (self.keys[place], self.entries[place]) if place >= 0 else None


def read_index(name: str, decoding: bool = False) -> Index:
    """The index of a file from its packets alone, which is quick, or by ``decoding`` every frame.

    It is decoded in any case where its packets do not tell: they have no timestamps or the same ones, some are damaged
    or missing, the format shows nothing for some of them, or the file does not begin with a key frame.

    Raises:
        InputError: the file cannot be opened.
    """
    scan = _scan(name)
    decoding = decoding or not scan.tells
    found: list[int | None] = [*_decoded(name)] if decoding else [*sorted(scan.shown)]
    stamps = [stamp for stamp in found if stamp is not None]
    apart = len(stamps) == len(found) and _increase(stamps)
    # Frames that follow each other at a steady pace are shown when they are decoded, but for one constant delay.
    clock = stamps if apart else scan.order[: len(found)]
    timed = len(clock) == len(found) and _increase(clock)
    numbers = {stamp: number for number, stamp in enumerate(stamps)} if apart else {}
    keys = sorted((numbers[stamp], entry) for stamp, entry in scan.entries.items() if stamp in numbers)
    return Index(
        n_frames=len(found),
        stamps=numbers if apart else None,
        times=tuple(float((stamp - clock[0]) * scan.unit) for stamp in clock) if timed else None,
        keys=[number for number, _ in keys],
        entries=[entry for _, entry in keys],
        truncated=scan.truncated,
        decoded=decoding,
    )


@dataclass(frozen=True)
class _Scan:
    """What the packets of a stream say: timestamps in units of ``unit``, in order of decoding.

    Attributes:
        shown: when frames are shown, without what an edit list cuts away.
        order: when they are decoded.
        entries: of those that decoding can begin at, when they are shown: when they are decoded.
        unit: seconds.
        tells: each packet is known to be one frame, shown when it says.
        truncated: the file ends before its announced end.
    """

    shown: list[int]
    order: list[int]
    entries: dict[int, int]
    unit: Fraction
    tells: bool
    truncated: bool


def _scan(name: str) -> _Scan:
    shown: list[int] = []
    order: list[int] = []
    entries: dict[int, int] = {}
    n_packets, end, sound, whole = 0, 0.0, True, True
    with opened(name) as (container, stream):
        try:
            for packet in container.demux():
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index != stream.index or is_end(packet):
                    continue
                n_packets += 1
                sound &= packet.pts is not None and not packet.is_corrupt and (n_packets > 1 or packet.is_keyframe)
                if packet.is_discard:
                    continue
                if packet.dts is not None:
                    order.append(packet.dts)
                if packet.pts is not None:
                    shown.append(packet.pts)
                    if packet.is_keyframe:
                        entries[packet.pts] = packet.pts if packet.dts is None else packet.dts
        except FFmpegError:
            whole = False
        kinds = container.format.name.split(",")
        announced = 0
        if "mov" in kinds:
            announced = len(stream.index_entries)  # not the number of samples: an edit list leaves some out
        elif "avi" in kinds:
            announced = stream.frames
        elif "matroska" in kinds and container.duration is not None:
            whole &= end > container.duration / av.time_base - _SLACK
        # AVI stores no timestamps, and what FFmpeg makes up for them follows the order of decoding.
        tells = "avi" not in kinds and stream.codec_context.name in _ONE_TO_ONE
        unit = stream.time_base or Fraction(1)
    truncated = not whole or n_packets < announced
    tells = tells and sound and not truncated and len(set(shown)) == len(shown) > 0 and shown[0] == min(shown)
    return _Scan(shown, order, entries, unit, tells, truncated)


def _decoded(name: str) -> list[int | None]:
    """The timestamps of all frames that can be decoded."""
    with opened(name, threads=False) as (container, stream), closing(decode(container, stream)) as frames:
        return [frame.pts for frame in frames]


def _increase(stamps: Sequence[int]) -> bool:
    return all(after > before for before, after in pairwise(stamps))
