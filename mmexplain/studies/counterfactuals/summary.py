"""What the removals of all photos come to: means, tables, controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmexplain.evaluate.intervals import LEAST, Mean, difference, mean
from mmexplain.studies.counterfactuals.cases import ELSEWHERE, EVIDENCE, MARKED, MOVED, REMOVED, UNIFORM, Case
from mmexplain.studies.counterfactuals.removal import FILLS
from mmexplain.studies.study import Control, Study, Table


@dataclass(frozen=True)
class Summary:
    """Means over cases, with intervals over photos.

    Attributes:
        all: all cases, those whose map marks nothing among them.
        fills: that regions were filled with.
        seed: of the intervals.
    """

    all: Sequence[Case]
    fills: Sequence[str]
    seed: int = 0

    def cases(self, several: bool = False) -> list[Case]:
        """Those whose map marks something; only of photos with ``several`` classes if so."""
        return [case for case in self.all if case.changes and (case.several or not several)]

    def mean(self, fill: str, removed: str, what: str, several: bool = False) -> Mean:
        """The mean of one of the numbers of :class:`~mmexplain.studies.counterfactuals.cases.Change`."""
        cases = self.cases(several)
        photos = [case.photo for case in cases]
        return mean(self._numbers(cases, fill, removed, what), photos, self.seed, share=what == "surer")

    def beyond(self, fill: str, removed: str) -> Mean:
        """By how much more the counterfactual region's removal raises ln p than that of another, in pairs."""
        cases = self.cases()
        own, other = (self._numbers(cases, fill, name, "log_probability") for name in (MARKED, removed))
        return difference(own, other, [case.photo for case in cases], self.seed)

    def energy(self, kind: str, where: str) -> tuple[Mean, Mean | None]:
        """The share of a map's energy ``where`` ("own", "others"), and by how much it is more than a uniform map's."""
        cases = [case for case in self.all if case.lies]
        photos = [case.photo for case in cases]
        values, uniform = (
            [getattr(case.lies[name], where) if name in case.lies else None for case in cases]
            for name in (kind, UNIFORM)
        )
        beyond = None if kind == UNIFORM else difference(values, uniform, photos, self.seed)
        return mean(values, photos, self.seed, share=True), beyond

    def study(self, settings: dict[str, Any], notes: Sequence[str], seconds: float) -> Study:
        """All of it."""
        tables = [self._changes(fill) for fill in self.fills]
        if self.cases(several=True):
            tables.append(self._several())
        if any(case.lies for case in self.all):
            tables.append(self._places())
        return Study(
            name="counterfactuals",
            title="Counterfactual explanations, removed (Selvaraju et al. 2017, section 3.3)",
            tables=tables,
            controls=self._controls(),
            settings=settings,
            notes=[*self._notes(settings["draws"]), *notes],
            items=len({case.photo for case in self.all}),
            seconds=round(seconds, 1),
            details={"cases": [asdict(case) for case in self.all]},
        )

    @staticmethod
    def _numbers(cases: Sequence[Case], fill: str, removed: str, what: str) -> list[float | None]:
        changes = [case.changes[fill].get(removed) for case in cases]
        return [None if change is None else getattr(change, what) for change in changes]

    def _changes(self, fill: str) -> Table:
        rows = []
        for removed in REMOVED:
            found = self.mean(fill, removed, "log_probability")
            surer, score = (self.mean(fill, removed, what) for what in ("surer", "score"))
            rows.append(
                (removed, found, surer, score, None if removed == MARKED else self.beyond(fill, removed), found.rows)
            )
        heads = ("removed region", "ln p", "surer %", "logit", "counterfactual beyond", "n")
        return Table(f"{fill}: change when a region is {FILLS[fill]}", heads, rows, percent=("surer %",))

    def _several(self) -> Table:
        rows = []
        for fill in self.fills:
            for removed in REMOVED:
                own, surer, others = (
                    self.mean(fill, removed, what, several=True) for what in ("log_probability", "surer", "others")
                )
                rows.append((fill, removed, own, surer, others, own.rows))
        heads = ("fill", "removed region", "ln p of the class", "surer %", "ln p of the others", "n")
        return Table("The same in photos with several of the model's classes", heads, rows, 2, ("surer %",))

    def _places(self) -> Table:
        rows = []
        for kind in (MARKED, ELSEWHERE, EVIDENCE, UNIFORM):
            own, others = self.energy(kind, "own"), self.energy(kind, "others")
            rows.append((kind, *own, *others, own[0].rows))
        heads = ("map", "on its class %", "beyond uniform %", "on other classes %", "beyond uniform, others %", "n")
        return Table("Where the energy of a class's map lies", heads, rows, percent=heads[1:5])

    def _controls(self) -> list[Control]:
        """The claim itself; two regions that know nothing of the photo, or of its content; the opposite claim."""
        raised, lowered = (
            {fill: self.mean(fill, name, "log_probability") for fill in self.fills} for name in (MARKED, EVIDENCE)
        )
        moved, elsewhere = ({fill: self.beyond(fill, name) for fill in self.fills} for name in (MOVED, ELSEWHERE))
        return [
            _control("Removing the counterfactual region makes the model surer: ln p rises.", raised),
            _control("It raises ln p more than removing the same region moved to random places.", moved),
            _control("It raises ln p more than removing what another photo's counterfactual map marks.", elsewhere),
            _control("Removing what Grad-CAM marks lowers ln p.", lowered, rises=False),
        ]

    def _notes(self, draws: int) -> list[str]:
        cases = self.cases()
        area = mean([case.area for case in cases], [case.photo for case in cases]).value
        notes = [
            "ln p: change of the log-probability. surer: share of removals after which it is higher. beyond: how much "
            f"more the counterfactual region raises ln p, in pairs. Removed: {area:.1%} of what the model sees, in the "
            f"mean. {MOVED}: {'one place' if draws == 1 else f'the mean of {draws} places'} for each region."
        ]
        if nothing := len(self.all) - len(cases):
            notes.append(f"Left out: {nothing:,} of {len(self.all):,} counterfactual maps, which are positive nowhere.")
        if len({case.photo for case in cases}) < LEAST:
            notes.append(f"Fewer than {LEAST} photos have no intervals, without which no control is said to hold.")
        return notes


def _control(what: str, found: Mapping[str, Mean], rises: bool = True) -> Control:
    """Held where every interval lies on the expected side of zero; without intervals nothing is settled."""
    held = all(one.low > 0 if rises else one.high < 0 for one in found.values())
    return Control(what, "; ".join(f"{fill} {one.told(digits=3, sign='+')}" for fill, one in found.items()) + ".", held)
