"""One thing to explain, out of many."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a manifest.

    Attributes:
        number: its place in the manifest, counted from 0.
        id: name that no other item of the manifest has.
        source: path or URL of the photo or the video; of a member of a tar file ``tar://MEMBER::URL``, which fsspec
            opens too.
        offset: where a tar file's member begins in it, bytes; None for a file of its own.
        size: how long that member is, bytes; None for a file of its own.
        caption: the sentence to explain instead of the model's own.
        question: what is asked about the photo.
        answers: answers, classes or actions that the model is made to consider.
    """

    number: int
    id: str
    source: str
    offset: int | None = None
    size: int | None = None
    caption: str | None = None
    question: str | None = None
    answers: tuple[str, ...] = ()
