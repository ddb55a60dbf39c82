"""The maps of one network layer by layer: how they change with depth, and how well they tell targets apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from mmexplain.errors import InputError, LayerError, MethodError, MMExplainError
from mmexplain.interpolate import centres, interpolate
from mmexplain.layer_report import Layer, LayersReport
from mmexplain.means import mean
from mmexplain.methods import get
from mmexplain.ranks import correlation, ranks
from mmexplain.taps import resolve
from mmexplain.units import Network, follow

if TYPE_CHECKING:
    from mmexplain.explanation import Explanation
    from mmexplain.tasks.base import Task

EMPTY = (640, 480)
"""Width and height of the photo on which layers are looked for when none is at hand; most models crop it."""

FINEST = 128
"""Points on a side of the common grid at most: twice as fine as all but the first layers of a network."""

FLAT = 1e-6
"""A map whose values differ by less than this share of the largest is rounding, not a map."""

_TARGETS = {"vqa": "answers", "caption": "words"}
"""What a task's ``explain`` calls its targets, where it is not ``targets``."""


def layers_report(
    task: Task,
    image: Any,
    targets: Any = None,
    *,
    method: str = "gradcam",
    layers: str | Sequence[str] | None = None,
    **options: Any,
) -> LayersReport:
    """Explain one photo or clip at every stage or block of a network, and compare the maps.

    One forward pass finds the layers; all maps come out of one gradient pass. To be compared, maps are brought to a
    common grid over the model's input bilinearly, at most 128 points on a side; the numbers are those of
    :class:`~mmexplain.layer_report.Layer`.

    Args:
        task: what :func:`mmexplain.load` gives, or a task of one's own.
        image: one photo (or video), as ``task.explain`` takes it.
        targets: classes or actions; for a captioner words of the caption, for a VQA model answers. None takes the two
            likeliest (every word of a caption; of a model that writes its answer).
        method: one that makes a map at each layer.
        layers: "stages" (the last block of each), "blocks" (all of them), or dotted names and globs. None means
            stages, or blocks where the resolution never drops, as in a ViT.
        options: go to ``task.explain``: ``question``, ``caption``, ``score``, ``memory`` …

    Raises:
        MethodError: the method makes no map of its own at each layer.
        LayerError: no such layer, or no blocks are found.
        InputError, TargetError, ModelError, DeviceError: see ``task.explain``.
    """
    if isinstance(image, (list, tuple)):
        raise InputError("the layers of a network are analysed on one photo at a time; give one, not a list")
    chosen = get(method)
    if not (chosen.space in ("layer", "product") or chosen.at_layers):
        raise MethodError(f"{chosen.name!r} makes one map, not one for each layer; use 'gradcam'")
    network = _network(task, image)
    names, grids = _layers(task, network, layers)
    told = _TARGETS.get(task.name, "targets")
    if targets is not None:
        options[told] = targets
        if task.name == "vqa":
            options.setdefault("top", 0)
    elif task.name != "caption" and (task.name != "vqa" or getattr(task, "labels", None) is not None):
        options.setdefault("top", 2)
    explanation: Explanation = task.explain(image, layers=names, methods=[method], **options)  # type: ignore[attr-defined]
    return compare(explanation, grids)


def compare(explanation: Explanation, grids: Sequence[tuple[int, ...]] | None = None) -> LayersReport:
    """The report of an explanation by one method at several layers, which are taken to run in the order they stand in.

    Args:
        explanation: holds the maps.
        grids: of the layers, where the maps' own are not; for methods whose maps have the size of the input.

    Raises:
        MethodError: the maps are of several methods.
    """
    keys = list(explanation.maps)
    if len({key.method for key in keys}) != 1:
        raise MethodError(f"layers are compared for one method, not for {len(explanation.methods)}")
    maps = [
        torch.stack([explanation.map(number, key.layer, key.method) for number in range(len(explanation))])
        .detach()
        .cpu()
        .double()
        for key in keys
    ]
    common = _common(explanation, maps)
    laid = [_laid(values, common) for values in maps]
    flat = [[_is_flat(values) for values in layer] for layer in maps]
    ranked = [[None if f else ranks(v) for f, v in zip(*pair, strict=True)] for pair in zip(flat, laid, strict=True)]
    listed = list(grids) if grids is not None else [tuple(values.shape[1:]) for values in maps]
    count = len(explanation)
    reference = [next((row[k] for row in reversed(ranked) if row[k] is not None), None) for k in range(count)]
    found: list[Layer] = []
    for number, key in enumerate(keys):
        before = found[-1] if found else None
        pairs = list(combinations(range(count), 2))
        found.append(
            Layer(
                name=key.layer,
                grid=listed[number],
                stage=1 if before is None else before.stage + (before.grid != listed[number]),
                downsampled=before is not None and math.prod(listed[number]) < math.prod(before.grid),
                flat=tuple(flat[number]),
                neighbour=tuple(
                    _correlation(ranked[number][k], ranked[number - 1][k]) if number else math.nan for k in range(count)
                ),
                last=tuple(_correlation(ranked[number][k], reference[k]) for k in range(count)),
                discrimination=mean(
                    _correlation(ranked[number][a], reference[a]) - _correlation(ranked[number][a], reference[b])
                    for a, b in permutations(range(count), 2)
                ),
                difference=mean(1 - _correlation(ranked[number][a], ranked[number][b]) for a, b in pairs),
                separation=mean(_separation(laid[number][a], laid[number][b]) for a, b in pairs),
            )
        )
    return LayersReport(explanation, found, common)


def blocks_of(task: Task) -> list[str]:
    """Layers of a model to choose from, in the order in which they run: its blocks, and the one that is explained by
    default; that one alone where no blocks are found."""
    default = task.default_layer()
    try:
        network = _network(task, Image.new("RGB", EMPTY, "grey"))
        order = {unit.name: number for number, unit in enumerate(network.units)}
        names = {unit.name for unit in network.blocks()} | ({default} & set(order))
    except MMExplainError:
        return [default]
    return [*sorted(names, key=order.__getitem__), *({default} - names)]


def _network(task: Task, image: Any) -> Network:
    """Look at the model on the photo itself, whose size may matter; on an empty clip, for a video."""
    if hasattr(task, "frames"):
        return follow(task.model, task.encode, {"clip": task.empty()}, "clip", task.reader)  # type: ignore[attr-defined]
    task = task.on(image)
    batch = task.prepare(image)
    inputs = batch.inputs
    name = next((n for n, v in inputs.items() if v.is_floating_point() and v.ndim >= 4), None)
    if name is None:
        raise LayerError("no input of the model is a photo")
    return follow(task.model, task.encode, inputs, name, batch.reader or task.reader)


def _layers(
    task: Task, network: Network, layers: str | Sequence[str] | None
) -> tuple[list[str], list[tuple[int, ...]]]:
    """Names in the order in which they run, and their grids."""
    if layers in (None, "stages", "blocks"):
        try:
            units = network.blocks() if layers == "blocks" else network.stages()
            if layers is None and len(units) == 1:
                units = network.blocks()
        except MMExplainError as error:
            raise LayerError(f"model {task.model_id!r}: {error}") from None
        return [unit.name for unit in units], [unit.grid for unit in units]
    assert layers is not None
    patterns = [layers] if isinstance(layers, str) else list(layers)
    order = {unit.name: number for number, unit in enumerate(network.units)}
    order |= {unit.name.partition("@")[0]: number for number, unit in enumerate(network.units)}
    resolved = resolve(task.model, patterns)
    names = sorted((name for name in resolved if name in order), key=order.__getitem__)
    if not names:
        raise LayerError(
            f"no layer that {', '.join(map(repr, patterns))} names puts out a map (see `mmexplain layers`)"
        )
    return names, [network.units[order[name]].grid for name in names]


def _common(explanation: Explanation, maps: Sequence[Tensor]) -> tuple[int, ...]:
    height, width = explanation.provenance.get("input_shape", [FINEST, FINEST])[-2:]
    scale = min(1.0, FINEST / max(height, width))
    steps = () if maps[0].ndim == 3 else (max(values.shape[1] for values in maps),)
    return (*steps, max(1, round(scale * height)), max(1, round(scale * width)))


def _laid(maps: Tensor, common: tuple[int, ...]) -> Tensor:
    """``[K, *S]`` → ``[K, n]`` on the common grid."""
    for axis, count in enumerate(common, start=1):
        maps = interpolate(maps, centres(count, maps.shape[axis]), axis)
    return maps.flatten(1)


def _is_flat(values: Tensor) -> bool:
    if not bool(torch.isfinite(values).all()):
        return True
    return bool(values.max() - values.min() <= FLAT * values.abs().max())


def _correlation(one: Tensor | None, other: Tensor | None) -> float:
    return math.nan if one is None or other is None else correlation(one, other)


def _separation(one: Tensor, other: Tensor) -> float:
    one, other = one.clamp(min=0), other.clamp(min=0)
    if not (float(one.sum()) > 0 and float(other.sum()) > 0):
        return math.nan
    return float((one / one.sum() - other / other.sum()).abs().sum()) / 2
