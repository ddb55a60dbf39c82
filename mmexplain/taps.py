"""Naming layers, and reading what they put out as feature maps ``[B, C, *S]``."""

from __future__ import annotations

import copy
import fnmatch
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmexplain.errors import LayerError, closest
from mmexplain.reader import ReaderOf, told_or_guessed
from mmexplain.surroundings import device_of, require_ordinary, undisturbed

INPUT = "input"
"""Name under which pixel-space maps are filed. It stands for the model's own input."""

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
    """Dotted names, with globs (``layer?.*``) opened in the model's own order, without repetition. The ``_orig_mod.``
    of modules that ``torch.compile`` wrapped may be left out, or stay.

    Raises:
        LayerError: a name or pattern that fits no module; the message offers the nearest names.
    """
    if all(_is_there(model, LayerName.parse(pattern).module) for pattern in patterns):
        # Going through the names of a deep model takes a millisecond.
        return list(dict.fromkeys(patterns))
    names = [name for name, _ in model.named_modules() if name]
    written = {_as_written(name): name for name in names}
    found: list[str] = []
    for pattern in patterns:
        layer = LayerName.parse(pattern)
        suffix = pattern[len(layer.module) :]
        if layer.module in names:
            matches = [layer.module]
        elif _as_written(layer.module) in written:
            matches = [written[_as_written(layer.module)]]
        else:
            wanted = _as_written(layer.module)
            matches = [name for plain, name in written.items() if fnmatch.fnmatchcase(plain, wanted)]
        if not matches:
            near = closest(layer.module, written) or list(written)[-3:]
            raise LayerError(
                f"the model has no layer {layer.module!r}; closest: {', '.join(map(repr, near))} "
                "(`mmexplain layers` lists them all)"
            )
        found += [name + suffix for name in matches if name + suffix not in found]
    return found


def _is_there(model: nn.Module, name: str) -> bool:
    inner: nn.Module | None = model
    for part in name.split("."):
        inner = inner._modules.get(part) if inner is not None else None
    return inner is not None


def _as_written(name: str) -> str:
    """A name without the wrapper that ``torch.compile`` puts around a module."""
    return name.replace("_orig_mod.", "")


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
class LayerInfo:
    """One module call as it ran: for ``mmexplain layers`` and for choosing a default.

    Attributes:
        name: dotted name of the module.
        kind: name of its class.
        shape: of what it put out, ``[B, ...]``.
        maps: shape ``[B, C, *S]`` of that read as maps; None where it is no map.
        convolution: whether the module is one.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    maps: tuple[int, ...] | None
    convolution: bool


def trace(
    model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None = None, reader: ReaderOf | None = None
) -> list[LayerInfo]:
    """Run the model once without a graph and list every module call in the order in which they finished.

    Args:
        model: whose layers are listed.
        run: calls the model and returns its output.
        image: ``(height, width)`` of the model's input, ``(frames, height, width)`` of a clip, to tell channels-first
            from channels-last.
        reader: how layers are read, where that is known (``Task.reader``).
    """
    return _trace(model, run, image, reader)[0]


def _trace(
    model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None, told: ReaderOf | None
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
        reader = told_or_guessed(told, name, shape, image, prefix, inputs)
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


def suggest(
    model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None = None, reader: ReaderOf | None = None
) -> str:
    """The layer to explain when the user names none.

    For a CNN: the last point that still has the grid of the last convolution (``layer4`` of a ResNet, the ReLU
    after ``conv5_3`` of VGG). For a transformer: the last output that is a grid and whose places have a say in the
    model's output; where that reads a class token, the patch tokens that leave the last block have none.

    Args:
        model: whose layers are looked at.
        run: calls the model and returns its output.
        image: ``(height, width)`` of the model's input, ``(frames, height, width)`` of a clip.
        reader: how layers are read, where that is known (``Task.reader``).

    Raises:
        LayerError: nothing in the model puts out a grid.
    """
    records, output = _trace(model, run, image, reader)
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
    return next((name for name in candidates[:MAX_TRIES] if _matters(model, run, name, image, reader)), candidates[0])


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


def _matters(
    model: nn.Module, run: Callable[[], Any], layer: str, image: Sequence[int] | None, told: ReaderOf | None
) -> bool:
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
        prefix = getattr(model, "num_prefix_tokens", None)
        reader = told_or_guessed(told, layer, value.shape, image, prefix, rows)
        return gradient is not None and reader is not None and bool(reader(gradient).any())
