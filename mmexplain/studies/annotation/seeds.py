"""Weakly supervised segmentation: maps of image-level labels as seeds (Kolesnikov & Lampert 2016; Selvaraju et al.
2017, §4.2, where Grad-CAM's seeds brought SEC from 44.6 to 49.6 mean IoU on PASCAL VOC 2012)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.evaluate.data.labelled import Labelled
from mmexplain.evaluate.protocol import Progress
from mmexplain.studies.annotation import cues
from mmexplain.studies.annotation.cues import IGNORE, Strengths
from mmexplain.studies.annotation.labelled import (
    Seen,
    Wanted,
    labels_of,
    look,
    one_method,
    read,
    require_classifier,
    wanted,
)
from mmexplain.studies.annotation.photo_files import flat_names, require_apart
from mmexplain.studies.annotation.seed_files import SeedFiles
from mmexplain.studies.annotation.seed_recipe import Made, Recipe
from mmexplain.studies.annotation.seeds_told import CENTRE, RANDOM, Score, controls, marked_table, notes, tables
from mmexplain.studies.annotation.segmentation import numbered, truth
from mmexplain.studies.study import Study


def study_seeds(
    task: Any,
    data: str | Path,
    recipe: Recipe | None = None,
    *,
    method: str = "gradcam",
    layer: str | None = None,
    limit: int | None = None,
    out: Path | None = None,
    photos: bool = False,
    progress: Progress | None = None,
) -> tuple[Study, list[Path]]:
    """Make seeds of all photos of which the classes are known; where people drew masks, tell how good they are.

    The controls are made by the same recipe from other maps: a Gaussian in the middle of the photo that marks as many
    pixels as the class's own map does, and the map of a label drawn at random from those of classes not in the photo.
    If seeds tell more than that things are in the middle, and than what the model finds striking, both are worse.

    Args:
        task: a classifier with class names.
        data: see :func:`mmexplain.studies.annotation.labelled.read`.
        recipe: how maps become masks; SEC's threshold and GrabCut if None.
        method: of the registry.
        layer: where maps are read; the model's default if None.
        limit: the first photos only.
        out: folder for masks and lists; see ``mmexplain/studies/annotation/seed_files.py``.
        photos: copy the photos there too.
        progress: told how many photos are done.

    Returns:
        What was found, and what was written to ``out``, a folder of pictures as one.

    Raises:
        InputError: the task is no classifier, the data cannot be used, or an option is out of range.
        MethodError, LayerError: see :func:`mmexplain.explain`.
    """
    started, recipe = time.perf_counter(), recipe or Recipe()
    require_classifier(task, "seeds")
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: study at least one photo")
    if recipe.grabcut:
        cues.opencv()
    method = one_method(method)
    everything = read(Path(data))
    labels = labels_of(task, everything, Path(data))
    numbers = numbered(list(labels))
    chosen = [photo for photo in everything if any(name in labels for name in photo.names)][:limit]
    names = flat_names(chosen)
    if out is not None:
        require_apart(out, Path(data), [photo.path for photo in chosen], "JPEGImages")
    files = None if out is None else SeedFiles(out, numbers, photos)
    explained: dict[str, list[Wanted]] = {}

    def choose(photo: Labelled, logits: Tensor) -> Sequence[int]:
        explained[photo.key] = wanted(photo, labels, logits, recipe.seed)
        return [number for one in explained[photo.key] for number in one.numbers]

    scores = {kind: Score(max(numbers.values()) + 1) for kind in (method, CENTRE, RANDOM)}
    marked: list[float] = []
    methods = list(dict.fromkeys([method, *(["saliency"] if recipe.background == "saliency" else [])]))
    seen_photos = look(task, chosen, choose, methods, layer, recipe.seed, progress)
    for name, seen in zip(names, seen_photos, strict=True):
        rows = explained.pop(seen.photo.key)
        own = {numbers[one.name]: one.label for one in rows}
        made = _made(recipe, seen, method, own)
        marked.append(float((made.seeds != IGNORE).mean()))
        true = truth(seen.photo.scene, numbers) if seen.measurable and seen.photo.scene is not None else None
        if files is not None:
            files.add(name, seen.photo.path, list(own), made.seeds, made.refined)
        if true is None:
            continue
        scores[method].add(made, true)
        scores[CENTRE].add(_centre(recipe, seen, method, own), true)
        if drawn := {numbers[one.name]: one.other for one in rows if one.other is not None}:
            scores[RANDOM].add(_made(recipe, seen, method, drawn), true)
    written = [] if files is None else files.finish()
    measured = {kind: score for kind, score in scores.items() if score.masks.shared}
    study = Study(
        name="seeds",
        title="Seeds for weakly supervised segmentation (Kolesnikov & Lampert 2016; Selvaraju et al. 2017)",
        tables=[
            *(tables(measured, numbers, recipe.seed) if measured else []),
            marked_table(method, marked, [photo.key for photo in chosen], recipe.seed),
        ],
        controls=controls(measured, recipe.seed) if measured else [],
        settings={"model": task.model_id, "method": method, "layer": layer or "default", **asdict(recipe)},
        notes=notes(everything, chosen, labels, len(scores[method].masks.shared)),
        items=len(chosen),
        seconds=time.perf_counter() - started,
        details={"numbers": numbers, "iou": {kind: score.iou(numbers) for kind, score in measured.items()}},
    )
    return study, written


def _made(recipe: Recipe, seen: Seen, method: str, labels: Mapping[int, int]) -> Made:
    strengths = {number: cues.strength(seen.heat(label, method)) for number, label in labels.items()}
    return recipe.masks(_pixels(seen), strengths, _saliency(recipe, seen, labels))


def _centre(recipe: Recipe, seen: Seen, method: str, labels: Mapping[int, int]) -> Made:
    strengths = {}
    for number, label in labels.items():
        found = cues.strength(seen.heat(label, method))
        count = int(cues.foreground({number: found}, recipe.threshold)[number].sum())
        strengths[number] = cues.centred(found, count, recipe.threshold)
    return recipe.masks(_pixels(seen), strengths, _saliency(recipe, seen, labels))


def _pixels(seen: Seen) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = seen.explanation.picture.pixels.numpy()
    return pixels


def _saliency(recipe: Recipe, seen: Seen, labels: Mapping[int, int]) -> Strengths:
    """The gradient's magnitude, without the specks that a median over 3 × 3 of the model's pixels takes away."""
    if recipe.background != "saliency":
        return {}
    found = {}
    for number, label in labels.items():
        values = seen.explanation.map(seen.targets[label], None, "saliency").detach().float().cpu().numpy()
        smooth = torch.from_numpy(ndimage.median_filter(values, 3))
        found[number] = cues.strength(seen.explanation.geometry.to_original(smooth).numpy())
    return found
