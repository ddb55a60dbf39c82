"""From maps of words and answers to rows: pointing, best IoU, inside against outside, energy inside."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmexplain.evaluate.masks import box_mask, near, union
from mmexplain.evaluate.metrics.grounding import LEVELS, MOST, Sums, best_iou
from mmexplain.evaluate.metrics.pointing import TOLERANCE, hit
from mmexplain.evaluate.protocol import Metric, Row
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Box
from mmexplain.tasks.captioning.flickr8k import Photo

METRICS = (
    Metric("pointing", "pointing", percent=True),
    Metric("pointing_15px", f"pointing, {TOLERANCE} px", percent=True),
    Metric("iou", "best IoU"),
    Metric("inside_outside", "inside / outside"),
    Metric("energy", "energy inside", percent=True),
)

NOTES = (
    f"pointing: the map's maximum lies in a box of the thing; {TOLERANCE} px: or nearer to one than that, in pixels of "
    "the original photo where its size is known. A flat map points at nothing and misses; one that is not finite is "
    "left out.",
    f"best IoU: of the boxes' union with the map's level sets at 0, 1/{LEVELS}, … {LEVELS - 1}/{LEVELS} of the way "
    "from its smallest to its largest value, the best; at 0 it is the whole photo.",
    "inside / outside: mean activation (positive part) in the boxes over that beside them, 1.0 for a uniform map, "
    f"{MOST:.0f} at most; left out where boxes cover everything.",
    "energy inside: share of the map's positive part in the boxes; a map that is positive nowhere is left out.",
    "centre: the middle of the photo. random: what a random point, and a uniform map, can expect.",
)


@dataclass(frozen=True)
class Thing:
    """What a word names, in the photo's file.

    Attributes:
        mask: bool ``[H, W]``, the union of its boxes.
        wide: with the pixels that are nearer to it than :data:`TOLERANCE`.
    """

    mask: Tensor
    wide: Tensor

    @classmethod
    def of(cls, boxes: Sequence[Box], size: tuple[int, int], original: tuple[int, int]) -> Thing:
        """Of boxes in pixels of a file of ``size`` (height, width) whose original had the size ``original``."""
        mask = union((box_mask(box, size) for box in boxes), size)
        wide = near(mask, TOLERANCE, (original[0] / size[0], original[1] / size[1]))
        return cls(torch.from_numpy(mask), torch.from_numpy(wide))

    def pointed(self, peak: tuple[int, ...] | None) -> dict[str, float]:
        """Whether a pixel ``(x, y)``, a map's maximum, lies on it, and whether it does so nearly."""
        return {"pointing": hit(peak, self.mask.numpy()), "pointing_15px": hit(peak, self.wide.numpy())}

    @classmethod
    def within(cls, photo: Photo, boxes: Sequence[Box], size: tuple[int, int]) -> Thing:
        """Of boxes in fractions of a photo whose file has ``size``; it may be smaller than the original."""
        height, width = size
        original = size if photo.size is None else (photo.size[1], photo.size[0])
        pixels = [(left * width, top * height, right * width, bottom * height) for left, top, right, bottom in boxes]
        return cls.of(pixels, size, original)


def centre_row(thing: Thing) -> Row:
    """The middle of the photo as a guess; where two or four pixels meet there, the one after it."""
    height, width = thing.mask.shape
    return {"method": "centre", **thing.pointed((width // 2, height // 2))}


def random_row(thing: Thing) -> Row:
    """The expectation of a random point, and a uniform map's numbers."""
    share = float(thing.mask.double().mean())
    return {
        "method": "random",
        "pointing": share,
        "pointing_15px": float(thing.wide.double().mean()),
        "iou": share or None,
        "inside_outside": 1.0 if 0 < share < 1 else None,
        "energy": share,
    }


def numbers(maps: Tensor, masks: Tensor) -> list[dict[str, float | None]]:
    """What does not depend on the maximum, for maps and masks ``[N, H, W]``."""
    sums = Sums.of(maps, masks)
    values = {"iou": best_iou(maps, masks), "inside_outside": sums.inside_outside(), "energy": sums.energy()}
    listed = {name: found.tolist() for name, found in values.items()}
    return [
        {name: None if math.isnan(found[number]) else found[number] for name, found in listed.items()}
        for number in range(len(maps))
    ]


class Maps:
    """The maps of one explanation in the pixels of the file, each made once."""

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self._keys = {key.method: key for key in explanation.maps}
        self._peaks: dict[tuple[MapKey, int], tuple[int, ...] | None] = {}
        self._spread: dict[MapKey, Tensor] = {}

    def rows(self, method: str, targets: Sequence[int], things: Sequence[Thing], shown: str | None = None) -> list[Row]:
        """A row for each target of a method held against a thing.

        Args:
            method: its name in the explanation.
            targets: numbers of targets.
            things: one for each.
            shown: the row's method, if not the same.
        """
        if not targets:
            return []
        key = self._keys[method]
        maps = self._heat(key)[list(targets)]
        rows: list[Row] = []
        found = numbers(maps, torch.stack([thing.mask for thing in things]))
        for target, thing, values in zip(targets, things, found, strict=True):
            peak = self._peak(key, target)
            finite = bool(self.explanation.map(target, key.layer, method).isfinite().all())
            found_at: dict[str, float | None] = {**thing.pointed(peak), **values}
            rows.append({"method": shown or method, **(found_at if finite else dict.fromkeys(found_at))})
        return rows

    def _peak(self, key: MapKey, target: int) -> tuple[int, ...] | None:
        if (key, target) not in self._peaks:
            self._peaks[key, target] = self.explanation.peak(target, key.layer, key.method)
        return self._peaks[key, target]

    def _heat(self, key: MapKey) -> Tensor:
        if key not in self._spread:
            maps = [self.explanation.map(number, key.layer, key.method) for number in range(len(self.explanation))]
            self._spread[key] = self.explanation.geometry.to_original(torch.stack(maps).float()).cpu()
        return self._spread[key]


@dataclass(frozen=True)
class Named:
    """A word of a caption that names a thing.

    Attributes:
        target: number of its target in the explanation.
        thing: what it names.
        kind: what sort of thing that is, for the table.
        identity: equal for words that name the same.
    """

    target: int
    thing: Thing
    kind: str
    identity: Hashable


def caption_rows(
    explanation: Explanation, words: Sequence[Named], methods: Sequence[str], base: str | None, label: str
) -> list[Row]:
    """The rows of a caption's words: methods and controls, each once for ``all`` and once for the word's kind.

    Args:
        explanation: of the words and, as last target, the whole caption (if there is a ``base``).
        words: with their things.
        methods: of the explanation.
        base: the method that makes the maps of the controls ``whole caption`` and ``another word``; None for neither.
        label: under which the kind is written.
    """
    maps = Maps(explanation)
    targets, things = [word.target for word in words], [word.thing for word in words]
    rows = [[*found] for found in zip(*(maps.rows(method, targets, things) for method in methods), strict=True)]
    for own, thing in zip(rows, things, strict=True):
        own += [centre_row(thing), random_row(thing)]
    if base is not None:
        whole = maps.rows(base, [len(explanation) - 1] * len(words), things, "whole caption")
        others = [(number, other) for number in range(len(words)) if (other := _other(words, number)) is not None]
        found = maps.rows(base, [other for _, other in others], [things[n] for n, _ in others], "another word")
        for number, row in (*enumerate(whole), *zip((n for n, _ in others), found, strict=True)):
            rows[number].append(row)
    return [
        {**row, label: kind}
        for word, own in zip(words, rows, strict=True)
        for kind in ("all", word.kind)
        for row in own
    ]


def _other(words: Sequence[Named], number: int) -> int | None:
    """The target of the next word that names something else, going round."""
    own = words[number]
    for word in (*words[number + 1 :], *words[:number]):
        if word.target != own.target and word.identity != own.identity:
            return word.target
    return None


def control_notes(base: str | None) -> list[str]:
    """What the controls are that need the model."""
    told = "attention: the model's own, when it said the word."
    if base is None:
        return [told]
    return [
        f"{told} whole caption: the map of the caption's summed log-probability. another word: the map of the "
        f"caption's next word of these that names something else, where there is one. Both are made with {base}."
    ]
