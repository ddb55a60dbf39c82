"""Bias of a data set: where a model looks in two groups of photos.

Selvaraju et al. 2017, "Grad-CAM", section 6.3: a classifier of doctors and nurses looked at faces and hair, because
most doctors of its training set were men and most nurses women; what Grad-CAM showed led to a better training set. Here
that look is a measurement, over all photos of two groups, with intervals and controls;
:mod:`mmexplain.studies.bias.planting` is a case where the bias is known.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from mmexplain.errors import InputError, TargetError
from mmexplain.evaluate.data.classes import match
from mmexplain.evaluate.intervals import LEAST, mean
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.io import Photo, load_image
from mmexplain.methods.registry import select
from mmexplain.studies.bias.groups import WORDS, Groups, Member, read_groups
from mmexplain.studies.bias.regions import FACES, KIND, OBJECT, PERSON, REGIONS, faces, marked, thirds
from mmexplain.studies.bias.seen import Looking, Seen, controls, over_area
from mmexplain.studies.bias.shares import difference
from mmexplain.studies.study import Study, Table
from mmexplain.targets import Target

Explained = Literal["label", "prediction"]


def bias(
    task: Any,
    data: str | Path,
    groups: Sequence[str] = (),
    *,
    method: str = "gradcam",
    layer: str | None = None,
    explained: Explained | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Where a model looks in two groups of photos, and where it looks differently.

    Args:
        task: a classifier; a captioner, where the groups are words of captions.
        data: see :func:`mmexplain.studies.bias.groups.read_groups`.
        groups: names of the two.
        method: of the maps.
        layer: of the maps; the model's default if None.
        explained: "label" explains the group's class, by the likeliest of the model's labels that mean it;
            "prediction" the likeliest class of all, as the paper does. None takes the label where the model has both.
        limit: photos of each group, the first ones.
        seed: of all that is drawn at random.
        progress: told how many photos of how many are done.

    Raises:
        InputError: no such data or groups, a model of another task, an option out of range, an unreadable photo.
        TargetError: words that the model does not know.
        MethodError, LayerError: no such method or layer.
    """
    started = time.perf_counter()
    if explained not in (None, *get_args(Explained)):
        raise InputError(f"explained={explained!r}: there are: {', '.join(get_args(Explained))}")
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: a group needs a photo")
    (chosen,) = (one.name for one in select([method]))
    found = read_groups(Path(data), groups, getattr(task, "labels", None))
    pick: _Words | _Classes = _Words(task) if found.kind == WORDS else _Classes(task, found, explained)
    options: dict[str, Any] = {"layers": None if layer is None else [layer], "methods": [chosen], "seed": seed}
    looking, odd, untold = Looking(seed), 0, list[TargetError]()
    rows: list[Seen] = []
    taken = found.first(limit, seed)
    for number, member in enumerate(taken.members):
        photo = load_image(member.path)
        try:
            explanation, right = pick(photo, member, options)
        except TargetError as error:
            # Other words of the captions that this captioner does not know.
            untold.append(error)
            continue
        if member.scene is not None and explanation.geometry.original != member.scene.size:
            odd += 1
            continue
        regions = thirds(photo.original)
        if member.scene is not None:
            regions |= marked(member.scene, member.group)
        if member.scene is None or PERSON & {*member.scene.names, member.group} or taken.kind == WORDS:
            regions[FACES] = faces(photo)
        rows.append(looking.see(explanation, regions, member.key, member.group, right))
        if progress:
            progress(number + 1, len(taken.members))
    if not rows and untold:
        raise untold[0]
    if not rows:
        raise InputError(f"no photo of {str(data)!r} is of the size that it was marked at")
    return Study(
        name="bias",
        title=f"Where {task.model_id} looks: {found.names[0]} and {found.names[1]}",
        tables=_tables(rows, taken.names, seed),
        controls=controls(rows, OBJECT if taken.kind != "folders" else FACES, seed),
        settings={
            "model": task.model_id,
            "data": Path(data).name,
            "groups": list(found.names),
            "method": chosen,
            "layer": layer or "default",
            "explained": pick.explained,
            "limit": limit,
            "seed": seed,
        },
        notes=_notes(rows, taken, pick.explained, odd, len(untold)),
        items=len(rows),
        seconds=time.perf_counter() - started,
        details={"photos": [asdict(row) for row in rows]},
    )


class _Classes:
    """Explains the group's class, or the likeliest of all."""

    def __init__(self, task: Any, groups: Groups, explained: Explained | None) -> None:
        if task.name != "classify":
            raise InputError(
                f"model {task.model_id!r} is no classifier; photos with {groups.kind} of classes are for classifiers, "
                "such as efficientnet-lite0"
            )
        self._task, self._labels = task, {} if task.labels is None else match(groups.names, task.labels)
        missing = [name for name in groups.names if name not in self._labels]
        if explained == "label" and missing:
            raise InputError(
                f"model {task.model_id!r} has no label for {missing[0]!r}; leave out --explained, or say prediction"
            )
        self._told = not missing
        self.explained = explained or ("prediction" if missing else "label")

    def __call__(self, photo: Photo, member: Member, options: Mapping[str, Any]) -> tuple[Explanation, bool | None]:
        numbers = self._labels.get(member.group, ())
        right: list[bool | None] = []

        def choose(logits: Tensor) -> list[list[Target]]:
            ranked = self._task.top(logits, len(self._task.labels) if self._told else 1)[0]
            right.append(ranked[0].ids[0] in numbers if self._told else None)
            if self.explained == "prediction":
                return [ranked[:1]]
            return [[next(target for target in ranked if target.ids[0] in numbers)]]

        (explanation,) = explain(self._task, self._task.prepare(photo), choose, **options)
        return explanation, right[0]


class _Words:
    """Explains the group's word in a caption that a person wrote."""

    explained = "word"

    def __init__(self, task: Any) -> None:
        if task.name != "caption":
            raise InputError(
                f"model {task.model_id!r} is no captioner; words of captions are for captioners, such as "
                "show-attend-tell"
            )
        self._task = task

    def __call__(self, photo: Photo, member: Member, options: Mapping[str, Any]) -> tuple[Explanation, bool | None]:
        unknown: TargetError | None = None
        for caption in member.captions:
            try:
                explanation: Explanation = self._task.explain(photo, caption, words=[member.group], **options)
            except TargetError as error:
                unknown = error
            else:
                return explanation, None
        raise unknown or TargetError(f"no caption of {member.key!r} holds {member.group!r}")


# -- what is told -----------------------------------------------------------------------------------------------------


def _tables(rows: Sequence[Seen], names: tuple[str, str], seed: int) -> list[Table]:
    groups = {name: [row for row in rows if row.group == name] for name in names}
    looked: list[list[Any]] = []
    differ: list[list[Any]] = []
    for region in regions_of(rows, names):
        for name, members in groups.items():
            looked.append([region, name, *_looked(members, region, seed)])
        pair = [[row.own[region] for row in members if region in row.own] for members in groups.values()]
        found, p = difference(pair[0], pair[1], seed)
        # Text, for a p has more digits than the difference beside it.
        differ.append([region, found, "–" if math.isnan(p) else f"{p:.4f}"])
    heads = ("region", "group", "photos", "area", "energy", "energy / area", "of another's map", "pointing")
    told: list[list[Any]] = [
        [
            name,
            len(members),
            mean(
                [None if row.right is None else float(row.right) for row in members],
                [row.item for row in members],
                seed,
                share=True,
            ),
            sum(not row.own for row in members),
        ]
        for name, members in groups.items()
    ]
    return [
        Table("Where it looks", heads, looked, labels=2, percent=("area", "energy", "pointing")),
        Table(f"{names[0]} less {names[1]}", ("region", "energy / area", "p"), differ),
        Table("Photos", ("group", "photos", "named rightly", "flat maps"), told, percent=("named rightly",)),
    ]


def regions_of(rows: Sequence[Seen], names: Sequence[str]) -> list[str]:
    """The regions that any photo has, and at the end the classes of other objects that :data:`LEAST` photos of one of
    the groups have."""
    counts = {name: Counter(region for row in rows if row.group == name for region in row.own) for name in names}
    total = sum(counts.values(), Counter[str]())
    kinds = [region for region, _ in total.most_common() if region.startswith(KIND)]
    often = [region for region in kinds if max(count[region] for count in counts.values()) >= LEAST]
    return [*(region for region in REGIONS if region in total), *often]


def _looked(rows: Sequence[Seen], region: str, seed: int) -> list[Any]:
    """Photos, area, energy, energy over area, the same of another photo's map, pointing."""
    held = [row for row in rows if region in row.own]
    own = [row.own[region] for row in held]
    others = [row.other[region] for row in held if region in row.other]
    return [
        len(held),
        float(np.mean([one.area for one in own])) if own else None,
        float(np.mean([one.energy for one in own])) if own else None,
        over_area(held, region, seed),
        sum(one.energy for one in others) / sum(one.area for one in others) if others else None,
        float(np.mean([one.hit for one in own])) if own else None,
    ]


def _notes(rows: Sequence[Seen], groups: Groups, explained: str, odd: int, untold: int) -> list[str]:
    a, b = groups.names
    what = {
        "label": "the group's class, by the likeliest label that means it",
        "prediction": "the likeliest class of all, whatever the group",
        "word": "the group's word in a caption that a person wrote, given the words before",
    }[explained]
    notes = [
        f"Explained: {what}.",
        "Energy: share of the map's positive part on the region; area: the region's share of what the model saw. "
        "Energy / area: 1.0 is what a map has that knows nothing of the region; of sums over photos, so that a tiny "
        "region weighs little. Of another's map: the map of another photo of the group, laid over this one. p: of a "
        "permutation test of the difference, one for each region, not corrected for their number.",
    ]
    if groups.kind == "folders":
        notes.append(
            "No objects are marked in this data: only face-like areas and the centre (the middle ninth) can be told."
        )
    else:
        notes.append(
            "A pixel counts for the labelled object, else for people, else for other objects, else for the background."
            + (
                " Objects are boxes of phrases, and people those of phrases about people."
                if groups.kind == WORDS
                else ""
            )
        )
    if any(FACES in row.own for row in rows):
        notes.append(
            "Face-like areas: what a cascade of local binary patterns takes for faces, in photos where people are "
            "marked (in all, where nothing is); it overlooks some, and takes other things for faces."
        )
    if groups.both:
        notes.append(f"{groups.both} photos hold both {a} and {b}, and were left out.")
    if untold:
        notes.append(
            f"{untold} photos were left out: each of their captions holds a word that the model does not know."
        )
    if odd:
        notes.append(f"{odd} photos are not of the size that they were marked at, and were left out.")
    if flat := sum(not row.own for row in rows):
        notes.append(f"{flat} maps are positive nowhere, or not finite, and say nothing.")
    return notes
