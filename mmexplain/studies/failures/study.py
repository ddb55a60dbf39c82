"""Failure modes: the most confidently wrong photos, with maps of the predicted and of the true class side by side.

After Selvaraju et al., "Grad-CAM", IJCV 2019, §6.1 and Fig. 6: "seemingly unreasonable predictions have reasonable
explanations". Here that is counted too: on how many of the wrong photos the map of the true class still points at the
object, on how many that of the predicted class does, and how much more often than that of a class drawn at random.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.data.classes import match
from mmexplain.evaluate.data.labelled import Labelled, read_labelled
from mmexplain.evaluate.masks import Mask, near, union
from mmexplain.evaluate.metrics.pointing import TOLERANCE, hit
from mmexplain.evaluate.metrics.rank_correlation import rank_correlation
from mmexplain.evaluate.protocol import Progress
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.geometry import Box
from mmexplain.methods.registry import select
from mmexplain.studies.failures.judged import Judged, Role, shared
from mmexplain.studies.failures.told import controls, notes, tables
from mmexplain.studies.study import Study
from mmexplain.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST = 8
BATCH = 8
PAGE = "failures.html"


@dataclass(frozen=True)
class Failure:
    """One of the worst photos.

    Attributes:
        photo: its numbers.
        explanation: maps of the predicted and of the true class, in that order.
        boxes: of the objects of the true class, in pixels of the file; none where none are marked.
    """

    photo: Judged
    explanation: Explanation
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Failures:
    """What :func:`failures` found.

    Attributes:
        study: tables and controls; its details hold the numbers of every wrong photo.
        worst: the most confidently wrong, most confident first.
    """

    study: Study
    worst: list[Failure]

    def figure(self) -> Figure | None:
        """A contact sheet: each of the worst photos beside the maps of the predicted and the true class; None where no
        photo is wrong."""
        from mmexplain.studies.failures.sheet import sheet

        return sheet(self.study.title, self.worst) if self.worst else None

    def save(self, folder: Path) -> list[Path]:
        """Write ``study.json``, ``study.md``, the sheet as ``study.png`` and a page to look closer, ``failures.html``,
        into a folder; the last two only where a photo is wrong.

        Raises:
            InputError: the system refused.
        """
        from mmexplain.render import save_report

        paths = self.study.save(folder, self.figure())
        if self.worst:
            title = f"{self.study.title}: the most confidently wrong"
            paths.append(save_report([failure.explanation for failure in self.worst], folder / PAGE, title))
        return paths


def failures(
    task: Any,
    data: str | Path,
    *,
    method: str = "gradcam",
    layer: str | None = None,
    worst: int = WORST,
    limit: int | None = None,
    tolerance: float = TOLERANCE,
    closed: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Failures:
    """Classify labelled photos, and explain what went wrong.

    A photo is wrong if the likeliest label means none of its classes. Explained are, in one forward pass, the likeliest
    label, the likeliest of those that mean a class of the photo, and one drawn from all others.

    Args:
        task: a classifier with class names.
        data: see :func:`mmexplain.evaluate.data.labelled.read_labelled`.
        method: that makes the maps.
        layer: where maps are read; the model's default if None.
        worst: how many photos are shown.
        limit: photos at most, the first ones that have a class of the model.
        tolerance: pixels of the file by which a map's maximum may miss the object.
        closed: only labels that mean a class of the data can be predicted, or drawn: for data that does not mark all
            that a photo holds. Probabilities stay those among all labels.
        seed: of the classes that are drawn, of the intervals, and of methods that draw at random.
        progress: told how many photos of how many are done.

    Raises:
        InputError: the task is no classifier with names or puts out no probabilities, the data cannot be read, a photo
            cannot be, the model has none of the classes, or an option is out of range.
        MethodError, LayerError, ModelError, DeviceError: see :func:`mmexplain.explain`.
    """
    started = time.perf_counter()
    if getattr(task, "name", "") != "classify" or task.labels is None:
        raise InputError("failures are studied of classifiers with class names, such as efficientnet-lite0")
    if worst < 1 or (limit is not None and limit < 1):
        raise InputError(f"worst={worst}, limit={limit}: show and classify 1 photo or more")
    if tolerance < 0:
        raise InputError(f"tolerance={tolerance}: a number of pixels cannot be negative")
    chosen = select([method])
    if len(chosen) != 1:
        raise InputError(f"method {method!r} stands for {len(chosen)} methods; name one")
    everything = read_labelled(Path(data))
    names = list(dict.fromkeys(name for photo in everything for name in photo.names))
    meant = match(names, task.labels)
    photos = [photo for photo in everything if any(name in meant for name in photo.names)]
    if not photos:
        shown_names = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        raise InputError(
            f"model {task.model_id!r} has none of the {len(names)} classes of {str(data)!r} ({shown_names}); classes "
            "must be called as the model's labels, by their synsets, or as COCO's or VOC's"
        )
    left_out, photos = len(everything) - len(photos), photos[:limit]
    looking = _Looking(task, meant, chosen[0].name, layer, tolerance, seed, closed)
    judged: list[Judged] = []
    shown: list[Failure] = []
    for start in range(0, len(photos), BATCH):
        found = list(looking.at(photos[start : start + BATCH]))
        judged += [failure.photo for failure in found]
        wrong = [failure for failure in found if failure.photo.wrong]
        # Only the worst keep their photos and maps, however many there are.
        shown = sorted([*shown, *wrong], key=lambda failure: -failure.photo.confidence)[:worst]
        if progress is not None:
            progress(len(judged), len(photos))
    study = Study(
        name="failures",
        title=f"Failures of {task.model_id} on {Path(data).resolve().name}",
        tables=tables(judged, [failure.photo for failure in shown], seed),
        controls=controls(judged, seed),
        settings={
            "model": task.model_id,
            "method": chosen[0].name,
            "layer": looking.read_at,
            "tolerance": tolerance,
            "closed": closed,
            "limit": limit,
            "seed": seed,
        },
        notes=notes(judged, tolerance, closed, names, meant, left_out),
        items=len(judged),
        seconds=time.perf_counter() - started,
        details={"wrong": [photo.record() for photo in sorted(judged, key=lambda one: -one.confidence) if photo.wrong]},
    )
    return Failures(study, shown)


@dataclass
class _Looking:
    """Classifies and explains photos.

    Attributes:
        task: the classifier.
        meant: class of the data → numbers of the labels that mean it.
        method: that makes the maps.
        layer: where they are read; the model's default if None.
        tolerance: of the pointing game, pixels.
        seed: of the classes that are drawn.
        closed: only labels that mean a class of the data are predicted or drawn.
        read_at: the layer that the last maps were of.
    """

    task: Any
    meant: Mapping[str, Sequence[int]]
    method: str
    layer: str | None
    tolerance: float
    seed: int
    closed: bool = False
    read_at: str = ""

    def at(self, photos: Sequence[Labelled]) -> Iterator[Failure]:
        """The photos of a batch, wrong or not."""
        chosen: list[tuple[dict[Role, int], int, bool]] = []

        def choose(logits: Tensor) -> list[list[Target]]:
            # A single logit is that of the second of two labels.
            columns = torch.cat((-logits, logits), 1) if logits.shape[1] == 1 else logits
            chosen.extend(self._roles(*pair) for pair in zip(photos, columns.float().cpu(), strict=True))
            return [[self.task.target(number) for number in dict.fromkeys(roles.values())] for roles, *_ in chosen]

        explanations = explain(
            self.task,
            self.task.prepare([photo.path for photo in photos]),
            choose,
            layers=None if self.layer is None else [self.layer],
            methods=[self.method],
            seed=self.seed,
        )
        for photo, explanation, (roles, rank, wrong) in zip(photos, explanations, chosen, strict=True):
            yield self._judged(photo, explanation, roles, rank, wrong)

    def _roles(self, photo: Labelled, logits: Tensor) -> tuple[dict[Role, int], int, bool]:
        """The labels that are explained, the rank of the true one, and whether the photo is classified wrongly."""
        right = {number for name in photo.names for number in self.meant.get(name, ())}
        every = sorted({n for numbers in self.meant.values() for n in numbers}) if self.closed else range(len(logits))
        score = logits.tolist()
        predicted = max(every, key=score.__getitem__)
        true = predicted if predicted in right else max(right, key=score.__getitem__)
        roles: dict[Role, int] = {"predicted": predicted, "true": true}
        others = [number for number in every if number not in right and number != predicted]
        if others:
            # Drawn by the photo's name: the same whichever photos are looked at with it.
            roles["random"] = random.Random(f"{self.seed} {photo.key}").choice(others)
        return roles, 1 + sum(score[number] > score[true] for number in every), predicted not in right

    def _judged(
        self, photo: Labelled, explanation: Explanation, roles: Mapping[Role, int], rank: int, wrong: bool
    ) -> Failure:
        if explanation.probabilities is None:
            raise InputError(f"model {self.task.model_id!r} puts out no probabilities, by which failures are ranked")
        if len(explanation.maps) != 1:
            raise InputError(f"layer {self.layer!r} stands for {len(explanation.maps)} layers; name one")
        self.read_at = explanation.layers[0]
        places = {number: place for place, number in enumerate(dict.fromkeys(roles.values()))}
        at = {role: places[number] for role, number in roles.items()}
        maps = {role: explanation.map(place) for role, place in at.items()}
        known = [name for name in photo.names if roles["true"] in self.meant.get(name, ())]
        area, boxes = self._objects(photo, known, explanation)
        hits: dict[str, float] = {}
        if area is not None:
            height, width = area.shape
            hits["centre"] = hit((width // 2, height // 2), area)
            for role, place in at.items():
                if bool(maps[role].isfinite().all()):
                    hits[role] = hit(explanation.peak(place), area)
        others = [role for role in at if role != "predicted"]
        judged = Judged(
            file=photo.key,
            classes=photo.names,
            wrong=wrong,
            foreign=not any(roles["predicted"] in numbers for numbers in self.meant.values()),
            rank=rank,
            labels={role: explanation.targets[place].label for role, place in at.items()},
            probabilities={role: float(explanation.probabilities[place]) for role, place in at.items()},
            hits=hits,
            correlations={role: rank_correlation(maps["predicted"], maps[role]) for role in others},
            overlaps={role: shared(maps["predicted"], maps[role]) for role in others},
        )
        return Failure(judged, _pair(explanation) if wrong else explanation, boxes)

    def _objects(
        self, photo: Labelled, names: Sequence[str], explanation: Explanation
    ) -> tuple[Mask | None, tuple[Box, ...]]:
        """Bool ``[h, w]``: where a map of the true class may point, and boxes; None where nothing is marked, or at
        another size than the photo's, or only where the model saw nothing."""
        scene = photo.scene
        if scene is None or scene.size != explanation.geometry.original:
            return None, ()
        area = union((scene.mask(name) for name in names), scene.size)
        boxes = tuple(thing.box for name in names for thing in scene.of(name))
        seen = ~explanation.heatmap().isnan().cpu().numpy()
        return near(area, self.tolerance) if (area & seen).any() else None, boxes


def _pair(explanation: Explanation) -> Explanation:
    """The predicted and the true class alone, and called so."""
    told = ("predicted", "true")
    return replace(
        explanation,
        targets=[
            replace(target, label=f"{role}: {target.label}")
            for role, target in zip(told, explanation.targets, strict=False)
        ],
        scores=explanation.scores[:2],
        probabilities=None if explanation.probabilities is None else explanation.probabilities[:2],
        maps={key: value[:2] for key, value in explanation.maps.items()},
    )
