"""Opening video files with FFmpeg through PyAV, and decoding what can be decoded.

FFmpeg's own log is left as PyAV sets it: silent, unless the user has asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmexplain.errors import InputError

# FFmpeg's names of what videos are kept in, and of audio alone, which a message of its own tells. All others are never
# begun to be read: those that open other files (playlists, concat, image2), or make a video of text or of raw bytes.
_FORMATS = (
    "3dostr,amv,apv,asf,av1,avi,avs2,avs3,bink,cavsvideo,cine,dhav,dirac,dnxhd,dv,evc,f4v,flic,flv,gif,gxf,h261,"
    "h263,h264,hevc,ivf,ivr,jpegxl_anim,lxf,m4v,matroska,mjpeg,mjpeg_2000,mov,mpeg,mpegts,mpegvideo,mpjpeg,mxf,"
    "nsv,nut,nuv,obu,ogg,pva,r3d,rm,roq,ser,smjpeg,smk,swf,thp,ty,vc1,vc1test,vivo,vvc,webm,wtv,yuv4mpegpipe,aac,"
    "ac3,aiff,amr,ape,au,caf,dts,eac3,flac,mp3,wav"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}

_NOT_VIDEOS = (
    (
        rb"\xff\xd8\xff|\x89PNG|BM.{4}\0\0\0\0|.{4}ftyp(heic|heix|heim|mif1)",
        "a photo, not a video: use caption, vqa or classify",
    ),
    (rb"(?i)\s*<(!doctype html|html|head)", "a web page, not the video it shows; download the video itself"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the video itself; run `git lfs pull`"),
    (rb"#EXTM3U|ffconcat", "a playlist, not a video; give the video itself"),
    (
        rb".{4}(ftyp|moov|mdat|free|wide|skip)",
        "cut short or damaged: its index (the moov atom) cannot be read; copy or download it again",
    ),
    (rb"\x1aE\xdf\xa3|RIFF.{4}(AVI |WEBP)|\x00\x00\x01[\xba\xb3]", "cut short or damaged; copy or download it again"),
)
_UNKNOWN = "not a video that can be read; convert it to MP4"


@contextmanager
def opened(name: str, threads: bool = True) -> Generator[tuple[InputContainer, VideoStream]]:
    """A file's container and video stream: the default one of several, never cover art.

    Args:
        name: path of the file.
        threads: decode several frames at a time: faster, but a damaged frame may take its neighbours with it.

    Raises:
        InputError: it cannot be opened, or holds no video.
    """
    path = Path(name)
    try:
        container = av.open(str(path.absolute()), options=dict(_OPTIONS), metadata_errors="replace")
    except PermissionError:
        raise InputError(f"{name!r} cannot be read: permission denied; try `chmod +r`") from None
    except (FFmpegError, OSError, ValueError):
        if not path.exists():
            raise InputError(f"no such file: {name!r}; it was there before") from None
        raise InputError(f"{name!r} is {_what_it_is(path)}") from None
    with container:
        if not container.streams:
            raise InputError(f"{name!r} is {_what_it_is(path)}")
        stream = _choose(name, container)
        stream.thread_type = "AUTO" if threads else "SLICE"
        yield container, stream


def is_end(packet: Packet[Any]) -> bool:
    """Whether it is no packet of the file, but PyAV's sign that a stream ends."""
    return packet.size == 0 and packet.dts is None


def decode(container: InputContainer, stream: VideoStream, strict: bool = False) -> Generator[VideoFrame]:
    """The frames that can be decoded, in order of display; those that cannot are passed over.

    Raises:
        FFmpegError: a frame cannot be decoded, if ``strict``.
    """
    try:
        for packet in container.demux(stream):
            if is_end(packet):
                break
            try:
                yield from packet.decode()
            except FFmpegError:
                if strict:
                    raise
    except FFmpegError:
        if strict:
            raise
    try:
        yield from stream.decode(None)  # what the decoder holds back to reorder it
    except FFmpegError:
        if strict:
            raise


def _choose(name: str, container: InputContainer) -> VideoStream:
    not_video = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & not_video]
    if not streams:
        only = ", only audio" if container.streams.audio else ""
        raise InputError(f"{name!r} has no video{only}; give a file with a picture that moves")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise InputError(f"{name!r} is in a format that this FFmpeg cannot decode; convert it to MP4 (H.264)")
    return stream


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(256)
    return next((what for pattern, what in _NOT_VIDEOS if re.match(pattern, start, re.DOTALL)), _UNKNOWN)
