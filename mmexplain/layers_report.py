"""The maps of one network layer by layer: how they change with depth, and how well they tell targets apart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmexplain.errors import InputError, LayerError, MethodError, MMExplainError
from mmexplain.interpolate import centres, interpolate
from mmexplain.methods import get
from mmexplain.ranks import correlation, ranks
from mmexplain.taps import resolve
from mmexplain.units import Network, follow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmexplain.explanation import Explanation
    from mmexplain.tasks.base import Task

FORMAT = "mmexplain.layers/1"
FINEST = 128
"""Points on a side of the common grid at most: twice as fine as all but the first layers of a network."""

FLAT = 1e-6
"""A map whose values differ by less than this share of the largest is rounding, not a map."""

_TARGETS = {"vqa": "answers", "caption": "words"}
"""What a task's ``explain`` calls its targets, where it is not ``targets``."""


@dataclass(frozen=True)
class Layer:
    """One layer, and what its maps of the K targets say.

    Attributes:
        name: as it is tapped.
        grid: places of its map: ``(h, w)``, for a clip ``(t, h, w)``.
        stage: number of its stage from 1: a run of listed layers with the same grid.
        downsampled: its grid is smaller than that of the layer listed before it.
        flat: for each target, whether the map has no relief: the layer has no say in this target's score, or (for
            methods that clip) nothing there speaks for it.
        neighbour: for each target, Spearman's rank correlation with the map of the layer listed before; NaN for the
            first layer and where one of the two maps is flat.
        last: the same with the last layer whose map is not flat.
        discrimination: 1 - rank correlation of the maps of two targets, the mean over all pairs: 0 for maps that rank
            all places alike, 1 for unrelated ones, up to 2. NaN with one target or where none of the pairs has relief.
        separation: share of a map's positive mass that lies where another target has none: half the sum of absolute
            differences of the two maps' positive parts, each scaled to sum 1; the mean over all pairs. 0 for the same
            map, 1 for maps that nowhere overlap.
    """

    name: str
    grid: tuple[int, ...]
    stage: int
    downsampled: bool
    flat: tuple[bool, ...]
    neighbour: tuple[float, ...]
    last: tuple[float, ...]
    discrimination: float
    separation: float


@dataclass(frozen=True)
class Stage:
    """Means over the layers of one stage and over the targets; NaN where there is nothing to take the mean of.

    Attributes:
        number: from 1.
        grid: of its layers.
        layers: how many are listed.
        neighbour: mean correlation of neighbours that both lie in it.
        last, discrimination, separation: as in :class:`Layer`.
    """

    number: int
    grid: tuple[int, ...]
    layers: int
    neighbour: float
    last: float
    discrimination: float
    separation: float


@dataclass(frozen=True)
class LayersReport:
    """What :func:`layers_report` found.

    Attributes:
        explanation: the maps themselves, of one method at all layers.
        layers: in the order in which they run.
        common: the grid on which maps are compared.
    """

    explanation: Explanation
    layers: list[Layer]
    common: tuple[int, ...]

    @property
    def method(self) -> str:
        """The method that made the maps."""
        return self.explanation.methods[0]

    @property
    def within(self) -> float:
        """Mean correlation of neighbours that lie in the same stage; NaN where no stage has two layers."""
        return _mean(value for layer in self.layers if not layer.downsampled for value in layer.neighbour)

    @property
    def across(self) -> float:
        """Mean correlation of neighbours between which the grid shrinks; NaN where it never does."""
        return _mean(value for layer in self.layers if layer.downsampled for value in layer.neighbour)

    @property
    def stages(self) -> list[Stage]:
        """Means by stage."""
        found = []
        for number in dict.fromkeys(layer.stage for layer in self.layers):
            inside = [layer for layer in self.layers if layer.stage == number]
            found.append(
                Stage(
                    number,
                    inside[0].grid,
                    len(inside),
                    _mean(value for layer in inside[1:] for value in layer.neighbour),
                    _mean(value for layer in inside for value in layer.last),
                    _mean(layer.discrimination for layer in inside),
                    _mean(layer.separation for layer in inside),
                )
            )
        return found

    def summary(self) -> list[str]:
        """The findings, a sentence each."""
        stages, labels = self.stages, [target.label for target in self.explanation.targets]
        told = [
            f"{len(self.layers)} layers in {len(stages)} stage{'' if len(stages) == 1 else 's'} of equal resolution"
        ]
        if not math.isnan(self.within):
            told.append(f"neighbours within a stage correlate by {self.within:.2f}")
        if not math.isnan(self.across):
            told.append(f"neighbours across a drop in resolution correlate by {self.across:.2f}")
        apart = [(stage.number, stage.discrimination) for stage in stages if not math.isnan(stage.discrimination)]
        if apart:
            listed = ", ".join(f"{value:.2f}" for _, value in apart)
            where = "stage " + (f"{apart[0][0]} to {apart[-1][0]}" if len(apart) > 1 else f"{apart[0][0]}")
            told.append(f"targets are told apart (1 - rank correlation) by {listed} from {where}")
        for number, label in enumerate(labels):
            flat = [layer.name for layer in self.layers if layer.flat[number]]
            if flat:
                shown = ", ".join(flat[:3]) + (f" and {len(flat) - 3} more" if len(flat) > 3 else "")
                told.append(f"the map of {label!r} is flat at {shown}")
        return told

    def to_json(self, files: Sequence[str] = ()) -> dict[str, Any]:
        """The record printed by ``--json``; NaN is written as None."""
        explanation = self.explanation

        def plain(record: Any) -> dict[str, Any]:
            return {name: _number(value) for name, value in vars(record).items()}

        return {
            "format": FORMAT,
            "task": explanation.task,
            "model": explanation.model,
            "input": explanation.picture.source,
            "text": explanation.text,
            "method": self.method,
            "targets": [
                {"label": target.label, "score": _number(float(score))}
                for target, score in zip(explanation.targets, explanation.scores, strict=True)
            ],
            "common_grid": list(self.common),
            "layers": [plain(layer) for layer in self.layers],
            "stages": [plain(stage) for stage in self.stages],
            "neighbours_within_a_stage": _number(self.within),
            "neighbours_across_downsampling": _number(self.across),
            "summary": self.summary(),
            "files": list(files),
            "seconds": round(explanation.seconds, 3),
        }

    def figure(self, **options: Any) -> Figure:
        """A matplotlib figure: targets by layers over curves of the numbers; see
        :func:`mmexplain.render.layers.layers_figure`."""
        from mmexplain.render.layers import layers_figure

        return layers_figure(self, **options)

    def save(self, path: str | Path) -> Path:
        """Write to ``path``; the suffix chooses: ``.png`` (figure), ``.html`` (figure and table), ``.json`` (numbers)
        or ``.safetensors`` (all maps).

        Raises:
            InputError: another suffix, or a folder that does not exist.
        """
        from mmexplain.render.whole import whole

        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(f"cannot write {str(path)!r}: the folder {str(path.parent)!r} does not exist")
        match path.suffix.lower():
            case ".png":
                from mmexplain.render.layers import save_layers_figure

                save_layers_figure(self, path)
            case ".html":
                from mmexplain.render.layers import layers_html

                with whole(path) as partial:
                    partial.write_text(layers_html(self), encoding="utf-8")
            case ".json":
                with whole(path) as partial:
                    partial.write_text(json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
            case ".safetensors":
                self.explanation.save(path)
            case suffix:
                raise InputError(f"cannot save as {suffix!r}: use .html, .png, .json or .safetensors")
        return path


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
    :class:`Layer`.

    Args:
        task: what :func:`mmexplain.load` gives, or a task of one's own.
        image: one photo (or video), as ``task.explain`` takes it.
        targets: classes or actions; for a captioner words of the caption, for a VQA model answers. None takes the two
            likeliest (every word of a caption).
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
    elif task.name != "caption":
        options.setdefault("top", 2)
    explanation: Explanation = task.explain(image, layers=names, methods=[method], **options)  # type: ignore[attr-defined]
    return compare(explanation, grids)


def compare(explanation: Explanation, grids: Sequence[tuple[int, ...]] | None = None) -> LayersReport:
    """The report of an explanation by one method at several layers, which are taken to run in the order they stand in.

    Args:
        explanation: holds the maps.
        grids: of the layers, where the maps' own are not; for methods whose maps have the size of the input.
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
                discrimination=_mean(1 - _correlation(ranked[number][a], ranked[number][b]) for a, b in pairs),
                separation=_mean(_separation(laid[number][a], laid[number][b]) for a, b in pairs),
            )
        )
    return LayersReport(explanation, found, common)


def _network(task: Task, image: Any) -> Network:
    """Look at the model on the photo itself, whose size may matter; on an empty clip, for a video."""
    if hasattr(task, "frames"):
        return follow(task.model, task.encode, {"clip": task.empty()}, "clip")  # type: ignore[attr-defined]
    inputs = task.prepare(image).inputs
    name = next((n for n, v in inputs.items() if v.is_floating_point() and v.ndim >= 4), None)
    if name is None:
        raise LayerError("no input of the model is a photo")
    return follow(task.model, task.encode, inputs, name)


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


def _mean(values: Any) -> float:
    listed = [value for value in values if not math.isnan(value)]
    return sum(listed) / len(listed) if listed else math.nan


def _number(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_number(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
