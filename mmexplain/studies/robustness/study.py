"""Study: do maps of what is in a photo survive an attack that makes the model see something else?

Selvaraju et al. 2017 ("Effect of adversarial noise on VGG-16"): photos of a boxer and a tiger cat are changed until the
model is sure of an airliner (p > 0.9999), and Grad-CAM of the true classes marks them all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmexplain.errors import InputError
from mmexplain.methods.registry import DEFAULT_METHOD, select
from mmexplain.studies.robustness.attack import TargetedPGD
from mmexplain.studies.robustness.figure import figure
from mmexplain.studies.robustness.found import Found, controls, tables
from mmexplain.studies.robustness.rows import AttackedPhotos
from mmexplain.studies.robustness.true_classes import known_photos, without
from mmexplain.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TARGET = "airliner"
"""What the paper makes its model see."""

BATCH = 8


def robustness(
    task: Any,
    data: str | Path,
    *,
    target: str | int = TARGET,
    attack: TargetedPGD | None = None,
    limit: int | None = None,
    methods: Sequence[str] = (DEFAULT_METHOD,),
    layer: str | None = None,
    seed: int = 0,
    pictures: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Study, Figure]:
    """Attack photos until a model is sure of a class that is not there, and compare maps of the classes that are.

    Each photo is seen as it is, attacked, with uniform noise of the L∞ size that the attack used, and another photo of
    the data in its place. Maps of its true classes are compared (Spearman's rank correlation at the layer's
    resolution; SSIM, see :mod:`mmexplain.evaluate.metrics.structure`), and where objects are marked it is measured
    whether they lie on them (:mod:`mmexplain.evaluate.metrics.pointing`, ``grounding``).

    Args:
        task: a classifier with class names; it comes back as it was.
        data: a folder of photos, or of photos with marked objects: see
            :func:`~mmexplain.studies.robustness.true_classes.known_photos`.
        target: the class that the attack makes the model see. Photos that hold it are left out.
        attack: its options; the defaults of :class:`~mmexplain.studies.robustness.attack.TargetedPGD` if None.
        limit: the first so many photos only.
        methods: names from the registry.
        layer: where maps are read; the model's default if None.
        seed: of starts, noise, which photo stands for another, and of methods that draw at random.
        pictures: photos in the figure, at most.
        progress: told how many photos of how many are done.

    Returns:
        The study, and a figure of photos, attacked photos and maps.

    Raises:
        InputError: no classifier with names and probabilities, unusable data, fewer than two photos, or an attack that
            reached no photo.
        TargetError, MethodError, LayerError: there is no such class, method or layer.
    """
    started = time.perf_counter()
    if getattr(task, "name", "") != "classify" or task.labels is None:
        raise InputError("study 'robustness' is for classifiers with class names, such as efficientnet-lite0")
    if limit is not None and limit < 2:
        raise InputError(f"limit={limit}: take 2 photos or more, a control holds each against another one")
    if pictures < 1:
        raise InputError(f"pictures={pictures}: a figure shows 1 photo or more")
    attack = attack or TargetedPGD()
    wanted = task.target(target)
    known, notes = known_photos(task, Path(data))
    photos = without(known, wanted.ids[0])
    if len(photos) < len(known):
        notes.append(f"Left out: {len(known) - len(photos)} photos that hold what {wanted.label!r} means.")
    photos = photos[:limit]
    if len(photos) < 2:
        raise InputError(
            f"{str(data)!r} holds {len(photos)} photos that can be made to show {wanted.label!r}; give 2 or more"
        )
    run = AttackedPhotos(task, wanted, attack, [method.name for method in select(methods)], layer, seed, pictures)
    # Each photo has another one to stand for it: the next one on a way through all in random order.
    order = torch.randperm(len(photos), generator=run.generator).tolist()
    other = {one: following for one, following in zip(order, [*order[1:], order[0]], strict=True)}
    for start in range(0, len(photos), BATCH):
        batch = range(start, min(start + BATCH, len(photos)))
        run.measure([photos[number] for number in batch], [photos[other[number]] for number in batch])
        if progress is not None:
            progress(batch.stop, len(photos))
    found = Found(wanted.label, attack, run.changed, run.mapped)
    if not found.reached:
        raise InputError(
            f"the attack took the model to p > {attack.confidence:g} of {wanted.label!r} on none of {len(photos)} "
            "photos: raise epsilon or steps, lower the confidence, or choose another target"
        )
    settings = {"model": task.model_id, "target": wanted.label, "epsilon": f"{255 * attack.epsilon:g}/255"}
    settings |= {"confidence": attack.confidence, "steps": f"at most {attack.steps}", "methods": run.methods}
    study = Study(
        "robustness",
        "Maps under a targeted adversarial attack (Selvaraju et al. 2017; Madry et al. 2018)",
        tables(found),
        controls(found),
        settings | {"layer": layer or "default", "seed": seed},
        [*notes, *found.notes()],
        len({row.photo for row in run.changed}),
        round(time.perf_counter() - started, 1),
        {"photos": [asdict(row) for row in run.changed], "maps": [asdict(row) for row in run.mapped]},
    )
    return study, figure(run.shown, wanted.label, run.methods[0], attack)
