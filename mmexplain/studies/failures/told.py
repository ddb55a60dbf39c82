"""What the judged photos together say: tables, controls and notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmexplain.evaluate.intervals import LEAST, Mean, bootstrapped, difference, mean
from mmexplain.studies.failures.judged import STRONGEST, Judged
from mmexplain.studies.study import Cell, Control, Table

TOP = 5
MAPS = {
    "true": "true class",
    "predicted": "predicted class",
    "random": "random class",
    "centre": "none: centre of photo",
}
PATTERNS = {
    (1.0, 1.0): ("both", "both: it was seen, and named otherwise"),
    (1.0, 0.0): ("true", "the true class's alone: something else won"),
    (0.0, 1.0): ("predicted", "the predicted class's alone"),
    (0.0, 0.0): ("neither", "neither"),
}
"""Hits of the maps of (true, predicted) class → which of them points at the object, in a word and in words."""


def tables(photos: Sequence[Judged], worst: Sequence[Judged], seed: int) -> list[Table]:
    """Accuracy; the worst; and, of the wrong photos, where maps point and how alike they are."""
    wrong, marked = _wrong(photos), any(photo.hits for photo in photos)
    found = [_accuracy(photos, seed)]
    if worst:
        found.append(_worst(worst, marked))
    if marked:
        found.append(_pointing(photos, seed))
    if any(photo.hits for photo in wrong):
        found.append(_patterns(wrong, seed))
    if wrong:
        found.append(_alike(wrong, seed))
    return found


def controls(photos: Sequence[Judged], seed: int) -> list[Control]:
    """Against a class drawn at random, and against photos that were classified rightly."""
    wrong, right = _wrong(photos), [photo for photo in photos if not photo.wrong]
    found = []
    if any(photo.hits for photo in photos):
        found.append(
            _paired(
                "On wrong photos the map of the true class points at its object more often than the map of a class "
                "drawn at random.",
                [(photo.hits.get("true"), photo.hits.get("random")) for photo in wrong],
                seed,
            )
        )
        of_right, of_wrong = ([photo.hits["true"] for photo in side if "true" in photo.hits] for side in (right, wrong))
        found.append(
            _told(
                "On rightly classified photos the map of the true class points at its object more often than on wrong "
                "ones.",
                apart(of_right, of_wrong, seed),
                of_right,
                of_wrong,
            )
        )
    found.append(
        _paired(
            f"On wrong photos the map of the predicted class overlaps (strongest {STRONGEST:.0%}) more with that of "
            "the true class than with that of a class drawn at random.",
            [(photo.overlaps.get("true"), photo.overlaps.get("random")) for photo in wrong],
            seed,
            percent=False,
        )
    )
    return found


def apart(ones: Sequence[float], others: Sequence[float], seed: int) -> Mean:
    """The mean of ``ones`` less that of ``others``, which are of other photos, with the percentile bootstrap's
    interval; none where either are fewer than :data:`~mmexplain.evaluate.intervals.LEAST`."""
    count = len(ones) + len(others)
    if not ones or not others:
        return Mean(np.nan, np.nan, np.nan, count, count)
    gain = float(np.mean(ones) - np.mean(others))
    if min(len(ones), len(others)) < LEAST:
        return Mean(gain, np.nan, np.nan, count, count)
    low, high = bootstrapped(
        (np.asarray(ones), np.asarray(others)),
        lambda one, other, axis=-1: one.mean(axis) - other.mean(axis),
        seed,
        paired=False,
    )
    return Mean(gain, low, high, count, count)


def notes(
    photos: Sequence[Judged],
    tolerance: float,
    closed: bool,
    names: Sequence[str],
    meant: Mapping[str, Sequence[int]],
    left_out: int,
) -> list[str]:
    """How photos were judged, and what was left out.

    Args:
        photos: all of them.
        tolerance: of the pointing game, pixels.
        closed: only labels that mean a class of the data were predicted.
        names: classes of the data.
        meant: class of the data → numbers of the labels that mean it.
        left_out: photos that hold no class of the model.
    """
    wrong = _wrong(photos)
    labels = "labels that mean a class of the data" if closed else "labels"
    found = [
        f"Wrong: the likeliest of all {labels} means no class that the data has for the photo (kinds by WordNet's "
        "hypernyms for ImageNet's labels). True class: the likeliest of the labels that mean a class of the photo; "
        f"rank: its place among all {labels}. Confidences are the model's own probabilities."
    ]
    if wrong and not closed:
        found.append(
            f"{sum(photo.foreign for photo in wrong):,} of {len(wrong):,} wrong predictions name something that the "
            "data has no class for: it may be in the photo, unmarked. A closed study leaves such labels out."
        )
    if any(photo.hits for photo in photos):
        found.append(
            "A map points at the object if its maximum lies on an object of the true class (mask if given, else box) "
            f"or nearer than {tolerance:g} pixels of the file; a flat map does not. Photos where the model saw nothing "
            "of the object are left out there."
        )
    found.append(
        f"Overlap: intersection over union of the places that are among the strongest {STRONGEST:.0%} of either map, "
        "at the layer's own resolution."
    )
    missing = [name for name in names if name not in meant]
    if missing:
        found.append(
            f"Left out: {len(missing)} of {len(names)} classes, which the model does not have "
            f"({', '.join(missing[:12])}{', …' if len(missing) > 12 else ''}), and {left_out:,} photos, which hold no "
            "other."
        )
    return found


def _accuracy(photos: Sequence[Judged], seed: int) -> Table:
    groups = {"all": photos, "right": [photo for photo in photos if not photo.wrong], "wrong": _wrong(photos)}
    rows: list[list[Cell]] = []
    for name, group in groups.items():
        files = _files(group)
        right = mean([float(not photo.wrong) for photo in group], files, seed, share=True)
        top = mean([float(photo.rank <= TOP) for photo in group], files, seed, share=True)
        confidence = mean([photo.confidence for photo in group], files, seed)
        rows.append([name, len(group), right if name == "all" else None, top, confidence])
    heads = ("photos", "n", "accuracy %", f"truth in top {TOP} %", "mean confidence %")
    return Table("Accuracy", heads, rows, percent=heads[2:])


def _worst(worst: Sequence[Judged], marked: bool) -> Table:
    heads = ["photo", "predicted", "true", "p predicted %", "p true %", "rank of true", "overlap"]
    rows: list[list[Cell]] = [
        [
            photo.file,
            photo.labels["predicted"],
            photo.labels["true"],
            photo.confidence,
            photo.probabilities["true"],
            photo.rank,
            photo.overlaps["true"],
            *([_pattern(photo)] if marked else []),
        ]
        for photo in worst
    ]
    heads += ["at the object"] if marked else []
    return Table("The most confidently wrong", heads, rows, labels=3, percent=("p predicted %", "p true %"))


def _pattern(photo: Judged) -> str | None:
    true, predicted = photo.hits.get("true"), photo.hits.get("predicted")
    return None if true is None or predicted is None else PATTERNS[true, predicted][0]


def _pointing(photos: Sequence[Judged], seed: int) -> Table:
    wrong, right = _wrong(photos), [photo for photo in photos if not photo.wrong]
    rows: list[list[Cell]] = []
    for role, told in MAPS.items():
        ofs = [
            mean([photo.hits.get(role) for photo in side], _files(side), seed, share=True) for side in (wrong, right)
        ]
        # On a right photo the predicted class is the true one.
        rows.append([told, ofs[0], None if role == "predicted" else ofs[1]])
    heads = ("map of", "wrong photos %", "right photos %")
    return Table("Maps that point at an object of the true class", heads, rows, percent=heads[1:])


def _patterns(wrong: Sequence[Judged], seed: int) -> Table:
    known = [photo for photo in wrong if {"true", "predicted"} <= photo.hits.keys()]
    pairs = [(photo.hits["true"], photo.hits["predicted"]) for photo in known]
    rows: list[list[Cell]] = [
        [
            told,
            pairs.count(pattern),
            mean([float(pair == pattern) for pair in pairs], _files(known), seed, share=True),
        ]
        for pattern, (_, told) in PATTERNS.items()
    ]
    return Table(
        "Of each wrong photo, whose map points at the object",
        ("map of", "photos", "share %"),
        rows,
        percent=("share %",),
    )


def _alike(wrong: Sequence[Judged], seed: int) -> Table:
    rows: list[list[Cell]] = [
        [
            f"predicted and {MAPS[role]}",
            mean([photo.correlations.get(role) for photo in wrong], _files(wrong), seed),
            mean([photo.overlaps.get(role) for photo in wrong], _files(wrong), seed),
        ]
        for role in ("true", "random")
    ]
    return Table("How alike two maps of a wrong photo are", ("maps of", "rank correlation", "overlap"), rows)


def _paired(what: str, pairs: Iterable[tuple[float | None, float | None]], seed: int, percent: bool = True) -> Control:
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    known = [pair for pair in known if not np.isnan(pair).any()]
    ones, others = ([pair[side] for pair in known] for side in (0, 1))
    return _told(what, difference(ones, others, list(map(str, range(len(known)))), seed), ones, others, percent)


def _told(what: str, gain: Mean, ones: Sequence[float], others: Sequence[float], percent: bool = True) -> Control:
    """Held if all of the interval lies above 0."""
    if np.isnan(gain.low):
        return Control(what, f"Not told: it takes {LEAST} photos or more, of either kind.", False)
    scale, digits, unit = (100, 1, " %") if percent else (1, 2, "")
    means = " against ".join(f"{scale * np.mean(side):.{digits}f}{unit}" for side in (ones, others))
    return Control(what, f"{means}: {gain.told(scale, digits, '+')}{' points' if percent else ''}.", gain.low > 0)


def _wrong(photos: Sequence[Judged]) -> list[Judged]:
    return [photo for photo in photos if photo.wrong]


def _files(photos: Sequence[Judged]) -> list[str]:
    return [photo.file for photo in photos]
