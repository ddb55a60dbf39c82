"""What an analysis of a network layer by layer found: numbers of each layer and stage, and ways to keep them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmexplain.errors import InputError
from mmexplain.means import mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmexplain.explanation import Explanation

FORMAT = "mmexplain.layers/1"


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
        discrimination: how much more a map correlates (Spearman) with the last map of its own target than with that of
            another, the mean over all ordered pairs: 0 where it tells nothing of which target it is. NaN with one
            target or where none of the pairs has relief.
        difference: 1 - rank correlation of the maps of two targets, the mean over all pairs: 0 for maps that rank all
            places alike, 1 for unrelated ones, up to 2. Noise differs too: maps that differ need not be right.
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
    difference: float
    separation: float


@dataclass(frozen=True)
class Stage:
    """Means over the layers of one stage and over the targets; NaN where there is nothing to take the mean of.

    Attributes:
        number: from 1.
        grid: of its layers.
        layers: how many are listed.
        neighbour: mean correlation of neighbours that both lie in it.
        last: as in :class:`Layer`, without the last layer itself.
        discrimination, difference, separation: as in :class:`Layer`.
    """

    number: int
    grid: tuple[int, ...]
    layers: int
    neighbour: float
    last: float
    discrimination: float
    difference: float
    separation: float


@dataclass(frozen=True)
class LayersReport:
    """What :func:`mmexplain.layers_report` found.

    Attributes:
        explanation: the maps themselves, of one method at all layers.
        layers: in the order in which they run.
        common: the grid on which maps are compared.
    """

    explanation: Explanation
    layers: list[Layer]
    common: tuple[int, ...]

    def __repr__(self) -> str:
        return f"<LayersReport of {self.explanation!r}: {'; '.join(self.summary())}>"

    def _repr_jpeg_(self) -> bytes:
        drawn: Any = self.figure()
        shown: bytes = drawn._repr_jpeg_()
        return shown

    @property
    def method(self) -> str:
        """The method that made the maps."""
        return self.explanation.methods[0]

    @property
    def within(self) -> float:
        """Mean correlation of neighbours that lie in the same stage; NaN where no stage has two layers."""
        return mean(
            value for before, layer in pairwise(self.layers) if before.stage == layer.stage for value in layer.neighbour
        )

    @property
    def across(self) -> float:
        """Mean correlation of neighbours between which the grid shrinks; NaN where it never does."""
        return mean(value for layer in self.layers if layer.downsampled for value in layer.neighbour)

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
                    mean(value for layer in inside[1:] for value in layer.neighbour),
                    mean(value for layer in inside if layer is not self.layers[-1] for value in layer.last),
                    mean(layer.discrimination for layer in inside),
                    mean(layer.difference for layer in inside),
                    mean(layer.separation for layer in inside),
                )
            )
        return found

    def summary(self) -> list[str]:
        """The findings, a sentence each."""
        stages, labels = self.stages, [target.label for target in self.explanation.targets]
        layers = f"{len(self.layers)} layer{'' if len(self.layers) == 1 else 's'}"
        told = [f"{layers} in {len(stages)} stage{'' if len(stages) == 1 else 's'} of equal resolution"]
        if not math.isnan(self.within):
            told.append(f"neighbours within a stage correlate by {self.within:.2f}")
        if not math.isnan(self.across):
            told.append(f"neighbours across a drop in resolution correlate by {self.across:.2f}")
        apart = [(stage.number, stage.discrimination) for stage in stages if not math.isnan(stage.discrimination)]
        if apart:
            listed = ", ".join(f"{value:.2f}" for _, value in apart)
            where = "stage " + (f"{apart[0][0]} to {apart[-1][0]}" if len(apart) > 1 else f"{apart[0][0]}")
            told.append(
                f"targets are told apart (correlation with their own last map, less that with another's) by {listed} "
                f"from {where}"
            )
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


def _number(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_number(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
