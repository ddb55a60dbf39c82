"""Paths and URLs: which file system they lie in, what is in a folder, and its errors in one line.

A place is a plain path, an fsspec URL (``s3://bucket/a.jpg``) or a chain of them (``zip://a.jpg::s3://bucket/a.zip``).
"""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO, cast

import fsspec
from fsspec.core import url_to_fs

from mmexplain.errors import InputError, did_you_mean

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}

# File systems within a file; others that are named without a path, such as `simplecache`, have the next one's.
_ARCHIVES = ("libarchive", "tar", "zip")

_SCHEME = re.compile(r"(?i)([a-z][a-z0-9+.-]*)(://|::)")


def is_url(place: str) -> bool:
    """Whether it is a URL or a chain, not a plain path."""
    found = _SCHEME.match(place)
    return found is not None and (found[2] == "://" or found[1].lower() in fsspec.available_protocols())


def absolute(place: str) -> str:
    """The same place for a process with another working folder; ``file://`` URLs become plain paths.

    The last link of a chain may be a plain path too, as in ``zip://*.jpg::photos.zip``.
    """
    first, *others = place.split("::") if is_url(place) else [place]
    if others:
        first += "://" * (first in _ARCHIVES)
        last = others[-1]
        others[-1] = last if is_url(last) else "file://" + os.path.abspath(last)
        return "::".join([first, *others])
    first = re.sub(r"(?i)^(file|local)://", "", first)
    return first if is_url(first) else os.path.abspath(os.path.expanduser(first))


def join(folder: str, name: str) -> str:
    """``name`` as seen from ``folder``; one that is absolute or a URL stays as it is."""
    if is_url(name) or os.path.isabs(name):
        return absolute(name)
    return inside(folder, name)


def inside(folder: str, name: str) -> str:
    """The place of a file, whatever its name looks like, from its path in a folder."""
    if not is_url(folder):
        return os.path.normpath(os.path.join(folder, name))
    before, path, after = split(folder)
    return before + posixpath.normpath(posixpath.join(path, name)) + after


def parent(place: str) -> str:
    """The folder that a file lies in."""
    before, path, after = split(place)
    return before + posixpath.dirname(path) + after


def name_of(place: str) -> str:
    """The last part of its path."""
    return posixpath.basename(split(place)[1].rstrip("/"))


def suffix_of(place: str) -> str:
    """From the last dot of its name, in lower case: ``.jpg``; of compressed files both parts: ``.tar.gz``."""
    stem, suffix = posixpath.splitext(name_of(place).lower())
    return posixpath.splitext(stem)[1] + suffix if suffix in COMPRESSED else suffix


def split(place: str) -> tuple[str, str, str]:
    """What comes before the path, the path, and what follows: ``zip://``, ``a/b.jpg``, ``::s3://bucket/c.zip``."""
    if not is_url(place):
        return "", place, ""
    links = place.split("::")
    which = next((number for number, link in enumerate(links) if "://" in link), 0)  # `simplecache` has no path
    scheme, _, path = links[which].partition("://")
    before, after = "::".join([*links[:which], f"{scheme}://"]), "".join("::" + link for link in links[which + 1 :])
    # what follows the path of a web address: a signature, mostly
    query = re.search(r"[?#].*", path) if scheme.lower().startswith("http") else None
    return (before, path[: query.start()], query[0] + after) if query else (before, path, after)


@contextmanager
def telling(place: str) -> Generator[None]:
    """Turns what a file system raises into an :class:`~mmexplain.errors.InputError` that quotes the place."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except ImportError as error:
        raise InputError(f"{place!r} needs a package that is not installed: {_what_to_install(place, error)}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no such file: {place!r}") from None
    except IsADirectoryError:
        raise InputError(f"{place!r} is a folder, not a file") from None
    except PermissionError:
        raise InputError(f"{place!r} cannot be read: permission denied") from None
    except TimeoutError:
        raise InputError(f"{place!r} cannot be read: no answer in time; try again") from None
    except UnicodeError:
        raise InputError(f"{place!r} is not UTF-8 text; convert it") from None
    # Every file system has exceptions of its own: aiohttp's, botocore's, zipfile's, ...
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{place!r} cannot be read ({reason})") from None


def resolve(place: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a place, and its path there.

    Raises:
        InputError: there is no such file system, or what it needs is not installed.
    """
    if not is_url(place):
        return fsspec.filesystem("file"), place  # in which `::` is a part of a name
    with telling(place):
        try:
            return cast("tuple[fsspec.AbstractFileSystem, str]", url_to_fs(place))
        except ValueError as error:
            if not str(error).startswith("Protocol not known"):
                raise
            scheme = str(error).rpartition(" ")[2]
            near = did_you_mean(scheme, fsspec.available_protocols())
            raise InputError(f"{place!r}: there is no file system {scheme!r}{near}") from None


@contextmanager
def opened(place: str) -> Generator[BinaryIO]:
    """A file's bytes; of a compressed one (``.gz``, ``.bz2``, ``.xz``, ``.zst``) those that were compressed.

    Raises:
        InputError: it cannot be read, when opened or later.
    """
    fs, path = resolve(place)
    with telling(place), fs.open(path, "rb", compression=_compression(place)) as file:
        yield file


@contextmanager
def opened_text(place: str) -> Generator[TextIO]:
    """A UTF-8 file's text, without the mark that may begin it, its line ends as they are."""
    with opened(place) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        yield text


def _compression(place: str) -> str | None:
    return COMPRESSED.get(posixpath.splitext(name_of(place).lower())[1])


def exists(place: str) -> bool:
    """Whether there is such a file; where that cannot be found out, there is not."""
    if not is_url(place):
        return os.path.isfile(place)
    try:
        fs, path = resolve(place)
        return bool(fs.isfile(path))
    except Exception:  # reading it later tells what is wrong
        return False


def is_folder(place: str) -> bool:
    """Whether there is such a folder.

    Raises:
        InputError: that cannot be found out.
    """
    if not is_url(place):
        return os.path.isdir(place)
    fs, path = resolve(place)
    with telling(place):
        return bool(fs.isdir(path))


def walk(folder: str, depth: int | None = None) -> Iterator[str]:
    """Names of the files in a folder and in those in it, sorted, relative to it; hidden ones are left out.

    One folder's names at a time are in memory.

    Args:
        folder: any place.
        depth: how many levels down; 0 for the folder itself alone, all by default.

    Raises:
        InputError: a folder cannot be read.
    """
    if is_url(folder):
        fs, root = resolve(folder)
        yield from _walk_remote(fs, root, folder, "", depth)
    else:
        yield from _walk_local(folder, "", depth, ())


def _walk_local(root: str, prefix: str, depth: int | None, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    folder = os.path.join(root, prefix)
    with telling(folder):
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            found = [entry.name + "/" * entry.is_dir() for entry in entries if not entry.name.startswith(".")]
    if (status.st_dev, status.st_ino) in above:
        return  # a link to a folder that it lies in
    above = (*above, (status.st_dev, status.st_ino))
    found.sort()  # with the slash, so that the paths are sorted as a whole
    for name in found:
        if not name.endswith("/"):
            yield prefix + name
        elif depth != 0:
            yield from _walk_local(root, prefix + name, depth and depth - 1, above)


def _walk_remote(fs: fsspec.AbstractFileSystem, root: str, url: str, prefix: str, depth: int | None) -> Iterator[str]:
    path = (f"{root.rstrip('/')}/{prefix}" if root else prefix).rstrip("/") if prefix else root
    with telling(url):
        entries: list[dict[str, Any]] = fs.ls(path, detail=True)
    found = []
    for entry in entries:
        full = str(entry["name"]).rstrip("/")
        name = posixpath.basename(full)
        if name and not name.startswith(".") and full.lstrip("/") != path.strip("/"):
            found.append(name + "/" * (entry["type"] == "directory"))
    for name in sorted(set(found)):
        if not name.endswith("/"):
            yield prefix + name
        elif depth != 0:
            yield from _walk_remote(fs, root, url, prefix + name, depth and depth - 1)


def _what_to_install(place: str, error: ImportError) -> str:
    """fsspec says so in its own words, which name the packages."""
    said = " ".join(str(error).split())
    scheme = _SCHEME.match(place)
    packages = {"http": "aiohttp requests", "https": "aiohttp requests", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs"}
    known = packages.get(scheme[1].lower()) if scheme else None
    return f"pip install {known}" if known else said
