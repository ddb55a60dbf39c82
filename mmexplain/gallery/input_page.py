"""The page of one input: every map of it, each large when it is chosen, and their statistics."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from mmexplain.explanation import Explanation
from mmexplain.gallery.cards import QUALITY, page_name, sentence
from mmexplain.gallery.inputs import Seen
from mmexplain.gallery.pages import Site
from mmexplain.geometry import fit
from mmexplain.render.clip_heat import ClipHeat
from mmexplain.render.filmstrip import decisive_frames
from mmexplain.render.footage import kept_numbers, kept_picture, resized
from mmexplain.render.overlay import blend
from mmexplain.render.text import clean, number, percent
from mmexplain.render.view import view

COLUMNS = ("probability", "score", "area", "entropy", "peak x, y", "centroid x, y", "minimum", "maximum")
SHOT = 240
"""Longer side of a film strip's frames, pixels, at most."""

_TEXTS = {"caption": "Caption", "vqa": "Question"}


def write_input_page(site: Site, place: int, shown: Seen, frames: Path) -> None:
    """Write the page of an input.

    Args:
        site: that it belongs to.
        place: the input's number.
        shown: the input.
        frames: folder for the frames of clips.
    """
    explanation = shown.explanation
    keys = list(explanation.maps)
    still = explanation.geometry.frames is None
    told = _photo(explanation) if still else _clip(explanation)
    maps = []
    for index, row in enumerate(shown.rows):
        key, target = divmod(index, len(explanation))
        cell = told["cells"][key][target] if still else {"image": None, "note": None, "peak_at": None, "kind": ""}
        label = clean(row["label"]) or "(empty)"
        one = {
            **cell,
            "name": f"m-{key}-{target}",
            "label": label,
            "percent": percent(row["probability"]),
            "content": row["content"],
            "made": clean(keys[key].made),
            "text": sentence(row),
            "film": None,
            "cells": _cells(row),
        }
        if not still:
            one |= _film(shown, place, key, target, frames)
        maps.append(one)
    groups = [{"title": title, "maps": list(found)} for title, found in groupby(maps, key=lambda one: str(one["made"]))]
    height, width = explanation.geometry.original
    site.page(
        page_name(place),
        "input.html.j2",
        clean(shown.rows[0]["id"]),
        "",
        e=told,
        source=clean(shown.rows[0]["source"]),
        ratio=round(width / height, 4),
        maps=maps,
        groups=groups,
        columns=COLUMNS,
        lost=shown.lost,
    )


def _photo(explanation: Explanation) -> dict[str, Any]:
    found = view(explanation, 0)
    names = ("cells", "width", "height", "photo", "unseen", "text_label", "task", "model")
    return {**{name: found[name] for name in names}, "what": found["every"]}


def _clip(explanation: Explanation) -> dict[str, Any]:
    height, width = explanation.geometry.original
    return {
        "width": width,
        "height": height,
        "photo": None,
        "unseen": [],
        "text_label": _TEXTS.get(explanation.task, "Text"),
        "task": clean(explanation.task),
        "model": clean(explanation.model),
        "what": "action",
    }


def _film(shown: Seen, place: int, key: int, target: int, folder: Path) -> dict[str, Any]:
    """The decisive frames of a clip with the map over them, written as pictures."""
    explanation = shown.explanation
    layer, method = (found := list(explanation.maps)[key]).layer, found.method
    kept = kept_numbers(explanation)
    importance = explanation.importance(target, layer, method).cpu()
    chosen = decisive_frames(importance, among=kept)
    size = fit(explanation.geometry.original, SHOT)
    heat = ClipHeat(explanation, target, layer, method, size=size)
    best = max(range(len(chosen)), key=lambda at: float(importance[chosen[at]].nan_to_num(-1.0)))
    parts = []
    for at, (frame, laid) in enumerate(heat.frames(chosen)):
        name = f"{place:09d}-{key}-{target:02d}-{at}.jpg"
        photo = resized(kept_picture(explanation.picture, kept.index(frame)), size)
        blend(photo, laid).save(folder / name, "JPEG", quality=QUALITY)
        times = explanation.picture.times
        stamp = f"frame {frame}" if times is None else f"{times[kept.index(frame)]:.2f} s"
        parts.append(
            {
                "picture": f"../{folder.name}/{name}",
                "width": size[1],
                "height": size[0],
                "stamp": stamp,
                "highest": at == best and not heat.scale.note,
            }
        )
    return {"film": parts, "best": best, "note": heat.scale.note}


def _cells(row: dict[str, Any]) -> list[str]:
    peak = [row["peak_x"], row["peak_y"]]
    centroid = [row["centroid_x"], row["centroid_y"]]
    told = {
        "probability": percent(row["probability"]) or "–",
        "score": _told(row["score"]),
        "area": _told(row["area"]),
        "entropy": _told(row["entropy"]),
        "peak x, y": "–" if None in peak else ", ".join(map(str, peak)) + _frame(row["peak_frame"]),
        "centroid x, y": "–" if None in centroid else ", ".join(f"{value:.0f}" for value in centroid),
        "minimum": _told(row["minimum"]),
        "maximum": _told(row["maximum"]),
    }
    return [told[name] for name in COLUMNS]


def _frame(peak: int | None) -> str:
    return "" if peak is None else f" · frame {peak}"


def _told(value: float | None) -> str:
    return "–" if value is None else number(value)
