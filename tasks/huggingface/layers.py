"""Finding the blocks of a model: modules' names change between versions of transformers, their repetition does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from mmexplain.errors import LayerError
from mmexplain.reader import ReaderOf
from mmexplain.taps import suggest

VISION = ("vision_model", "vision_tower", "vision_encoder", "image_encoder", "visual", "encoder")
"""What the part of a model that sees the photo is called."""


def vision_part(model: nn.Module) -> str:
    """Dotted name of the part that sees the photo, the shortest there is; ``""`` for a model that does nothing else."""
    modules = dict(model.named_modules())
    named = [name for name in modules if name.rpartition(".")[2] in VISION and list(modules[name].children())]
    ranked = sorted(named, key=lambda name: (VISION.index(name.rpartition(".")[2]), name.count(".")))
    return ranked[0] if ranked else ""


def blocks(model: nn.Module, part: str = "") -> list[str]:
    """Dotted names of the repeated blocks of a part of a model, first to last: the longest ModuleList of modules of one
    class with parameters; of several the last.

    Args:
        model: whose blocks are looked for.
        part: dotted name of the part, :func:`vision_part` for instance; all of the model if empty.

    Raises:
        LayerError: there are none.
    """
    root = model.get_submodule(part)
    best: list[str] = []
    for name, module in root.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len({type(child) for child in module}) == 1:
            path = ".".join(filter(None, (part, name)))
            whole = next(module[0].parameters(), None) is not None and next(module[0].children(), None) is not None
            if whole and len(module) >= len(best):
                best = [f"{path}.{number}" for number in range(len(module))]
    if not best:
        raise LayerError(f"{type(model).__name__} has no repeated blocks{f' in {part!r}' if part else ''}")
    return best


def last_block(model: nn.Module, part: str = "", *, before_attention: bool = False) -> str:
    """Dotted name of the last block, whose output is what to explain where the model reads all of its tokens.

    Args:
        model: whose block is looked for.
        part: see :func:`blocks`.
        before_attention: the block's first normalisation instead, where the model reads only a class token: the
            other tokens that leave the last block have no say in anything.

    Raises:
        LayerError: no blocks, or none with a normalisation.
    """
    block = blocks(model, part)[-1]
    return _first_norm(model, block) if before_attention else block


def _first_norm(model: nn.Module, block: str) -> str:
    for name, module in model.get_submodule(block).named_modules():
        if "norm" in type(module).__name__.lower():
            return f"{block}.{name}"
    raise LayerError(f"block {block!r} has no normalisation before its attention")


def default_layer(
    model: nn.Module, run: Callable[[], Any], image: Sequence[int] | None = None, reader: ReaderOf | None = None
) -> str:
    """The layer to explain when the user names none: as :func:`mmexplain.taps.suggest` finds it, but where the tokens
    that leave the last block have no say, what enters its attention rather than what leaves the block before.

    Args:
        model: whose layers are looked at.
        run: calls the model and returns its output.
        image: ``(height, width)`` of the model's input, ``(frames, height, width)`` of a clip.
        reader: how layers are read.

    Raises:
        LayerError: nothing in the model puts out a grid.
    """
    found = suggest(model, run, image, reader)
    chain, _, number = found.rpartition(".")
    siblings = model.get_submodule(chain) if number.isdecimal() else None
    if not isinstance(siblings, nn.ModuleList):
        return _last_within(model, found)
    last = f"{chain}.{len(siblings) - 1}"
    return found if found == last else _first_norm(model, last)


def _last_within(model: nn.Module, container: str) -> str:
    """The last block of a transformer within a module that was found; the module itself where there is none."""
    try:
        last = blocks(model, container)[-1]
    except LayerError:
        return container
    attends = any("attention" in name or "attn" in name for name, _ in model.get_submodule(last).named_modules())
    return last if attends else container
