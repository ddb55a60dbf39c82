"""Where the files lie that a table or an annotation names."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmexplain.errors import InputError
from mmexplain.jobs.places import exists, is_url, join


def folder_of(names: Sequence[str], places: Sequence[str], medium: str) -> str:
    """The first of the places that has one of the files; absolute paths and URLs are taken on trust.

    Args:
        names: some of those that are named, empty texts among them.
        places: folders.
        medium: ``image`` or ``video``.

    Raises:
        InputError: none of the places has any; the message says where was looked.
    """
    relative = [name for name in names if name and not is_url(name) and not os.path.isabs(name)]
    if not relative:
        return places[0]
    for place in places:
        if any(exists(join(place, name)) for name in relative):
            return place
    what = "photo" if medium == "image" else "video"
    others = f" (nor any other of the first {len(relative)})" if len(relative) > 1 else ""
    looked = ", ".join(map(repr, places))
    raise InputError(f"no {what} was found: {relative[0]!r}{others} is in none of {looked}; say where they lie")
