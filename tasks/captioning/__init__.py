"""Captioning: a target for every word of a caption, a span of it, or the whole."""

from mmexplain.tasks.captioning.captioner import CaptionerAdapter, DecoderOutput, WordList
from mmexplain.tasks.captioning.show_and_tell import ShowAndTell
from mmexplain.tasks.captioning.show_attend_tell import ShowAttendTell
from mmexplain.tasks.captioning.task import Captioning

__all__ = [
    "CaptionerAdapter",
    "Captioning",
    "DecoderOutput",
    "ShowAndTell",
    "ShowAttendTell",
    "WordList",
]
