"""Which files are photos and videos, and those of a folder or a pattern."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator

import fsspec.utils

from mmexplain.errors import InputError
from mmexplain.jobs.inputs.columns import Entry, Wanted
from mmexplain.jobs.places import inside, is_folder, split, suffix_of, walk

PHOTOS = (
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
VIDEOS = (
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm",
    ".wmv",
)  # fmt: skip

_MAGIC = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")


def suffixes(medium: str) -> tuple[str, ...]:
    """Of photos (``image``) or of videos (``video``), in lower case."""
    return VIDEOS if medium == "video" else PHOTOS


def is_pattern(place: str) -> bool:
    """Whether it stands for several files: ``*``, ``?``, ``[ab]``, ``{000..009}``, ``{train,val}``."""
    return bool(_MAGIC.search(split(place)[1]) or _BRACES.search(place))


def expand(pattern: str) -> Iterator[str]:
    """The files that a pattern stands for.

    Those of ``{000..009}`` and ``{train,val}`` come in that order, whether they exist or not; those of ``*`` and
    ``**`` exist and are sorted.

    Raises:
        InputError: a folder cannot be listed.
    """
    braces = _BRACES.search(pattern)
    if braces:
        first, last, listed = braces.groups()
        parts: Iterable[str] = listed.split(",") if listed is not None else _counted(first, last)
        for part in parts:
            yield from expand(pattern[: braces.start()] + part + pattern[braces.end() :])
        return
    before, path, after = split(pattern)
    magic = _MAGIC.search(path)
    if magic is None:
        yield pattern
        return
    folder = path[: magic.start()].rpartition("/")[0]
    rest = path[: magic.start()].rpartition("/")[2] + path[magic.start() :]
    folder = folder or "/" * path.startswith("/")
    if not is_folder(before + folder + after):
        raise InputError(f"no such folder: {before + folder + after!r}, where {pattern!r} begins")
    try:
        matches = re.compile(fsspec.utils.glob_translate(rest)).match
    except (ValueError, re.error) as error:
        raise InputError(f"{pattern!r} is not a pattern ({error})") from None
    for name in walk(before + folder + after, None if "**" in rest else rest.count("/")):
        if matches(name):
            yield inside(before + folder + after, name)


def _counted(first: str, last: str) -> Iterator[str]:
    for number in range(int(first), int(last) + 1):
        yield str(number).zfill(len(first) if first.startswith("0") else 1)


def in_folder(folder: str, wanted: Wanted) -> Iterator[Entry]:
    """The photos, or the videos, of a folder and those in it; the id is the path from there.

    Raises:
        InputError: there is none.
    """
    yield from _only(((name, inside(folder, name)) for name in walk(folder)), folder, wanted)


def matching(pattern: str, wanted: Wanted) -> Iterator[Entry]:
    """The photos, or the videos, that a pattern stands for; the id is the path from the last folder without wildcards.

    Raises:
        InputError: there is none.
    """
    path = split(pattern)[1]
    fixed = re.split(r"[*?\[{]", path)[0].rpartition("/")[0]
    places = ((split(place)[1][len(fixed) :].lstrip("/"), place) for place in expand(pattern))
    yield from _only(places, pattern, wanted)


def one(place: str) -> Iterator[Entry]:
    """A single file; the id is its name."""
    yield Entry(posixpath.basename(split(place)[1]), place)


def refuse_without_questions(place: str, wanted: Wanted) -> None:
    """Files alone ask nothing.

    Raises:
        InputError: the task needs a question.
    """
    if wanted.asks:
        raise InputError(
            f"{place!r} has no questions, which vqa needs: give one for all by --question, or a table with the columns "
            "'image' and 'question' (.jsonl, .csv, .tsv, .parquet)"
        )


def _only(places: Iterable[tuple[str, str]], where: str, wanted: Wanted) -> Iterator[Entry]:
    refuse_without_questions(where, wanted)
    kinds = suffixes(wanted.medium)
    others: Counter[str] = Counter()
    none = True
    for name, place in places:
        suffix = suffix_of(place)
        if suffix in kinds:
            none = False
            yield Entry(name, place)
        elif len(others) < 1000:
            others[suffix] += 1
    if none:
        what = "video" if wanted.medium == "video" else "photo"
        held = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in others.most_common(3))
        holds = f"; there are other files ({held})" if held else ""
        raise InputError(f"no {what} was found in {where!r}, looking for {', '.join(kinds)}{holds}")
