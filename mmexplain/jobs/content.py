"""The bytes of an item, wherever they lie. Nothing here decodes: whoever only reads need not import what does."""

from __future__ import annotations

from mmexplain.errors import InputError
from mmexplain.jobs.item import Item
from mmexplain.jobs.places import absolute, is_url, resolve, telling
from mmexplain.paths import check_path


def data(item: Item) -> bytes:
    """The bytes of an item's photo or video; of a tar file no others are read.

    Raises:
        InputError: they cannot be read, or are fewer than the item says; the message quotes its source.
    """
    path = plain_path(item)
    if path is not None:
        check_path(path)
        with telling(path), open(path, "rb") as file:
            return file.read()
    if item.offset is None or item.size is None:
        fs, inner = resolve(item.source)
        with telling(item.source):
            return bytes(fs.cat_file(inner))
    return _member(item.source, item.offset, item.size)


def _member(source: str, offset: int, size: int) -> bytes:
    link = source.partition("::")[2]
    path = link.removeprefix("file://") if link.startswith("file:///") else ""
    place = path or absolute(link)
    with telling(source):
        found = _slice(place, offset, size) if path or not is_url(place) else _range(place, offset, size)
    if len(found) != size:
        raise InputError(f"{source!r} has {len(found):,} bytes instead of {size:,}; was its tar file cut short?")
    return found


def _slice(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _range(place: str, offset: int, size: int) -> bytes:
    fs, inner = resolve(place)
    # `cat_file` of an empty range asks some servers for all of the file
    return bytes(fs.cat_file(inner, start=offset, end=offset + size)) if size else b""


def plain_path(item: Item) -> str | None:
    """The path of an item that is a file of its own on this machine."""
    if item.offset is not None:
        return None
    if not item.source.strip():
        raise InputError(f"item {item.id!r} names no file")
    place = absolute(item.source) if is_url(item.source) else item.source
    return None if is_url(place) else place
