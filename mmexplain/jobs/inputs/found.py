"""Where the files lie that a table or an annotation names."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmexplain.errors import InputError
from mmexplain.jobs.places import exists, is_url, join


def folder_of(names: Sequence[str], folders: Sequence[str], medium: str, inside: Sequence[str] = (".",)) -> str:
    """The first of the folders, or of those ``inside`` them, that has one of the files.

    Absolute paths and URLs are taken on trust.

    Args:
        names: some of those that are named, empty texts among them.
        folders: where to look.
        medium: ``image`` or ``video``.
        inside: the same folders in each of them; ``.`` for itself.

    Raises:
        InputError: none of them has any; the message says where was looked.
    """
    relative = [name for name in names if name and not is_url(name) and not os.path.isabs(name)]
    places = list(dict.fromkeys(join(folder, name) for folder in folders for name in inside))
    if not relative:
        return places[0]
    for place in places:
        if any(exists(join(place, name)) for name in relative):
            return place
    what = "photo" if medium == "image" else "video"
    others = f" (nor any other of the first {len(relative)})" if len(relative) > 1 else ""
    within = [name for name in inside if name != "."]
    looked = " or ".join(map(repr, folders)) + (f", nor in {', '.join(within)} there" if within else "")
    raise InputError(f"no {what} was found: {relative[0]!r}{others} is not in {looked}; say in which folder they are")
