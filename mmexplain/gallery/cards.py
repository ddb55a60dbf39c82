"""Cards: a map over its photo, and what is said beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmexplain.explanation import MapKey
from mmexplain.gallery.inputs import Seen
from mmexplain.geometry import fit
from mmexplain.render.text import clean, percent

WIDTH = 288
"""Longer side of a card's picture, pixels, at most: as large as it is shown."""

QUALITY = 84

Place = tuple[int, int, str, str]
"""Input, target, layer and method: what names a row of a store."""


def place_of(row: Mapping[str, Any], prefix: str = "") -> Place:
    """The place of a row."""
    return row[f"{prefix}input"], row[f"{prefix}target"], row[f"{prefix}layer"], row[f"{prefix}method"]


def draw(shown: Seen, places: set[Place], folder: Path) -> dict[Place, dict[str, Any]]:
    """Write the pictures of the rows of one input that are asked for.

    Args:
        shown: the input.
        places: rows; those of other inputs are passed over.
        folder: where the pictures go; their names are made of numbers, whatever the input is called.

    Returns:
        Of each row the picture's ``name``, ``width`` and ``height``; ``lost``, why there is no photo below the map, or
        None; and ``key``, the number of its layer and method among the input's.
    """
    explanation = shown.explanation
    size = fit(explanation.geometry.original, WIDTH)
    keys = list(explanation.maps)
    drawn: dict[Place, dict[str, Any]] = {}
    for row in shown.rows:
        place = place_of(row)
        if place not in places:
            continue
        number, target, layer, method = place
        key = keys.index(MapKey(layer, method))
        name = f"{number:09d}-{key}-{target:02d}.jpg"
        picture = explanation.overlay(target, layer, method, size=size)
        picture.save(folder / name, "JPEG", quality=QUALITY)
        drawn[place] = {"name": name, "width": size[1], "height": size[0], "lost": shown.lost, "key": key}
    return drawn


def card(row: Mapping[str, Any], picture: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """What a page says of a row, all of it plain text and numbers.

    Args:
        row: of the store.
        picture: as :func:`draw` told.
        folder: of the picture, as the page sees it.
    """
    label = clean(row["label"]) or "(empty)"
    return {
        "id": clean(row["id"]),
        "label": label,
        "kind": row["kind"],
        "probability": _rounded(row["probability"]),
        "percent": percent(row["probability"]),
        "layer": clean(row["layer"]),
        "method": clean(row["method"]),
        "made": clean(MapKey(row["layer"], row["method"]).made),
        "text": sentence(row),
        "picture": f"{folder}/{picture['name']}",
        "width": picture["width"],
        "height": picture["height"],
        "lost": picture["lost"],
        "page": f"{page_name(row['input'])}#m-{picture['key']}-{row['target']}",
    }


def page_name(number: int) -> str:
    """Where the page of an input stands."""
    return f"inputs/{number:09d}.html"


def sentence(row: Mapping[str, Any], text: str = "text", position: str = "position") -> list[str]:
    """The text before what is explained, what is explained, and the text after it; the middle is empty where the label
    is no part of the text."""
    words = row.get("words") or []
    start = row[position]
    if not words or start is None or row["kind"] not in ("word", "span") or not 0 <= start < len(words):
        return [clean(row[text] or ""), "", ""]
    covered = len(row["ids"] or ()) if row["n_words"] is None else row["n_words"]
    stop = start + max(1, covered)
    return [clean(" ".join(part)) for part in (words[:start], words[start:stop], words[stop:])]


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 5)
