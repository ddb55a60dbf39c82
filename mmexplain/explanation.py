"""An Explanation: raw signed maps for every target, with all that is needed to show and to trust them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmexplain.errors import InputError, LayerError, MethodError, TargetError, did_you_mean
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

FORMAT = "mmexplain.explanation/1"

MAX_BYTES = 2 * 2**30
"""Memory that the heatmap of a clip may take."""


@dataclass(frozen=True)
class MapKey:
    """Which map.

    Attributes:
        layer: dotted name of the layer that it was read at, "input" for pixel gradients, "attention" for the
            model's own.
        method: name of the method, with its parameters.
    """

    layer: str
    method: str

    @property
    def made(self) -> str:
        """How the map was made, as captions say it."""
        return "the model's own attention" if self.layer == self.method else f"{self.method} at {self.layer}"


@dataclass
class Explanation:
    """Maps of K targets of one input.

    Attributes:
        task: name of the task ("classify", "caption").
        model: model identifier as the user gave it.
        text: the caption or question that the targets point into; None where there is none.
        targets: the K targets.
        scores: ``[K]`` float32, the differentiated numbers (logits, log-probabilities).
        probabilities: ``[K]`` float32, or None.
        maps: ``MapKey`` → ``[K, *S]`` raw signed maps at the layer's resolution, or ``[K, C, H, W]`` for
            pixel-space methods (see ``pixel_methods``). On the device where they were made.
        geometry: how the model's input lies over the original file.
        picture: the photo, for display.
        words: every word of ``text`` as shown, in order; text targets index into it.
        provenance: versions, seed, device, preprocessing: what it takes to make it again. Under a method's name what
            it checked of its own maps, a number for each target: ``{"completeness_error": [0.002, 0.001]}``.
        seconds: wall-clock time of the explanation.
        pixel_methods: names of methods whose maps carry a channel axis.
        text_maps: for models that read a text, method → ``[K, len(words)]`` float32: what each word that was read
            added to each target's score, signed; NaN for words that were not read before the target was said.
        text_errors: method → ``[K]`` float32: by how much the words' parts fail to add up to what the words together
            changed in the score, as a share of it; for methods that promise that they do.
    """

    task: str
    model: str
    text: str | None
    targets: list[Target]
    scores: Tensor
    probabilities: Tensor | None
    maps: dict[MapKey, Tensor]
    geometry: Geometry
    picture: Picture
    words: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    pixel_methods: frozenset[str] = frozenset()
    text_maps: dict[str, Tensor] = field(default_factory=dict)
    text_errors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Layers that have maps, in the order they were asked for."""
        return list(dict.fromkeys(key.layer for key in self.maps))

    @property
    def methods(self) -> list[str]:
        """Methods that have maps, in the order they were asked for."""
        return list(dict.fromkeys(key.method for key in self.maps))

    @property
    def text_methods(self) -> list[str]:
        """Methods that told what words added; first those whose parts are to add up, which are shown by default."""
        return sorted(self.text_maps, key=lambda name: name not in self.text_errors)

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        targets = ", ".join(target.label for target in self.targets)
        made = f"{', '.join(self.methods)} at {', '.join(self.layers)}"
        return f"<Explanation of {self.picture.source or 'an input in memory'} by {self.model}: {targets}; {made}>"

    def find(self, target: int | str | Target) -> int:
        """Number of a target, given as a number, a label or itself.

        A label means the first target that bears it, whatever its case: where a caption says a word twice, give the
        :class:`Target` (which is compared by value) or its number.

        Raises:
            TargetError: nothing of that name was explained, or not that very target.
        """
        if isinstance(target, Target):
            if target not in self.targets:
                raise TargetError(f"the target {target.label!r} is not among those that were explained")
            return self.targets.index(target)
        if isinstance(target, str):
            for number, candidate in enumerate(self.targets):
                if candidate.label.casefold() == target.casefold():
                    return number
            labels = [candidate.label for candidate in self.targets]
            raise TargetError(f"{target!r} is not among the explained targets{did_you_mean(target, labels)}")
        if not -len(self.targets) <= target < len(self.targets):
            raise TargetError(f"target {target} is out of range: {len(self.targets)} were explained")
        return target % len(self.targets)

    def key(self, layer: str | None = None, method: str | None = None) -> MapKey:
        """The map that (layer, method) name; the first that fits where one is left out.

        Raises:
            LayerError, MethodError: no such map was made.
        """
        for key in self.maps:
            if layer in (None, key.layer) and method in (None, key.method):
                return key
        if method is not None and method not in self.methods:
            raise MethodError(f"no map was made by {method!r}; there are: {', '.join(self.methods)}")
        raise LayerError(f"no map was made at layer {layer!r}; there are: {', '.join(self.layers)}")

    def map(self, target: int | str | Target = 0, layer: str | None = None, method: str | None = None) -> Tensor:
        """Raw signed map ``[*S]`` of one target at the layer's own resolution. Pixel-space methods are reduced
        over colour by the value of largest magnitude, so that the sign survives.

        Args:
            target: number, label or the target itself; see :meth:`find`.
            layer: layer name; the first that fits where left out.
            method: method name; the first that fits where left out.

        Raises:
            TargetError, LayerError, MethodError: there is no such map.
        """
        key = self.key(layer, method)
        values = self.maps[key][self.find(target)]
        return strongest_colour(values, 0) if key.method in self.pixel_methods else values

    def heatmap(
        self,
        target: int | str | Target = 0,
        layer: str | None = None,
        method: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """The map in the pixels of the original file: float32 ``[H, W]``, for a clip ``[n_frames, H, W]``; signed,
        not normalised, NaN where the model never looked (cropped borders, skipped frames).

        Args:
            target: number, label or the target itself; see :meth:`find`.
            layer: layer name; the first that fits where left out.
            method: method name; the first that fits where left out.
            size: ``(height, width)`` to show the whole photo at instead of its own: for display, or where the file has
                very many pixels.

        Raises:
            TargetError, LayerError, MethodError: there is no such map.
            InputError: of a long clip it would take more than 2 GiB.
        """
        if self.geometry.n_frames is not None:
            height, width = size or self.geometry.original
            needed = 4 * self.geometry.n_frames * height * width
            if needed > MAX_BYTES:
                raise InputError(
                    f"a heatmap of {self.geometry.n_frames:,} frames of {width}×{height} pixels would take "
                    f"{needed / 2**30:,.1f} GiB: give a smaller size=(height, width), or take it frame by frame from "
                    "geometry.each_frame(map)"
                )
        return self.geometry.to_original(self.map(target, layer, method).float(), size)

    def peak(
        self, target: int | str | Target = 0, layer: str | None = None, method: str | None = None
    ) -> tuple[int, ...] | None:
        """``(x, y)`` of the map's maximum in pixels of the original file, for a clip ``(x, y, frame)``; None for a
        flat map.

        The map is upsampled bilinearly to the model's input, as the localisation protocols do, and the centre of
        the maximal input pixel is carried over to the file.

        Args:
            target: number, label or the target itself; see :meth:`find`.
            layer: layer name; the first that fits where left out.
            method: method name; the first that fits where left out.

        Raises:
            TargetError, LayerError, MethodError: there is no such map.
        """
        values = self.map(target, layer, method).float()
        if not bool((values.max() > values.min()).item()):
            return None
        return self.geometry.peak(values) if self.geometry.frames is None else self.geometry.peak_in_clip(values)

    def importance(self, target: int | str | Target = 0, layer: str | None = None, method: str | None = None) -> Tensor:
        """How much of a clip's map lies in each frame: float32 ``[n_frames]``, the mean over space of the map's
        positive part, interpolated over time; NaN for frames that the model did not see.

        Args:
            target: number, label or the target itself; see :meth:`find`.
            layer: layer name; the first that fits where left out.
            method: method name; the first that fits where left out.

        Raises:
            InputError: this explains a photo.
            TargetError, LayerError, MethodError: there is no such map.
        """
        if self.geometry.frames is None:
            raise InputError("a photo has no frames whose importance could be told")
        values = self.map(target, layer, method).float().clamp(min=0)
        return self.geometry.over_time(values.mean((-2, -1)))

    def words_read(self, target: int | str | Target = 0, method: str | None = None) -> Tensor:
        """What each word that the model read added to one target's score: ``[len(words)]``, signed, NaN for words
        that it had not read.

        Args:
            target: number, label or the target itself; see :meth:`find`.
            method: name of a text method; where left out, the one whose parts add up if it was asked for.

        Raises:
            TargetError: no such target.
            MethodError: no such method, or the words were not looked at.
        """
        if not self.text_maps:
            raise MethodError("the words that the model read were not explained; name a text method, as text='all'")
        name = method or self.text_methods[0]
        if name not in self.text_maps:
            raise MethodError(f"the words were not explained by {name!r}; there are: {', '.join(self.text_maps)}")
        return self.text_maps[name][self.find(target)]

    def show(self, **options: Any) -> Any:
        """A matplotlib figure of the maps over the photo; see :func:`mmexplain.render.figure`."""
        from mmexplain.render import figure

        return figure(self, **options)

    def figure(
        self,
        targets: Sequence[int | str | Target] | None = None,
        layers: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        *,
        width: float | str = "column",
        **options: Any,
    ) -> Figure:
        """The maps as a figure for a paper, each word under its map, with text as text in PDF and SVG.

        Args:
            targets: numbers, labels or targets; all where left out.
            layers: layers to show; all where left out.
            methods: methods to show; all where left out.
            width: "column" (3.25 inches), "page" (6.875 inches) or inches.
            options: see :func:`mmexplain.render.paper_figure`.

        Raises:
            TargetError, LayerError, MethodError: there is no such map.
            InputError: an option that cannot be.
        """
        from mmexplain.render import paper_figure

        return paper_figure(self, targets, layers, methods, width=width, **options)

    def overlay(
        self,
        target: int | str | Target = 0,
        layer: str | None = None,
        method: str | None = None,
        **options: Any,
    ) -> Image:
        """The map blended over the photo.

        Args:
            target: number, label or the target itself; see :meth:`find`.
            layer: layer name; the first that fits where left out.
            method: method name; the first that fits where left out.
            options: see :func:`mmexplain.render.overlay`.

        Raises:
            TargetError, LayerError, MethodError: there is no such map.
            InputError: an option that cannot be.
        """
        from mmexplain.render import overlay

        return overlay(self, target, layer, method, **options)

    def _repr_html_(self) -> str:
        from mmexplain.render import notebook_html

        return notebook_html(self)

    def to_json(self, files: list[str] | None = None) -> dict[str, Any]:
        """The record printed by ``--json``, the same for every task: one entry per target, layer and method. For a
        clip each entry tells the ``frame`` of its peak too."""
        clip = self.geometry.frames is not None
        targets = []
        for key in self.maps:
            for number, target in enumerate(self.targets):
                peak = self.peak(number, key.layer, key.method)
                targets.append(
                    {
                        "label": target.label,
                        "kind": target.kind,
                        "index": target.index,
                        "content": target.content,
                        "score": float(self.scores[number]),
                        "probability": None if self.probabilities is None else float(self.probabilities[number]),
                        "layer": key.layer,
                        "method": key.method,
                        "peak": None if peak is None else list(peak[:2]),
                        **({"frame": None if peak is None else peak[2]} if clip else {}),
                        **self._checks_of(key.method, number),
                        **({"words": self._words_of(number)} if self.text_maps else {}),
                    }
                )
        return {
            "task": self.task,
            "model": self.model,
            "input": self.picture.source,
            "text": self.text,
            "words": list(self.words),
            **({"unknown_words": unknown} if (unknown := self.provenance.get("unknown_words")) else {}),
            "targets": targets,
            "files": list(files or []),
            "seconds": round(self.seconds, 3),
        }

    def _checks_of(self, method: str, number: int) -> dict[str, Any]:
        """For ``--json``: what the method checked of its own map of one target."""
        checks = self.provenance.get(method)
        return {"checks": {name: values[number] for name, values in checks.items()}} if checks else {}

    def _words_of(self, number: int) -> dict[str, Any]:
        """For ``--json``: method → what each word added (null: not read), and the completeness error."""
        found: dict[str, Any] = {}
        for method, values in self.text_maps.items():
            added = [None if math.isnan(value) else value for value in values[number].tolist()]
            error = self.text_errors.get(method)
            found[method] = {"added": added, **({} if error is None else {"error": float(error[number])})}
        return found

    def save(self, path: str | Path) -> Path:
        """Write to ``path``; the suffix chooses: ``.safetensors`` (everything, read back by :meth:`load`),
        ``.html`` (report), ``.png`` (figure; of a clip the film strip of its decisive frames), ``.pdf`` or ``.svg``
        (:meth:`figure`, as wide as a paper's column), for a clip also ``.mp4`` or ``.gif`` (its frames with the heat
        of up to four targets over them).

        Raises:
            InputError: another suffix, or a folder that does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(f"cannot write {str(path)!r}: the folder {str(path.parent)!r} does not exist")
        match path.suffix.lower():
            case ".safetensors":
                self._save_tensors(path)
            case ".html":
                from mmexplain.render import save_report

                save_report([self], path)
            case ".png" | ".pdf" | ".svg":
                from mmexplain.render import save_figure

                save_figure(self, path)
            case ".mp4" | ".gif" if self.geometry.frames is not None:
                from mmexplain.render import save_clip

                save_clip(self, path)
            case suffix:
                clips = "" if self.geometry.frames is None else ", .mp4, .gif"
                raise InputError(f"cannot save as {suffix!r}: use .safetensors, .html{clips}, .pdf, .svg or .png")
        return path

    def _save_tensors(self, path: Path) -> None:
        from safetensors.torch import save

        from mmexplain.render.whole import whole

        tensors = {f"map.{i}": value.detach().cpu().contiguous() for i, value in enumerate(self.maps.values())}
        tensors["scores"] = self.scores.detach().float().cpu().contiguous()
        tensors["picture"] = self.picture.pixels.cpu().contiguous()
        for name, named in (("text", self.text_maps), ("text_error", self.text_errors)):
            tensors |= {f"{name}.{method}": value.detach().cpu().contiguous() for method, value in named.items()}
        if self.probabilities is not None:
            tensors["probabilities"] = self.probabilities.detach().float().cpu().contiguous()
        record = {
            "format": FORMAT,
            "task": self.task,
            "model": self.model,
            "text": self.text,
            "targets": [target.to_dict() for target in self.targets],
            "keys": [[key.layer, key.method] for key in self.maps],
            "geometry": self.geometry.to_dict(),
            "source": self.picture.source,
            "frames": self.picture.frames,
            "times": self.picture.times,
            "words": self.words,
            "provenance": self.provenance,
            "seconds": self.seconds,
            "pixel_methods": sorted(self.pixel_methods),
        }
        with whole(path) as partial:
            partial.write_bytes(save(tensors, {"mmexplain": json.dumps(record)}))

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read what :meth:`save` wrote as ``.safetensors``. Nothing in the file is executed.

        Raises:
            InputError: the file is missing, damaged or not an explanation.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                metadata: Mapping[str, str] = file.metadata() or {}
                record = json.loads(metadata["mmexplain"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file cannot be iterated
            if record["format"] != FORMAT:
                raise InputError(f"{str(path)!r} has format {record['format']!r}; this version reads {FORMAT!r}")
            return cls(
                task=record["task"],
                model=record["model"],
                text=record["text"],
                targets=[Target.from_dict(target) for target in record["targets"]],
                scores=tensors["scores"],
                probabilities=tensors.get("probabilities"),
                maps={MapKey(*key): tensors[f"map.{i}"] for i, key in enumerate(record["keys"])},
                geometry=Geometry.from_dict(record["geometry"]),
                picture=Picture(
                    tensors["picture"], record["source"], _tuple(record.get("frames")), _tuple(record.get("times"))
                ),
                words=record["words"],
                provenance=record["provenance"],
                seconds=record["seconds"],
                pixel_methods=frozenset(record["pixel_methods"]),
                text_maps=_named(tensors, "text."),
                text_errors=_named(tensors, "text_error."),
            )
        except FileNotFoundError:
            raise InputError(f"no such file: {str(path)!r}") from None
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise InputError(f"{str(path)!r} is not a saved explanation, or is damaged ({error})") from None

    def each_map(self) -> Iterator[tuple[MapKey, int, Tensor]]:
        """Every (key, target number, raw map)."""
        for key in self.maps:
            for number in range(len(self.targets)):
                yield key, number, self.map(number, key.layer, key.method)


def strongest_colour(values: Tensor, dim: int) -> Tensor:
    """Pixel-space maps without their colours, which ``dim`` counts: of each pixel the value of largest magnitude with
    its sign."""
    return values.gather(dim, values.abs().argmax(dim=dim, keepdim=True)).squeeze(dim)


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
