"""The stages and blocks of a network, found by following how the photo flows through it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmexplain.errors import LayerError
from mmexplain.reader import ReaderOf, told_or_guessed
from mmexplain.surroundings import device_of, ordinary, require_ordinary, undisturbed
from mmexplain.taps import first_tensor

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_IDLE = ("Identity", "Dropout", "Dropout2d", "Dropout3d")


@dataclass(frozen=True)
class Unit:
    """A layer whose output is a grid of places.

    Attributes:
        name: as it is tapped: dotted, with ``@call`` for a module that runs more than once.
        kind: class of the module.
        grid: places of its map, ``(h, w)``, for a clip ``(t, h, w)``.
    """

    name: str
    kind: str
    grid: tuple[int, ...]


@dataclass(frozen=True)
class _Call:
    """One call of a module.

    Attributes:
        unit: its name and grid.
        module: what was called.
        path: dotted name.
        channels: of its map.
        cut: number of the cut that its output is, from the photo on; None where some of the flow passes beside it.
    """

    unit: Unit
    module: nn.Module
    path: str
    channels: int
    cut: int | None


class Network:
    """What one forward pass tells of a model's layers.

    Attributes:
        units: every call that put out a grid of more than one place, in the order in which they ended.
    """

    def __init__(self, calls: list[_Call], joins: list[bool], classes: int | None) -> None:
        self.units = [call.unit for call in calls]
        self._calls = calls
        self._joins = joins
        self._classes = classes

    def grid(self, layer: str) -> tuple[int, ...] | None:
        """The grid of a layer as :func:`~mmexplain.taps.resolve` writes it; of its last call without ``@call``."""
        for unit in reversed(self.units):
            if layer in (unit.name, unit.name.partition("@")[0]):
                return unit.grid
        return None

    def blocks(self) -> list[Unit]:
        """The repeated units: residual, inverted or dense blocks, Inception modules, transformer blocks; where there
        are none, each convolution with its normalisation and ReLU. Convolutions after the last block come last.

        A block is a module inside which the flow parts and joins again, while all that later layers see of the photo
        passes through its output. Modules of the same class, or of several layers at the same place of the numbering
        (``blocks.0.0`` where ``blocks.1.0`` is one), are blocks too: the first of a stage often has no skip connection.
        What runs beside a skip connection (the layers within a dense block) is not listed.

        Raises:
            LayerError: the photo never passes through any one layer.
        """
        return [call.unit for call in self._blocks()]

    def stages(self) -> list[Unit]:
        """The last block of each stage; a stage is a run of blocks with the same grid. Where a whole stage is a module,
        that module's name is given.

        Raises:
            LayerError: the photo never passes through any one layer.
        """
        blocks = self._blocks()
        ends = [
            number
            for number, block in enumerate(blocks)
            if number + 1 == len(blocks) or blocks[number + 1].unit.grid != block.unit.grid
        ]
        found = []
        for start, end in zip([0, *(number + 1 for number in ends)], ends, strict=False):
            last = blocks[end]
            outside = [block.path for block in (*blocks[:start], *blocks[end + 1 :])]
            same = [call for call in self._calls if call.cut == last.cut and _inside(last.path, call.path)]
            whole = [call for call in same if not any(_inside(path, call.path) for path in outside)]
            found.append((whole[-1] if whole else last).unit)
        return found

    def _blocks(self) -> list[_Call]:
        main = [call for call in self._calls if call.cut is not None]
        joined = self._joined(main)
        last = joined[-1].cut if len(joined) > 1 else -1
        after = [call for call in main if call.cut is not None and last is not None and call.cut > last]
        found = [*(joined if len(joined) > 1 else []), *self._convolutions(after)]
        if not found:
            raise LayerError(
                "the model has no blocks: no layer puts out a map that all of the photo passes through; name the layers"
            )
        return found

    def _joined(self, main: list[_Call]) -> list[_Call]:
        """Blocks in which the flow parts and joins, one for each cut."""
        at: dict[int, list[_Call]] = {}
        for call in main:
            assert call.cut is not None
            at.setdefault(call.cut, []).append(call)
        ends: list[_Call] = []
        before = -1
        for cut in sorted(at):
            if any(self._joins[before + 1 : cut + 1]):
                ends += [call for call in at[cut] if _composite(call.module)][:1]
            before = cut
        kinds = {type(call.module) for call in ends}
        places = {_place(call.path) for call in ends}
        found = [
            call
            for call in main
            if (_composite(call.module) and type(call.module) in kinds)
            or (_weighted(call.module) > 1 and _composite(call.module) and _place(call.path) in places)
        ]
        # A squeeze-and-excitation joins the flow as well, inside a block that has no skip connection.
        paths = {call.path for call in found}
        outer = [call for call in found if not any(_inside(call.path, path) for path in paths)]
        return list({call.cut: call for call in reversed(outer)}.values())[::-1]

    def _convolutions(self, main: list[_Call]) -> list[_Call]:
        """The last output of each convolution's stretch before the next, a pooling or another grid."""
        found: list[_Call] = []
        running = False
        for call in main:
            if isinstance(call.module, _CONVOLUTIONS):
                running = call.channels != self._classes
                found += [call] if running else []
            elif running and (call.unit.grid != found[-1].unit.grid or "pool" in call.unit.kind.lower()):
                running = False
            elif running and call.cut != found[-1].cut and call.unit.kind not in _IDLE and not _composite(call.module):
                found[-1] = call
        return found


def _composite(module: nn.Module) -> bool:
    """Whether a module is more than a layer and more than a list."""
    if isinstance(module, _WEIGHTED) or type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        return False
    return _weighted(module) > 0


def _weighted(module: nn.Module) -> int:
    return sum(isinstance(part, _WEIGHTED) for part in module.modules())


def _inside(path: str, outer: str) -> bool:
    return path.startswith(f"{outer}.")


def _place(path: str) -> str:
    return re.sub(r"\d+", "#", path)


def follow(
    model: nn.Module,
    run: Callable[[dict[str, Tensor]], Any],
    inputs: dict[str, Tensor],
    image: str,
    reader: ReaderOf | None = None,
) -> Network:
    """Run a model once, and find the layers through which all of the photo passes.

    They are the nodes of the autograd graph that lie on every path from the output to the photo; parameters and
    positions are no paths. One forward pass with a graph, no backward pass.

    Args:
        model: whose layers are looked at.
        run: inputs → output.
        inputs: of one photo or clip, ``[1, ...]``.
        image: name of the input that holds it.
        reader: how layers are read, where that is known (``Task.reader``).

    Raises:
        LayerError: the output does not depend on the photo by a graph.
        ModelError: a model made under ``torch.inference_mode()``.
    """
    require_ordinary(model)
    size = inputs[image].shape[2:]
    prefix = getattr(model, "num_prefix_tokens", None)
    seen: list[tuple[str, nn.Module, torch.Size, Any]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            value = first_tensor(output)
            if value is not None and value.grad_fn is not None:
                seen.append((name, module, value.shape, value.grad_fn))

        return hook

    with undisturbed(model, device_of(model)), torch.enable_grad():
        inputs = {name: ordinary(value) for name, value in inputs.items()}
        photo = inputs[image].detach().clone().requires_grad_()
        handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
        try:
            output = first_tensor(run({**inputs, image: photo}))
        finally:
            for handle in handles:
                handle.remove()
        # A leaf has no node of its own before something is made of it.
        view: Any = photo.view_as(photo)
        leaf = view.grad_fn.next_functions[0][0]
    joins = {} if output is None or output.grad_fn is None else _cuts(output.grad_fn, leaf)
    if not joins:
        raise LayerError("the model's output does not depend on the photo by a graph, so its blocks cannot be found")
    number = {node: count for count, node in enumerate(joins)}
    rows = len(output) if output is not None and output.ndim else None
    times = Counter(name for name, *_ in seen)
    past: Counter[str] = Counter()
    calls = []
    for name, module, shape, node in seen:
        found = told_or_guessed(reader, name, shape, size, prefix, rows)
        maps = tuple(found(torch.empty(shape, device="meta")).shape) if found else ()
        if math.prod(maps[-2:]) > 1:
            tapped = name if times[name] == 1 else f"{name}@{past[name]}"
            unit = Unit(tapped, type(module).__name__, maps[2:])
            calls.append(_Call(unit, module, name, maps[1], number.get(node)))
        past[name] += 1
    classes = output.shape[1] if output is not None and output.ndim == 2 else None
    return Network(calls, list(joins.values()), classes)


def _cuts(root: Any, leaf: Any) -> dict[Any, bool]:
    """Nodes on every path from ``root`` to ``leaf``, from the leaf on → whether several paths end in it.

    In topological order a node is a cut if no edge of a path passes over it.
    """
    order = _ordered(root)
    place = {node: number for number, node in enumerate(order)}
    leads = {leaf}
    for node in reversed(order):
        if any(parent in leads for parent, _ in node.next_functions):
            leads.add(node)
    cuts: dict[Any, bool] = {}
    farthest = 0
    for number, node in enumerate(order):
        if node in leads and node is not leaf:
            parents = [place[parent] for parent, _ in node.next_functions if parent in leads]
            if farthest <= number:
                cuts[node] = len(parents) > 1
            farthest = max(farthest, *parents)
    return dict(reversed(cuts.items())) if leaf in place else {}


def _ordered(root: Any) -> list[Any]:
    """The nodes of a graph, each before those that it was made from."""
    done: list[Any] = []
    seen = {root}
    stack = [(root, iter(root.next_functions))]
    while stack:
        node, parents = stack[-1]
        for parent, _ in parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append((parent, iter(parent.next_functions)))
                break
        else:
            done.append(node)
            stack.pop()
    return done[::-1]
