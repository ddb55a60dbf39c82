"""What an attack on photos and their maps comes to: means, tables, and what could have failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from mmexplain.evaluate.intervals import Mean, difference, mean
from mmexplain.evaluate.metrics.pointing import TOLERANCE
from mmexplain.studies.robustness.attack import RELATIVE_STEP, TargetedPGD
from mmexplain.studies.study import Cell, Control, Table

PHOTO, ADVERSARIAL, NOISE, OTHER = "photo", "adversarial", "noise", "another photo"
"""What the model is shown: a photo as it is, attacked, with noise of the same L∞ size; and another in its place."""

NAMES = {PHOTO: "photo", ADVERSARIAL: "adversarial photo", NOISE: "photo with noise", OTHER: "another photo"}

ALIKE, PLACED = ("rank correlation", "SSIM"), ("pointing game", "energy in boxes")

RISE = 0.01
"""By so much uniform noise must not raise the probability of the target."""


@dataclass(frozen=True)
class Changed:
    """One photo as the model was shown it.

    Attributes:
        photo: its key.
        view: :data:`PHOTO`, :data:`ADVERSARIAL` or :data:`NOISE`.
        reached: whether the attack on it passed the probability that was asked for.
        probability: of the target.
        top: the likeliest class.
        says_target: whether that is the target.
        keeps_top: whether that is what it is for the photo as it is.
        passes: whether the probability is above the one that was asked for.
        steps: of the attack; None for other views.
        linf: L∞ distance from the photo, of pixels from 0 to 1.
        l2: L2 distance.
    """

    photo: str
    view: str
    reached: bool
    probability: float
    top: str
    says_target: bool
    keeps_top: bool
    passes: bool
    steps: int | None
    linf: float
    l2: float

    @property
    def levels(self) -> float:
        """L∞ distance in levels of 8 bits."""
        return 255 * self.linf


@dataclass(frozen=True)
class Mapped:
    """The map of one true class of a photo; None where a number is not defined.

    Attributes:
        photo: its key.
        name: the class, as the data has it.
        label: the label of the model that was explained.
        method: of the map.
        view: as of :class:`Changed`, or :data:`OTHER`.
        reached: whether the attack on the photo did.
        probability: of the class.
        correlation: Spearman's, with the map of the photo as it is.
        ssim: with the same.
        hit: 1 where the map's maximum lies on the class or nearer than the tolerance, else 0.
        energy: share of the map's positive part in the boxes of the class.
    """

    photo: str
    name: str
    label: str
    method: str
    view: str
    reached: bool
    probability: float | None
    correlation: float | None
    ssim: float | None
    hit: float | None
    energy: float | None


@dataclass(frozen=True)
class Found:
    """All rows.

    Attributes:
        target: the class that the model was made to see.
        attack: how.
        changed: for each photo a row of each view.
        mapped: for each true class, method and view a row, in the same order for every view.
    """

    target: str
    attack: TargetedPGD
    changed: Sequence[Changed]
    mapped: Sequence[Mapped]

    @property
    def reached(self) -> int:
        """How many photos the attack took to the probability that was asked for."""
        return sum(row.reached for row in self.changed if row.view == PHOTO)

    @property
    def methods(self) -> list[str]:
        """As they were asked for."""
        return list(dict.fromkeys(row.method for row in self.mapped))

    @property
    def placed(self) -> bool:
        """Whether it is known where anything is."""
        return any(row.hit is not None for row in self.mapped)

    def mean(self, view: str, name: str, share: bool = False) -> Mean:
        """Of a number of all photos in one view."""
        return _mean([row for row in self.changed if row.view == view], name, share)

    def of(self, method: str, view: str) -> list[Mapped]:
        """Maps of photos that the attack reached."""
        return [row for row in self.mapped if row.reached and (row.method, row.view) == (method, view)]

    def beyond(self, method: str, one: str, other: str, name: str) -> Mean:
        """By how much a number is larger in one view than in another, map by map."""
        pairs = self.of(method, one), self.of(method, other)
        values, others = ([getattr(row, name) for row in rows] for rows in pairs)
        return difference(values, others, [row.photo for row in pairs[0]])

    def notes(self) -> list[str]:
        """What a reader of the tables must know."""
        photos = len({row.photo for row in self.changed})
        attack = self.attack
        step = f"{RELATIVE_STEP * 255 * attack.epsilon / attack.steps:.3g}/255"
        notes = [
            f"The attack changes the model's input, what is left of a photo after resizing and cropping, in steps of "
            f"{step} from a random start, and stops as soon as p({self.target}) > {attack.confidence:g}. L2 is of "
            "pixels from 0 to 1. The adversarial photo is not rounded to 8 bits.",
            "Rank correlation at the layer's resolution; SSIM of magnitudes at the input's, about .3 for smooth maps "
            "that have nothing in common. Flat maps have neither. Another photo: the map that the same class gets on a "
            "photo drawn at random, laid over this one.",
        ]
        if self.placed:
            notes.append(
                f"Pointing game: the maximum lies on an object of the class or nearer than {TOLERANCE} pixels of the "
                "file; a flat map points nowhere. Energy: the share of a map's positive part in the boxes of the class."
            )
        if self.reached < photos:
            notes.append(
                f"{photos - self.reached} of {photos} photos, on which the attack did not get there within "
                f"{attack.steps} steps, are in the first two tables only."
            )
        return notes


def tables(found: Found) -> list[Table]:
    """What the model says, what was changed, how alike maps are and, where objects are marked, where they lie."""
    photos = len({row.photo for row in found.changed})
    says, p, passed = f"says {found.target}", f"p({found.target})", f"p > {found.attack.confidence:g}"
    predictions: list[Sequence[Cell]] = [
        (
            NAMES[view],
            *(found.mean(view, name, share=True) for name in ("keeps_top", "says_target", "passes")),
            found.mean(view, "probability"),
            _mean([row for row in found.mapped if (row.method, row.view) == (found.methods[0], view)], "probability"),
            photos,
        )
        for view in (PHOTO, NOISE, ADVERSARIAL)
    ]
    changes: list[Sequence[Cell]] = [
        (NAMES[view], found.mean(view, "steps"), found.mean(view, "levels"), found.mean(view, "l2"))
        for view in (NOISE, ADVERSARIAL)
    ]
    alike: list[Sequence[Cell]] = [
        (method, NAMES[view], _mean(rows, "correlation"), _mean(rows, "ssim"), len(rows))
        for method, view in product(found.methods, (NOISE, ADVERSARIAL, OTHER))
        if (rows := found.of(method, view))
    ]
    heads = ("input", "keeps its class", says, passed, p, "p(true class)", "photos")
    made = [
        Table("Predictions", heads, predictions, percent=heads[1:-1]),
        Table("What was changed", ("input", "steps", "L∞, of 255", "L2"), changes),
        Table("Maps of true classes against the photo's own", ("method", "map of", *ALIKE, "maps"), alike, labels=2),
    ]
    if found.placed:
        placed: list[Sequence[Cell]] = []
        for method in found.methods:
            for view in (PHOTO, NOISE, ADVERSARIAL, OTHER):
                maps = [row for row in found.of(method, view) if row.hit is not None]
                placed.append((method, NAMES[view], _mean(maps, "hit", share=True), _mean(maps, "energy"), len(maps)))
            hits, energy = (found.beyond(method, ADVERSARIAL, PHOTO, name) for name in ("hit", "energy"))
            placed.append((method, "adversarial photo − photo", hits, energy, None))
        named = ("method", "map of", *PLACED, "maps")
        made.append(Table("Where maps of true classes lie", named, placed, labels=2, percent=PLACED))
    return made


def controls(found: Found) -> list[Control]:
    """Whether noise does nothing of the kind, and whether maps under attack still tell of their photo."""
    kept = found.mean(NOISE, "keeps_top", share=True)
    before, after = (
        {row.photo: row.probability for row in found.changed if row.view == view} for view in (PHOTO, NOISE)
    )
    rise = difference([after[photo] for photo in before], list(before.values()), list(before))
    told = [
        Control(
            "Uniform noise of the attack's L∞ size does not change what the model says: most photos keep their "
            f"likeliest class, and p({found.target}) rises by less than {RISE:.0%}.",
            f"{kept.told(100, 1)} % keep it; p({found.target}) changes by {rise.told(100, 3, '+')} points.",
            kept.value > 0.5 and rise.value < RISE,
        )
    ]
    expected = [
        ("Maps change less under that noise than under the attack", NOISE, ADVERSARIAL, "correlation"),
        ("Maps under attack are more like the photo's own than another photo's", ADVERSARIAL, OTHER, "correlation"),
        ("Maps under attack point at the class more often than another photo's", ADVERSARIAL, OTHER, "hit"),
    ]
    for method, (what, one, other, name) in product(found.methods, expected):
        more = found.beyond(method, one, other, name)
        if name == "hit" and not found.placed:
            continue
        if name == "hit":
            told_of = f"Hits differ by {more.told(100, 1, '+')} points."
        else:
            told_of = f"Rank correlations differ by {more.told(1, 2, '+')}."
        of = f" ({method})" if len(found.methods) > 1 else ""
        told.append(Control(f"{what}{of}.", told_of, more.value > 0 and not more.low <= 0))
    return told


def _mean(rows: Sequence[Changed | Mapped], name: str, share: bool = False) -> Mean:
    """Of an attribute of rows; what is drawn again are photos."""
    return mean([getattr(row, name) for row in rows], [row.photo for row in rows], share=share)
