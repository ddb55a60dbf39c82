"""Naming layers, and reading what they put out as feature maps ``[B, C, *S]``."""

from __future__ import annotations

import copy
import fnmatch
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmexplain.errors import LayerError, closest
from mmexplain.surroundings import device_of, require_ordinary, undisturbed

Layout = Literal["channels_first", "channels_last", "tokens"]

INPUT = "input"
"""Name under which pixel-space maps are filed: the model's own input."""

MAX_PREFIX_TOKENS = 8
MAX_TRIES = 8


@dataclass(frozen=True)
class LayerName:
    """A layer as the user wrote it: ``layer4``, or ``layer4.2.relu@0`` for the first call of a reused module."""

    module: str
    call: int = -1

    @classmethod
    def parse(cls, text: str) -> LayerName:
        """``name`` or ``name@call``; without a call number the last call of the forward pass is meant."""
        module, at, call = text.partition("@")
        if not at:
            return cls(module)
        if not call.isdecimal():
            raise LayerError(f"layer {text!r}: after '@' stands the number of the call, as in '{module}@0'")
        return cls(module, int(call))


def resolve(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Dotted names, with globs (``layer?.*``) opened in the model's own order, without repetition.

    Raises:
        LayerError: a name or pattern that fits no module; the message offers the nearest names.
    """
    names = [name for name, _ in model.named_modules() if name]
    found: list[str] = []
    for pattern in patterns:
        layer = LayerName.parse(pattern)
        suffix = pattern[len(layer.module) :]
        if layer.module in names:
            matches = [layer.module]
        else:
            matches = [name for name in names if fnmatch.fnmatchcase(name, layer.module)]
        if not matches:
            near = closest(layer.module, names) or names[-3:]
            raise LayerError(
                f"the model has no layer {layer.module!r}; closest: {', '.join(map(repr, near))} "
                "(`mmexplain layers` lists them all)"
            )
        found += [name + suffix for name in matches if name + suffix not in found]
    return found


def is_glob(pattern: str) -> bool:
    """Whether a layer is described rather than named."""
    return any(character in pattern for character in "*?[")


def optional_layers(model: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Layers that a glob alone names: what is no map among them is left out."""
    if not any(map(is_glob, patterns)):
        return frozenset()
    named = resolve(model, [pattern for pattern in patterns if not is_glob(pattern)])
    return frozenset(resolve(model, patterns)).difference(named)


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that a module's output stands for: itself, or the first one in a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        for item in output:
            if isinstance(item, Tensor):
                return item
    return None


def replace_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """``output`` with the tensor ``old`` exchanged for ``new``, containers kept as they are."""
    if output is old:
        return new
    if isinstance(output, dict):
        copied = copy.copy(output)  # keeps the class: transformers' outputs, default dicts
        for key, value in output.items():
            copied[key] = replace_tensor(value, old, new)
        return copied
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(replace_tensor(value, old, new) for value in output))
    if isinstance(output, (tuple, list)):
        return type(output)(replace_tensor(value, old, new) for value in output)
    return output


def map_tensors(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``output`` with ``function`` applied to every tensor, containers kept as they are.

    Raises:
        TypeError: something in it is neither a tensor, a container of them nor a plain value.
    """
    if isinstance(output, Tensor):
        return function(output)
    if output is None or isinstance(output, (str, int, float)):
        return output
    if isinstance(output, dict):
        return type(output)(**{key: map_tensors(value, function) for key, value in output.items()})
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(map_tensors(value, function) for value in output))
    if isinstance(output, (tuple, list)):
        return type(output)(map_tensors(value, function) for value in output)
    if is_dataclass(output) and not isinstance(output, type):
        values = {field.name: getattr(output, field.name) for field in fields(output) if field.init}
        return type(output)(**{name: map_tensors(value, function) for name, value in values.items()})
    raise TypeError(f"{type(output).__name__} is no tensor and no container of tensors")


@dataclass(frozen=True)
class Reader:
    """How to read one layer's output as maps; the same linear reading serves activations and gradients.

    Attributes:
        layout: where the channels stand.
        prefix: leading tokens that are no place in the photo (class and register tokens).
        grid: height and width of the token grid; of a clip's, steps in time before them.
        frames: where a layer over clips has no axis of time, how many of its rows are one clip: all frames of it,
            which the model sees one by one, or 1, if it has merged them.
    """

    layout: Layout
    prefix: int = 0
    grid: tuple[int, ...] | None = None
    frames: int | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """``[R, ...]`` (``[R · frames, ...]``) as the layer puts it out → ``[R, C, *S]``."""
        maps = self._maps(value)
        return maps if self.frames is None else maps.unflatten(0, (-1, self.frames)).movedim(1, 2)

    def _maps(self, value: Tensor) -> Tensor:
        if self.layout == "channels_first":
            return value
        if self.layout == "channels_last":
            return value.movedim(-1, 1)
        assert self.grid is not None
        folded: Tensor = value[:, self.prefix :].unflatten(1, self.grid)
        return folded.movedim(-1, 1)


def reader_for(
    shape: Sequence[int], image: Sequence[int] | None, prefix: int | None = None, inputs: int | None = None
) -> Reader | None:
    """Find out how an output of ``shape`` lies over an image of ``(height, width)`` or a clip of ``(frames, h, w)``.

    Four and five dimensions are maps with the channels first or last, whichever leaves a grid of the image's shape;
    three are tokens if, without a few leading ones, they fold to such a grid. None if the output is no map. A CNN that
    sees each frame of a clip apart has them as rows, one clip after the other.

    Args:
        shape: ``[R, ...]`` as the layer puts it out.
        image: the model's input size; a square is assumed if None.
        prefix: how many leading tokens the model says it has; others are tried after that.
        inputs: how many photos or clips the R rows are made of; R if None.
    """
    clip = image is not None and len(image) == 3
    if image is not None and inputs not in (None, shape[0]):
        if not clip or shape[0] != inputs * image[0] or len(shape) > 4:
            return None
        reader = _reader(shape, image[1:], prefix)
        return reader and replace(reader, frames=image[0])
    reader = _reader(shape, image, prefix)
    return replace(reader, frames=1) if reader and clip and len(shape) == 4 else reader


def _reader(shape: Sequence[int], image: Sequence[int] | None, prefix: int | None) -> Reader | None:
    match len(shape):
        case 4 | 5:
            first, last = shape[2:], shape[1:-1]
            first_fits, last_fits = _one_stride(first, image), _one_stride(last, image)
            first_error, last_error = _aspect_error(first, image), _aspect_error(last, image)
            # Where both fit, on small grids, the channels stand first unless the other fits clearly better.
            if first_fits and not (last_fits and last_error + 0.05 < first_error):
                return Reader("channels_first")
            if last_fits:
                return Reader("channels_last")
            # Networks that read text lines shrink one axis more than the other. Of a clip, four are heads and tokens.
            heads = image is not None and len(image) == 3 and len(shape) == 4
            return Reader("channels_first") if first_error < last_error and not heads else None
        case 3 if image is None or len(image) < 3 or shape[1] != image[0]:  # as many as frames: what an LSTM says
            guesses = [*([] if prefix is None else [prefix]), *range(MAX_PREFIX_TOKENS + 1)]
            grids = [(skip, grid) for skip in guesses if (grid := _fold(shape[1] - skip, image)) is not None]
            if grids:
                skip, grid = min(grids, key=lambda found: (found[0] != prefix, _aspect_error(found[1], image)))
                return Reader("tokens", skip, grid)
    return None


def _sides(image: Sequence[int] | None) -> tuple[int, int]:
    return (image[-2], image[-1]) if image is not None else (1, 1)


def _aspect_error(grid: Sequence[int], image: Sequence[int] | None) -> float:
    """How far a grid's aspect is from the image's; for clips the last two axes count."""
    height, width = _sides(image)
    return abs(math.log((grid[-2] / grid[-1]) / (height / width)))


def _one_stride(grid: Sequence[int], image: Sequence[int] | None) -> bool:
    """Whether one stride gives both sides of the grid, but for what padding adds or takes away."""
    sides = list(zip(_sides(image), grid[-2:], strict=True))
    smallest = [side / (cells + 1.5) for side, cells in sides]
    largest = [side / (cells - 1.5) if cells > 1.5 else math.inf for side, cells in sides]
    return max(smallest) <= min(largest)


def _fold(tokens: int, image: Sequence[int] | None) -> tuple[int, ...] | None:
    """Grid of ``tokens`` places with the aspect of the image; of those for a clip the one with most steps in time."""
    if image is not None and len(image) == 3:
        steps = [n for n in range(image[0], 0, -1) if image[0] % n == 0 and tokens % n == 0]
        grids = [(n, *grid) for n in steps if (grid := _fold(tokens // n, image[1:])) is not None]
        return min(grids, key=lambda grid: _aspect_error(grid, image), default=None)
    if tokens < 4:
        return None
    height, width = _sides(image)
    rows = round(math.sqrt(tokens * height / width))
    if rows < 1 or tokens % rows:
        return None
    grid = (rows, tokens // rows)
    return grid if _aspect_error(grid, image) < 0.15 else None


@dataclass(frozen=True)
class LayerInfo:
    """One module call as it ran: for ``mmexplain layers`` and for choosing a default."""

    name: str
    kind: str
    shape: tuple[int, ...]
    maps: tuple[int, ...] | None
    convolution: bool


def trace(model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None = None) -> list[LayerInfo]:
    """Run the model once without a graph and list every module call in the order in which they finished.

    Args:
        model: whose layers are listed.
        run: calls the model and returns its output.
        image: ``(height, width)`` of the model's input, ``(frames, height, width)`` of a clip, to tell channels-first
            from channels-last.
    """
    return _trace(model, run, image)[0]


def _trace(
    model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None
) -> tuple[list[LayerInfo], Tensor | None]:
    """The layers, and what the model put out."""
    calls: list[tuple[str, nn.Module, torch.Size]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            value = first_tensor(output)
            if value is not None:
                calls.append((name, module, value.shape))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with _looking(model):
            output = first_tensor(run())
    finally:
        for handle in handles:
            handle.remove()
    inputs = len(output) if output is not None and output.ndim else None
    prefix = getattr(model, "num_prefix_tokens", None)
    records = []
    for name, module, shape in calls:
        reader = reader_for(shape, image, prefix, inputs)
        maps = tuple(reader(torch.empty(shape, device="meta")).shape) if reader else None
        is_convolution = isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        records.append(LayerInfo(name, type(module).__name__, tuple(shape), maps, is_convolution))
    return records, output


@contextmanager
def _looking(model: nn.Module) -> Iterator[None]:
    """Run the model undisturbed, without a graph. Tensors that the caller made under ``torch.inference_mode()`` cannot
    enter a graph; the modules get copies of them.
    """

    def copied(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) and value.is_inference() else value

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(copied, args)), {name: copied(value) for name, value in kwargs.items()}

    modules = model.modules() if torch.is_inference_mode_enabled() else ()
    with undisturbed(model, device_of(model)):
        handles = [module.register_forward_pre_hook(hook, with_kwargs=True) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def suggest(model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None = None) -> str:
    """The layer to explain when the user names none.

    For a CNN: the last point that still has the grid of the last convolution (``layer4`` of a ResNet, the ReLU
    after ``conv5_3`` of VGG). For a transformer: the last output that is a grid and whose places have a say in the
    model's output; where that reads a class token, the patch tokens that leave the last block have none.

    Args:
        model: whose layers are looked at.
        run: calls the model and returns its output.
        image: ``(height, width)`` of the model's input, ``(frames, height, width)`` of a clip.

    Raises:
        LayerError: nothing in the model puts out a grid.
    """
    records, output = _trace(model, run, image)
    grids = [i for i, record in enumerate(records) if record.maps and math.prod(record.maps[-2:]) > 1]
    if not grids:
        raise LayerError("no layer of this model puts out a feature map; name one with layers=[...]")
    last = records[-1]
    classes = last.maps[1] if last.maps and math.prod(last.maps[2:]) == 1 else last.shape[-1] if not last.maps else None
    if output is not None and output.ndim == 2:
        classes = output.shape[1]
    convolutions = [i for i in grids if records[i].convolution and records[i].shape[1] != classes]
    if convolutions and convolutions[-1] >= 0.4 * len(records):
        candidates = _same_grid(records, convolutions[-1], classes)
    else:
        usable = [i for i in grids if "pool" not in records[i].name.lower()] or grids
        end = records[usable[-1]]
        assert end.maps is not None
        blocks = [records[i] for i in reversed(usable) if re.fullmatch(r"(?!.*\bmlp\b).*\D\d+", records[i].name)]
        candidates = [end.name, *(b.name for b in blocks if b.maps and b.maps[2:] == end.maps[2:])]
    return next((name for name in candidates[:MAX_TRIES] if _matters(model, run, name, image)), candidates[0])


def _same_grid(records: list[LayerInfo], convolution: int, classes: int | None) -> list[str]:
    """Layers from the last point, before any pooling, that has the grid of the convolution, back to itself."""
    grid = (records[convolution].maps or ())[2:]
    found = [records[convolution].name]
    for record in records[convolution + 1 :]:
        if "pool" in record.kind.lower():
            break
        same = record.maps is not None and record.maps[2:] == grid and record.maps[1] != classes
        if same and record.kind not in ("Dropout", "Dropout2d", "Identity"):
            found.append(record.name)
    return found[::-1]


def _matters(model: nn.Module, run: Callable[[], Any], layer: str, image: Sequence[int] | None) -> bool:
    """Whether the model's output depends on the layer's map, and not only on its class token."""
    from mmexplain.recorder import Recorder

    require_ordinary(model)
    with _looking(model):
        with Recorder(model, [layer]) as recorder, recorder.encoding():
            output = first_tensor(run())
        value = recorder.captured.get(layer)
        if output is None or value is None or not output.requires_grad:
            return False
        mixture = torch.arange(output.numel(), device=output.device).cos().view_as(output)
        (gradient,) = torch.autograd.grad(output, value, mixture.to(output.dtype), allow_unused=True)
        rows = len(output) if output.ndim else None
        reader = reader_for(value.shape, image, getattr(model, "num_prefix_tokens", None), rows)
        return gradient is not None and reader is not None and bool(reader(gradient).any())
