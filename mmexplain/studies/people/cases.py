"""Photos that people can be asked about: out of stores of explanations, or explained for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmexplain.errors import InputError
from mmexplain.evaluate.on_objects import Looked, OnObjects
from mmexplain.evaluate.protocol import Metric, Row
from mmexplain.explanation import Explanation
from mmexplain.render.text import clean

if TYPE_CHECKING:
    from mmexplain.jobs.store import Store

LIMIT = 90
"""Photos of a study, at most: as many pairs of photo and class as Selvaraju et al. (2017, §5.1) asked about."""

Progress = Callable[[int, int], None]

_WHOLE = ("caption", "contrast")


@dataclass(frozen=True)
class Case:
    """A photo that can be asked about.

    Attributes:
        id: of the photo.
        labels: of a photo for class discrimination the two things that are told apart; for trust the one that both
            models said.
        explanations: of each model.
        targets: for each model the numbers of ``labels`` in its explanation.
        shows: all things that people marked in the photo; None where nobody did.
    """

    id: str
    labels: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    targets: tuple[tuple[int, ...], ...]
    shows: frozenset[str] | None = None


def from_stores(stores: Sequence[Store], *, where: str | None = None, limit: int = LIMIT, seed: int = 0) -> list[Case]:
    """Photos of stores that ``mmexplain run`` wrote.

    Of one store: photos with two or more targets, of which the two likeliest are told apart. Of two stores of the same
    photos: those of which both models' likeliest target is the same. Function words, whole captions and contrasts are
    passed over; photos that cannot be read any more are left out.

    Args:
        stores: one, or two.
        where: an SQL expression over the columns of ``rows``: which targets.
        limit: photos at most, drawn at random.
        seed: of the draw.

    Raises:
        InputError: the expression is wrong, the stores are of clips, or they have no photo that can be asked about.
    """
    from mmexplain.gallery.inputs import seen

    for store in stores:
        if store.job.task == "action":
            raise InputError(f"{store.root!r} explains clips: a questionnaire shows photos")
    told = [_targets(store, where) for store in stores]
    pairs = {name: _likeliest([rows[name] for rows in told]) for name in told[0] if all(name in rows for rows in told)}
    names = _drawn([name for name, labels in pairs.items() if labels], limit, np.random.default_rng(seed))
    shown: list[dict[str, Explanation]] = []
    for store, rows in zip(stores, told, strict=True):
        numbers = {rows[name][0]["input"]: name for name in names}
        found = {numbers[number]: looked for number, looked in seen(store, numbers)}
        shown.append({name: one.explanation for name, one in found.items() if one.lost is None})
    cases = []
    for name in names:
        if all(name in found for found in shown):
            ids = [_numbers(rows[name], pairs[name]) for rows in told]
            cases.append(Case(name, pairs[name], tuple(found[name] for found in shown), tuple(ids)))
    if not cases:
        raise InputError(_none(stores, bool(names)))
    return cases


def from_data(
    tasks: Sequence[Any],
    data: Path,
    methods: Sequence[str],
    *,
    layer: str | None = None,
    limit: int = LIMIT,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[Case]:
    """Photos with marked objects, explained by one classifier or by two, as they are found.

    By one: photos that hold objects of two or more classes that the model has, of which two are drawn (the paper's are
    photos of exactly two); photos where an object of either was cropped away are left out. By two: photos of which both
    models' likeliest class is the same, and right (Selvaraju et al. 2017, §5.2). A class is called as the data call it.

    Args:
        tasks: one classifier with class names, or two.
        data: of a layout that :func:`mmexplain.evaluate.data.objects.read` knows.
        methods: names from the registry.
        layer: where maps are read; each model's default if None.
        limit: photos at most, drawn at random.
        seed: of the draw, and of methods that draw.
        progress: told how many photos of how many are found.

    Raises:
        InputError: the data cannot be read, or have no photo that can be asked about.
        MethodError: no such method.
    """
    lookers = [_Objects(task, data, methods, layer=layer, seed=seed) for task in tasks]
    random = np.random.default_rng(seed)
    if len(tasks) == 1:
        lookers[0].random = random
    items = [item for item in lookers[0].items() if len(tasks) > 1 or len(lookers[0].known(item.content)) > 1]
    items = _drawn(items, len(items), random)
    at_once = 8 if len(tasks) > 1 else min(8, limit)
    count = 0
    for start in range(0, len(items), at_once):
        scenes = [item.content for item in items[start : start + at_once]]
        for views in zip(*(looker.looked(scenes) for looker in lookers), strict=True):
            scene = views[0].scene
            labels = _right(views) if len(tasks) > 1 else lookers[0].explained(views[0])
            if labels and all(view.explanation.geometry.original == scene.size for view in views) and count < limit:
                ids = tuple(tuple(view.targets[view.label[label]] for label in labels) for view in views)
                shows = frozenset(map(clean, scene.names))
                yield Case(scene.key, tuple(map(clean, labels)), tuple(view.explanation for view in views), ids, shows)
                count += 1
                if progress is not None:
                    progress(count, limit)
        if count >= limit:
            return
    if not count:
        wanted = (
            "that both models get right"
            if len(tasks) > 1
            else "with objects of two classes that the model has, and sees"
        )
        raise InputError(f"{str(data)!r} has no photo {wanted}")


class _Objects(OnObjects):
    """What models make of photos with marked objects; nothing is measured."""

    name: ClassVar[str] = "questionnaire"
    title: ClassVar[str] = "Questionnaire"
    metrics: ClassVar[tuple[Metric, ...]] = ()
    random: np.random.Generator | None = None
    """Draws two classes of each photo; None where the likeliest of the data is asked for."""

    def known(self, scene: Any) -> list[str]:
        """Classes in a photo that the model has."""
        return self._present(scene)

    def looked(self, scenes: Sequence[Any]) -> Iterator[Looked]:
        """Their maps."""
        return self._look(scenes)

    def explained(self, looked: Looked) -> tuple[str, ...]:
        """The two classes that there are maps of, if the model saw the middle of an object of each."""
        names = tuple(name for name in self._present(looked.scene) if looked.label[name] in looked.targets)
        return names if len(names) == 2 and all(_seen(looked, name) for name in names) else ()

    def wanted(
        self, present: Sequence[str], ranked: Sequence[str], label: Mapping[str, int], top: Sequence[int]
    ) -> list[int]:
        """Labels that are explained: of two classes of the photo, or of the likeliest of the data."""
        if self.random is None:
            return [label[ranked[0]]]
        return [label[present[number]] for number in self.random.choice(len(present), 2, replace=False)]

    def rows(self, looked: Looked) -> Iterator[Row]:
        """None."""
        return iter(())


def _targets(store: Store, where: str | None) -> dict[str, list[dict[str, Any]]]:
    """id → a row for each different label of an input that can be asked about, likeliest first."""
    from mmexplain.gallery.query import select

    table = select(store, where).select(["input", "id", "target", "label", "kind", "content", "probability", "versus"])
    found: dict[str, list[dict[str, Any]]] = {}
    for _, rows in groupby(table.to_pylist(), key=lambda row: row["input"]):
        different: dict[str, dict[str, Any]] = {}
        for row in sorted(rows, key=lambda row: -(row["probability"] or 0.0)):
            label = clean(row["label"])
            if row["content"] and row["kind"] not in _WHOLE and row["versus"] is None and label:
                different.setdefault(label.casefold(), {**row, "label": label})
        if different:
            listed = list(different.values())
            found[listed[0]["id"]] = listed
    return found


def _likeliest(told: Sequence[Sequence[dict[str, Any]]]) -> tuple[str, ...]:
    """What is asked about a photo; nothing where there is nothing to ask."""
    if len(told) == 1:
        labels = tuple(row["label"] for row in told[0][:2])
        return labels if len(labels) == 2 else ()
    first, second = (rows[0]["label"] for rows in told)
    return (first,) if first.casefold() == second.casefold() else ()


def _numbers(rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> tuple[int, ...]:
    by_label = {row["label"].casefold(): row["target"] for row in rows}
    return tuple(by_label[label.casefold()] for label in labels)


def _seen(looked: Looked, name: str) -> bool:
    left, top, right, bottom = looked.explanation.geometry.visible
    boxes = [thing.box for thing in looked.scene.of(name)]
    return any(left <= (box[0] + box[2]) / 2 <= right and top <= (box[1] + box[3]) / 2 <= bottom for box in boxes)


def _right(views: Sequence[Looked]) -> tuple[str, ...]:
    """The likeliest class, where all models agree on it and it is in the photo."""
    said = {view.ranked[0] for view in views}
    return tuple(said) if len(said) == 1 and said <= set(views[0].scene.names) else ()


def _drawn(values: Sequence[Any], limit: int, random: np.random.Generator) -> list[Any]:
    """``limit`` of them at most, shuffled."""
    order: NDArray[np.intp] = random.permutation(len(values))
    return [values[number] for number in order[:limit]]


def _none(stores: Sequence[Store], lost: bool) -> str:
    """Why there is nothing to ask."""
    quoted = " and ".join(repr(store.root) for store in stores)
    if lost:
        return f"the photos of {quoted} cannot be read any more: bring them back to where they were explained"
    if len(stores) > 1:
        return f"{quoted} have no photo in common whose likeliest target is the same"
    return (
        f"{quoted} has no photo with two targets that could be told apart: explain two or more, as with "
        "`mmexplain run … --top 2`"
    )
