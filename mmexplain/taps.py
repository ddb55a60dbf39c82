"""Naming layers, and reading what they put out as feature maps ``[B, C, *S]``."""

from __future__ import annotations

import copy
import fnmatch
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmexplain.errors import LayerError, closest
from mmexplain.surroundings import evaluating

Layout = Literal["channels_first", "channels_last", "tokens"]

INPUT = "input"
"""Name under which pixel-space maps are filed: the model's own input."""

MAX_PREFIX_TOKENS = 8


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


@dataclass(frozen=True)
class Reader:
    """How to read one layer's output as maps; the same linear reading serves activations and gradients.

    Attributes:
        layout: where the channels stand.
        prefix: leading tokens that are no place in the photo (class and register tokens).
        grid: height and width of the token grid.
    """

    layout: Layout
    prefix: int = 0
    grid: tuple[int, int] | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """``[R, ...]`` as the layer puts it out → ``[R, C, *S]``."""
        if self.layout == "channels_first":
            return value
        if self.layout == "channels_last":
            return value.movedim(-1, 1)
        assert self.grid is not None
        folded: Tensor = value[:, self.prefix :].unflatten(1, self.grid)
        return folded.movedim(-1, 1)


def reader_for(shape: Sequence[int], image: Sequence[int] | None, prefix: int | None = None) -> Reader | None:
    """Find out how an output of ``shape`` lies over an image of ``(height, width)``.

    Four and five dimensions are maps with the channels first or last, whichever leaves a grid of the image's shape;
    three are tokens if, without a few leading ones, they fold to such a grid. None if the output is no map.
    """
    match len(shape):
        case 4 | 5:
            first = _stride_error(shape[2:], image)
            last = _stride_error(shape[1:-1], image)
            if math.prod(shape[2:]) > 1 and first <= last:
                return Reader("channels_first")
            return Reader("channels_last") if math.prod(shape[1:-1]) > 1 else Reader("channels_first")
        case 3:
            for skip in range(MAX_PREFIX_TOKENS + 1) if prefix is None else (prefix,):
                grid = _fold(shape[1] - skip, image)
                if grid is not None:
                    return Reader("tokens", skip, grid)
    return None


def _stride_error(grid: Sequence[int], image: Sequence[int] | None) -> float:
    """How far a grid's aspect is from the image's; for clips the last two axes count."""
    height, width = image[-2:] if image is not None else (1, 1)
    return abs(math.log((grid[-2] / grid[-1]) / (height / width)))


def _fold(tokens: int, image: Sequence[int] | None) -> tuple[int, int] | None:
    """Grid of ``tokens`` places with the aspect of the image: both sides divide the image's sides alike."""
    if tokens < 4:
        return None
    height, width = image[-2:] if image is not None else (1, 1)
    rows = round(math.sqrt(tokens * height / width))
    if rows < 1 or tokens % rows:
        return None
    columns = tokens // rows
    return (rows, columns) if abs(math.log((rows / columns) / (height / width))) < 0.15 else None


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
        run: calls the model.
        image: ``(height, width)`` of the model's input, to tell channels-first from channels-last.
    """
    records: list[LayerInfo] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            value = first_tensor(output)
            if value is None:
                return
            reader = reader_for(value.shape, image, getattr(model, "num_prefix_tokens", None))
            maps = tuple(reader(value).shape) if reader else None
            is_convolution = isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
            records.append(LayerInfo(name, type(module).__name__, tuple(value.shape), maps, is_convolution))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with evaluating(model), torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return records


def suggest(model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None = None) -> str:
    """The layer to explain when the user names none.

    For a CNN: the last point that still has the grid of the last convolution (``layer4`` of a ResNet, the ReLU
    after ``conv5_3`` of VGG). For a transformer that reads a class token: the input of the last block, because the
    patch tokens that leave that block get no gradient. Otherwise the last output that is a grid at all.

    Raises:
        LayerError: nothing in the model puts out a grid.
    """
    records = trace(model, run, image)
    grids = [i for i, record in enumerate(records) if record.maps and math.prod(record.maps[2:]) > 1]
    if not grids:
        raise LayerError("no layer of this model puts out a feature map; name one with layers=[...]")
    classes = records[-1].shape[-1] if records[-1].maps is None else None
    convolutions = [i for i in grids if records[i].convolution and records[i].shape[1] != classes]
    if convolutions and convolutions[-1] >= 0.4 * len(records):
        maps = records[convolutions[-1]].maps
        assert maps is not None
        chosen = convolutions[-1]
        for i in range(chosen + 1, len(records)):
            candidate = records[i].maps
            if candidate is None or candidate[2:] != maps[2:] or "pool" in records[i].kind.lower():
                break
            if candidate[1] != classes:
                chosen = i
        return records[chosen].name
    last = records[grids[-1]]
    tokens = reader_for(last.shape, image)
    if tokens is not None and tokens.layout == "tokens" and tokens.prefix > 0:
        blocks = [
            records[i].name for i in grids if re.search(r"\D\d+$", records[i].name) and records[i].shape == last.shape
        ]
        stem = re.sub(r"\d+$", "", blocks[-1]) if blocks else ""
        siblings = [name for name in blocks if re.sub(r"\d+$", "", name) == stem]
        if len(siblings) > 1:
            return siblings[-2]
    return last.name
