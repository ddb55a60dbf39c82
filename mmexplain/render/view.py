"""What the report's template needs to know about one explanation, as plain values."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import fit
from mmexplain.methods import find
from mmexplain.render.colors import css_gradient
from mmexplain.render.encode import heat_uri, photo_uri
from mmexplain.render.heat import Heat, colormap_of, heat
from mmexplain.render.overlay import photo_image
from mmexplain.render.sanity import sanity
from mmexplain.render.text import clean, number, percent, rows, stops, tone
from mmexplain.render.view_clip import clip_cell, clip_view, pictures, reel
from mmexplain.render.view_text import text_view

PHOTO_SIDE = 1000
HEAT_SIDE = 192
PIXEL_SIDE = 360

_GROUPS = {
    "word": "Words",
    "span": "Phrases",
    "caption": "Whole text",
    "answer": "Answers",
    "class": "Classes",
    "action": "Actions",
    "contrast": "Contrasts",
}
_TEXTS = {"caption": "Caption", "vqa": "Question"}


def view(explanation: Explanation, place: int, chosen: int | None = None) -> dict[str, Any]:
    """The template's record of one explanation; ``place`` numbers it within the report, ``chosen`` is the number of the
    target that is shown first."""
    height, width = explanation.geometry.original
    keys = list(explanation.maps)
    shown = None if explanation.geometry.frames is None else reel(explanation)
    cells = [
        [
            _cell(explanation, target, key) if shown is None else clip_cell(explanation, target, key, shown)
            for target in range(len(explanation))
        ]
        for key in keys
    ]
    targets = [_target(explanation, target) for target in range(len(explanation))]
    first = _first(targets, cells) if chosen is None else chosen
    clip = None if shown is None else clip_view(explanation, shown, first)
    words, groups = _words(explanation, targets)
    source = explanation.picture.source
    return {
        "id": f"e{place}",
        "name": clean(PurePath(source).name) if source else f"{'Clip' if clip else 'Photo'} {place + 1}",
        "source": clean(source) if source else None,
        "task": clean(explanation.task),
        "model": clean(explanation.model),
        "text_label": _TEXTS.get(explanation.task, "Text"),
        "text": clean(explanation.text) if explanation.text else None,
        "width": width,
        "height": height,
        "photo": None if clip else photo_uri(photo_image(explanation), PHOTO_SIDE),
        "clip": clip,
        "pictures": [] if shown is None else pictures(explanation, shown),
        "cover": f"e{place}-f{clip['start']}" if clip else f"e{place}-photo",
        "unseen": _unseen(explanation),
        "words": words,
        "spoken": any(word["target"] for word in words),
        "toned": any(word["target"] and word["target"]["tone"] is not None for word in words),
        "reading": text_view(explanation),
        "groups": groups,
        "every": _every(targets),
        "targets": targets,
        "maps": [
            {
                "layer": clean(key.layer),
                "method": clean(key.method),
                "made": clean(key.made),
                "summary": known.summary if (known := find(key.method)) else "",
                "kind": (kind := cells[row][0]["kind"] if targets else "evidence"),
                "ramp": css_gradient(own, True) if (own := colormap_of(key, kind)) else "",
            }
            for row, key in enumerate(keys)
        ],
        "methods": [clean(method) for method in explanation.methods],
        "layers": [clean(layer) for layer in explanation.layers],
        "cells": cells,
        "states": [[{name: value for name, value in cell.items() if name != "image"} for cell in row] for row in cells],
        "first": first,
        "sanity": sanity(explanation),
        "provenance": _provenance(explanation),
    }


def _target(explanation: Explanation, place: int) -> dict[str, Any]:
    target = explanation.targets[place]
    known = explanation.probabilities
    probability = None if known is None else float(known[place])
    label = clean(target.label) or "(empty)"
    if target.kind == "caption" and explanation.text and label == clean(explanation.text):
        label = f"the whole {_TEXTS.get(explanation.task, 'Text').lower()}"
    return {
        "number": place,
        "label": label,
        "kind": target.kind,
        "content": target.content,
        "span": target.span,
        "score": number(float(explanation.scores[place])),
        "percent": percent(probability),
        "tone": tone(probability),
    }


def _every(targets: list[dict[str, Any]]) -> str:
    """What all targets are called together; a contrast counts as what it contrasts."""
    kinds = {target["kind"] for target in targets} - {"contrast"}
    return kinds.pop() if len(kinds) == 1 else "target"


def _words(
    explanation: Explanation, targets: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The text word by word, each with its target if it has one, and all other targets grouped by kind."""
    unknown = explanation.provenance.get("unknown_words", [])
    words: list[dict[str, Any]] = [
        {"text": clean(word), "target": None, "unknown": word in unknown, "stop": stop}
        for word, stop in zip(explanation.words, stops(explanation.text or "", explanation.words), strict=True)
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for target in targets:
        place = target["span"][0] if target["span"] else -1
        own = target["kind"] == "word" and 0 <= place < len(words) and words[place]["target"] is None
        if own and words[place]["text"].casefold() == target["label"].casefold():
            words[place]["target"] = target
        else:
            groups.setdefault(target["kind"], []).append(target)
    return words, [{"label": _GROUPS.get(kind, kind), "targets": listed} for kind, listed in groups.items()]


def _cell(explanation: Explanation, target: int, key: MapKey) -> dict[str, Any]:
    """One map: its picture, where that lies over the photo (pixels of the original), and its peak."""
    height, width = explanation.geometry.original
    pixels = key.method in explanation.pixel_methods
    size = fit((height, width), PIXEL_SIDE if pixels else HEAT_SIDE)
    shown = heat(explanation, target, key.layer, key.method, size=size)
    peak = explanation.peak(target, key.layer, key.method)
    return {
        "kind": shown.kind,
        "note": shown.note,
        "image": _image(shown, (height, width)) if np.any(shown.values) else None,
        "peak": None if peak is None or shown.note else list(peak),
        "peak_at": None if peak is None else _share((peak[0] + 0.5, peak[1] + 0.5), (width, height)),
    }


def _image(shown: Heat, original: tuple[int, int]) -> dict[str, Any]:
    rows_seen = np.flatnonzero(shown.seen.any(axis=1))
    columns_seen = np.flatnonzero(shown.seen.any(axis=0))
    top, bottom = int(rows_seen[0]), int(rows_seen[-1]) + 1
    left, right = int(columns_seen[0]), int(columns_seen[-1]) + 1
    y, x = original[0] / shown.seen.shape[0], original[1] / shown.seen.shape[1]
    return {
        "uri": heat_uri(shown, (left, top, right, bottom)),
        "x": round(left * x, 3),
        "y": round(top * y, 3),
        "width": round((right - left) * x, 3),
        "height": round((bottom - top) * y, 3),
    }


def _unseen(explanation: Explanation) -> list[list[float]]:
    """Strips that the model never saw, as [left, top, width, height] in per cent of the photo."""
    height, width = explanation.geometry.original
    left, top, right, bottom = explanation.geometry.visible
    if not (right > left and bottom > top):
        return [[0, 0, 100, 100]]
    (x0, y0), (x1, y1) = _share((left, top), (width, height)), _share((right, bottom), (width, height))
    strips = [
        [0, 0, 100, y0],
        [0, y1, 100, round(100 - y1, 3)],
        [0, y0, x0, round(y1 - y0, 3)],
        [x1, y0, round(100 - x1, 3), round(y1 - y0, 3)],
    ]
    return [strip for strip in strips if strip[2] > 0.05 and strip[3] > 0.05]


def _share(point: tuple[float, float], size: tuple[int, int]) -> list[float]:
    """A point in per cent of the photo's width and height."""
    return [round(100 * point[0] / size[0], 3), round(100 * point[1] / size[1], 3)]


def _first(targets: list[dict[str, Any]], cells: list[list[dict[str, Any]]]) -> int:
    """The target shown at the start: the first that is about something and has a map."""
    for target in targets:
        if target["content"] and cells and cells[0][target["number"]]["image"]:
            return int(target["number"])
    return 0


def _provenance(explanation: Explanation) -> list[tuple[str, str]]:
    height, width = explanation.geometry.original
    box = ", ".join(f"{edge:.0f}" for edge in explanation.geometry.visible)
    taken, n_frames = explanation.geometry.frames, explanation.geometry.n_frames
    size = f"{width} × {height} px"
    listed = [
        ("input", clean(explanation.picture.source or "given in memory")),
        ("photo", f"{size}; the model saw the box {box}")
        if taken is None
        else ("clip", f"{size}, {n_frames} frames; the model saw {len(set(taken))} of them inside the box {box}"),
        ("task", clean(explanation.task)),
        ("model", clean(explanation.model)),
        ("layers", clean(", ".join(explanation.layers))),
        ("methods", clean(", ".join(explanation.methods))),
        ("time", f"{explanation.seconds:.2f} s"),
    ]
    told = {name for name, _ in listed} | ({"sanity"} if sanity(explanation) else set())
    return listed + [row for row in rows(explanation.provenance) if row[0] not in told]
