"""A case of data set bias that is known, found by maps and removed: Selvaraju et al. 2017, "Grad-CAM", section 6.3.

There a classifier of doctors and nurses, trained on what an image search had found (78 % of the doctors were men, 93 %
of the nurses women), reached 82 % on an unbiased test set; its maps lay on faces and hair. With a training set that was
balanced for that it reached 90 %, and looked at white coats and stethoscopes. Here animals and vehicles are cut from
photos and laid on grass and snow; in the biased training set animals stand on grass and vehicles on snow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmexplain.errors import InputError
from mmexplain.evaluate.data.flickr8k import read_flickr8k
from mmexplain.evaluate.data.objects import read
from mmexplain.explainer import explain
from mmexplain.methods.registry import select
from mmexplain.studies.bias.composites import Composite, Cutout, Ground, cut_out, draw, grounds
from mmexplain.studies.bias.design import (
    BALANCED,
    BIASED,
    CLASSES,
    CORRELATION,
    GROUNDS,
    PARTS,
    SHUFFLED,
    TRAININGS,
    UNBIASED,
    cells,
)
from mmexplain.studies.bias.regions import BACKGROUND, OBJECT
from mmexplain.studies.bias.seen import Looking
from mmexplain.studies.bias.told import Right, Row, accuracy, by_cell, by_seed, controls, looks, notes
from mmexplain.studies.bias.training import Headed, fit, stacked, trunk_of
from mmexplain.studies.study import Study
from mmexplain.surroundings import evaluating
from mmexplain.targets import Target
from mmexplain.tasks.base import photo_batch
from mmexplain.tasks.classification.bundled import NAME
from mmexplain.tasks.classification.task import Classifier
from mmexplain.tasks.registry import load

AT_ONCE = 32
STAGES = 5
"""A grid of 14 × 14 of 112 channels."""


class _Steps:
    """Counts composites that the network has seen.

    Args:
        progress: is told.
        total: how many there will be.
    """

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._count = progress, total, 0

    def done(self, count: int) -> None:
        """So many more."""
        self._count += count
        if self._progress:
            self._progress(self._count, self._total)


@dataclass(frozen=True)
class _Pool:
    """Composites of a part, and what the frozen network makes of them.

    Attributes:
        composites: N of them.
        features: ``[N, C]``.
        labels: int64 ``[N]``.
    """

    composites: Sequence[Composite]
    features: Tensor
    labels: Tensor

    def take(self, size: int, correlation: float) -> list[int]:
        """Numbers of the first composites of each class and ground that make a set of ``size``."""
        left = cells(size, correlation)
        chosen = []
        for number, one in enumerate(self.composites):
            if left[one.label, one.ground] > 0:
                left[one.label, one.ground] -= 1
                chosen.append(number)
        return chosen


def planted(
    folder: str | Path,
    *,
    method: str = "gradcam",
    layer: str | None = None,
    train: int = 400,
    seeds: int = 3,
    stages: int = STAGES,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Plant a bias, find it with maps, remove it by rebalancing.

    Args:
        folder: holds ``coco_mini`` and ``flickr8k``.
        method: of the maps.
        layer: of the maps; what the linear layer reads if None.
        train: composites of a training set; the test sets are half as large, the validation sets a quarter.
        seeds: how often all is done anew: photos dealt to the parts, composites drawn, heads trained.
        stages: of EfficientNet-Lite0's seven, whose output the layer reads.
        seed: of all draws.
        device: where the network runs.
        progress: told how many steps of how many are done.

    Raises:
        InputError: no such data, or an option out of range.
        MethodError, LayerError, ModelError, DeviceError: no such method, layer, model or device.
    """
    started = time.perf_counter()
    if train < 40 or seeds < 1:
        raise InputError(f"train={train}, seeds={seeds}: a training set needs 40 composites, and a study one seed")
    (chosen,) = (one.name for one in select([method]))
    folder = Path(folder)
    for name in ("coco_mini", "flickr8k"):
        if not (folder / name).is_dir():
            raise InputError(f"{str(folder)!r} holds no folder {name!r}: the planted case needs coco_mini and flickr8k")
    cutouts = _cutouts(folder / "coco_mini")
    pools = {part: _grounds(folder / "flickr8k", split) for part, (split, _) in PARTS.items()}
    base: Any = load(NAME, "classify", device)
    trunk = trunk_of(base.model, stages)
    options = {"methods": [chosen], "layers": None if layer is None else [layer], "seed": seed}
    each = sum(sum(_needed(train, part).values()) for part in PARTS) + train // 2
    steps = _Steps(progress, seeds * each)
    rows: list[Row] = []
    right: list[Right] = []
    decays: list[dict[str, Any]] = []
    for number in range(seeds):
        random = np.random.default_rng([seed, number])
        parts = _dealt(cutouts, random)
        made = {
            part: _pool(draw(parts[part], pools[part], _needed(train, part), random), trunk, base, steps)
            for part in PARTS
        }
        test = made["test"]
        unbiased = [test.composites[n] for n in random.permutation(test.take(train // 2, BALANCED))]
        trained = list(_heads(made, train, random))
        for training, head, decay in trained:
            guessed = head(test.features).argmax(1) == test.labels
            for name, correlation in ((BIASED, CORRELATION), (UNBIASED, BALANCED)):
                for place in test.take(train // 2, correlation):
                    right.append(Right(training, name, number, test.composites[place], bool(guessed[place])))
            decays.append({"seed": number, "training": training, "weight decay": decay})
        model = Classifier(
            Headed(trunk, stacked([head for _, head, _ in trained]).to(base.device)).eval(),
            replace(base.preprocess, resize=None, crop=None),
            [f"{training}: {name}" for training in TRAININGS for name in CLASSES],
            layer="trunk",
            model_id=NAME,
        )
        rows += _measured(model, unbiased, options, seed + number, steps)
    settings = {
        "model": f"{NAME} up to stage {stages} of 7, frozen, and a linear layer",
        "data": "coco_mini, flickr8k",
        "method": chosen,
        "layer": layer or "trunk",
        "train": train,
        "test": train // 2,
        "seeds": seeds,
        "seed": seed,
    }
    return Study(
        name="bias",
        title="A planted bias: animals on grass, vehicles on snow",
        tables=[accuracy(right, seed), looks(rows, seed), by_cell(rows, seed)],
        controls=controls(rows, right, seed),
        settings=settings,
        notes=notes(rows, cutouts, pools, train),
        items=len({row.composite.source for row in rows}),
        seconds=time.perf_counter() - started,
        details={"accuracy": by_seed(right), "weight decay": decays},
    )


def _measured(
    model: Classifier, composites: Sequence[Composite], options: Mapping[str, Any], seed: int, steps: _Steps
) -> Iterator[Row]:
    """Of each composite the maps of what each training's layer says: all of one pass, for they share the network."""
    looking = {training: Looking(seed) for training in TRAININGS}

    def choose(logits: Tensor) -> list[list[Target]]:
        said = logits.unflatten(1, (len(TRAININGS), len(CLASSES))).argmax(2)
        return [[model.target(2 * place + label) for place, label in enumerate(row)] for row in said.tolist()]

    for begin in range(0, len(composites), AT_ONCE):
        some = composites[begin : begin + AT_ONCE]
        explanations = explain(model, model.prepare([one.image for one in some]), choose, **options)
        for one, explanation in zip(some, explanations, strict=True):
            regions, group = {OBJECT: one.mask, BACKGROUND: ~one.mask}, list(CLASSES)[one.label]
            for number, (training, look) in enumerate(looking.items()):
                right = explanation.targets[number].ids[0] % 2 == one.label
                yield Row(training, one, look.see(explanation, regions, one.source, group, right, number))
        steps.done(len(some))


# -- data --------------------------------------------------------------------------------------------------------------


def _cutouts(folder: Path) -> list[dict[int, list[Cutout]]]:
    """Of each photo that holds objects of one of the two classes and none of the other, the cut-outs by class."""
    found = []
    for scene in read(folder):
        held = {label: cut_out(scene, names) for label, names in enumerate(CLASSES.values())}
        held = {label: objects for label, objects in held.items() if objects}
        if len(held) == 1:
            found.append(held)
    return found


def _dealt(
    photos: Sequence[dict[int, list[Cutout]]], random: np.random.Generator
) -> dict[str, dict[int, list[Cutout]]]:
    """Part → class → cut-outs; the photos of each class are dealt at random, each to one part."""
    parts: dict[str, dict[int, list[Cutout]]] = {part: {} for part in PARTS}
    for label, name in enumerate(CLASSES):
        own = [photo[label] for photo in photos if label in photo]
        order, ends = random.permutation(len(own)), np.cumsum([share for _, share in PARTS.values()])
        begin = 0
        for part, end in zip(PARTS, (ends * len(own)).round().astype(int), strict=True):
            parts[part][label] = [one for place in order[begin:end] for one in own[place]]
            begin = end
            if not parts[part][label]:
                raise InputError(f"too few photos hold a large enough {name} to deal them to {', '.join(PARTS)}")
    return parts


def _grounds(folder: Path, split: str) -> dict[int, list[Ground]]:
    kinds, photos = list(GROUNDS.values()), read_flickr8k(folder, split)
    found = {kind: grounds(folder, photos, kinds[kind], kinds[1 - kind]) for kind in (0, 1)}
    for kind, name in enumerate(GROUNDS):
        if not found[kind]:
            raise InputError(f"{str(folder)!r}: no photo of split {split!r} has a free square of {name}")
    return found


def _needed(train: int, part: str) -> dict[tuple[int, int], int]:
    """As many of each class and ground as the biased and the balanced set of a part need, which share composites."""
    size = {"train": train, "validation": train // 4, "test": train // 2}[part]
    biased, balanced = cells(size, CORRELATION), cells(size, BALANCED)
    return {cell: max(biased[cell], balanced[cell]) for cell in biased}


def _pool(composites: Sequence[Composite], trunk: nn.Module, base: Classifier, steps: _Steps) -> _Pool:
    fitting: Any = base.preprocess
    preprocess, found = replace(fitting, resize=None, crop=None), []
    for begin in range(0, len(composites), AT_ONCE):
        some = composites[begin : begin + AT_ONCE]
        batch = photo_batch([one.image for one in some], preprocess, base.device)
        with torch.no_grad(), evaluating(trunk):
            found.append(trunk(batch.inputs["image"]).mean((2, 3)).float().cpu())
        steps.done(len(some))
    return _Pool(composites, torch.cat(found), torch.tensor([one.label for one in composites]))


def _heads(
    made: Mapping[str, _Pool], train: int, random: np.random.Generator
) -> Iterator[tuple[str, nn.Linear, float]]:
    """Training → layer and weight decay. Each chooses its weight decay on a validation set like its training set."""
    for training in TRAININGS:
        correlation = CORRELATION if training == BIASED else BALANCED
        sets = []
        for part, size in (("train", train), ("validation", train // 4)):
            places, pool = made[part].take(size, correlation), made[part]
            labels = pool.labels[places]
            if training == SHUFFLED:
                labels = labels[torch.from_numpy(random.permutation(len(labels)))]
            sets.append((pool.features[places], labels))
        yield training, *fit(*sets[0], sets[1])
