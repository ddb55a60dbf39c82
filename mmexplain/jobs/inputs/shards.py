"""WebDataset's shards: tar files whose members of one name, but for what follows its first dot, are a sample.

https://github.com/webdataset/webdataset. Only headers and texts are read; of a photo or a video its place in the
tar is noted, so that it is read later without what lies around it.
"""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, BinaryIO

from mmexplain.errors import InputError
from mmexplain.jobs.inputs.columns import Entry, Wanted, cell, entries
from mmexplain.jobs.inputs.media import suffixes
from mmexplain.jobs.places import COMPRESSED, is_url, name_of, opened

SUFFIXES = (".tar",)
PACKED = (*(f".tar{suffix}" for suffix in COMPRESSED), ".tgz", ".tbz2", ".txz")

Member = tuple[str, str, tarfile.TarInfo]  # key, extension, header


def read(shards: Iterable[str], wanted: Wanted) -> Iterator[Entry]:
    """The items of all samples that hold a photo, or a video for the task ``action``.

    A sample's ``txt`` is its caption; its ``json`` may hold ``caption``, ``question``, ``answers`` and ``id``, under
    the names that columns may have. The id is ``SHARD/KEY`` where it says none.

    Raises:
        InputError: a tar file cannot be read or is compressed, a ``json`` is damaged, or vqa finds no question.
    """
    asked, found = wanted.task != "vqa", False
    fields: dict[str, None] = {}
    shard = ""
    for shard in shards:
        with opened(shard) as file:
            for key, members in groupby(_members(file, shard), key=lambda member: member[0]):
                for row, entry in _sample(file, shard, key, list(members), wanted):
                    asked = asked or cell(row, wanted, "question") is not None
                    if len(fields) < 100:
                        fields.update(dict.fromkeys(row))
                    found = True
                    yield entry
    if found and not asked:
        has = f"they have {', '.join(map(repr, fields))}" if fields else "they have none at all"
        raise InputError(f"the samples' json files, of {shard!r} too, have no 'question', which vqa needs; {has}")


def _sample(
    file: BinaryIO, shard: str, key: str, members: list[Member], wanted: Wanted
) -> Iterator[tuple[dict[str, Any], Entry]]:
    medium = next((header for _, suffix, header in members if "." + suffix in suffixes(wanted.medium)), None)
    if medium is None:
        return
    row: dict[str, Any] = {}
    for _, suffix, header in members:
        if suffix == "txt" and wanted.captions:
            row.setdefault("caption", _read(file, header).decode("utf-8", "replace"))
        elif suffix == "json":
            row |= _fields(_read(file, header), header.name, shard)
    link = shard if is_url(shard) else f"file://{shard}"
    where = f"{key!r} of {shard!r}"
    own_id = f"{posixpath.splitext(name_of(shard))[0]}/{key.removeprefix('./')}"
    for entry in entries(row, wanted, where, f"tar://{medium.name}::{link}", own_id):
        yield row, entry._replace(offset=medium.offset_data, size=medium.size)


def _members(file: BinaryIO, shard: str) -> Iterator[Member]:
    """The files of a tar, one header in memory at a time."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (header := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]
                folder, slash, name = header.name.rpartition("/")
                stem, dot, suffix = name.partition(".")
                if not (header.isreg() and stem and dot):
                    continue
                if "::" in header.name or header.issparse():
                    raise InputError(f"{shard!r} has the member {header.name!r}, which cannot be addressed; rename it")
                yield folder + slash + stem, suffix.lower(), header
            # the module takes a damaged header for the end
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise InputError(f"{shard!r} is damaged at byte {tar.offset:,}; copy or download it again")
    except tarfile.TarError as error:
        file.seek(0)
        if file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
            raise InputError(packed(shard)) from None
        raise InputError(f"{shard!r} is not a tar file, or is cut short ({error}); copy or download it again") from None


def packed(shard: str) -> str:
    """What is said of a compressed tar file."""
    return f"{shard!r} is a compressed tar file, whose members cannot be read one by one; decompress it to a plain .tar"


def _read(file: BinaryIO, header: tarfile.TarInfo) -> bytes:
    file.seek(header.offset_data)
    return file.read(header.size)


def _fields(data: bytes, member: str, shard: str) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{member!r} of {shard!r} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{member!r} of {shard!r} holds no object {{...}}")
    return fields
